"""The frontier: the best quality at each cost, and who gives it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from isoflop.cost import Axis
from isoflop.frontier.curve import Curve, curves
from isoflop.frontier.estimate import (
    Array,
    Difference,
    Estimate,
    Resamples,
    difference,
    estimate,
    intervals,
    proportion,
)
from isoflop.record import Record

_AREA_GRID = 256


class FrontierError(ValueError):
    """A frontier cannot be drawn from these records; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Band:
    """A curve's points with their intervals, all (S)."""

    cost: Array
    cost_low: Array
    cost_high: Array
    quality: Array
    low: Array
    high: Array


@dataclass(frozen=True, slots=True)
class Point:
    """One model and method, stopped after one of its answers.

    Args:
        model: specification of the model.
        method: the method with its hyper-parameters.
        step: which answer it stops after, counted from 0.
        cost: mean cost per problem and use (in the axis' unit).
        quality: mean quality.
    """

    model: str
    method: str
    step: int
    cost: Estimate
    quality: Estimate

    @property
    def name(self) -> str:
        """Model and method."""
        return f"{self.model} {self.method}" if self.model else self.method


class Frontier:
    """Curves of the same problems on one cost axis, and the points that no other beats at equal or lower cost.

    Intervals are of a paired bootstrap over problems. The frontier's own points are the best of many, so they flatter
    themselves a little (the winner's curse); `plan` gives an estimate that does not.

    Args:
        records: of one task.
        axis: what cost means.
        uses: how often what is paid once is used.
        split: `dev`, `test`, or None for both.
        no_answer: quality of a problem without an answer; see `curves`.
        draws: resamples of the problems (count).

    Attributes:
        curves: those whose cost is known, on the problems that all of them have tried.
        unknown: names of those whose cost on this axis nobody knows; they are not on the frontier.
        unanswered: names of those that never answered, as when the budget was spent before their turn; nor are they.
        left_out: problems that not all curves have tried, or have a judged answer of (count); they are on no curve.
        points: the frontier, cheapest first. Curves that chose by the grade itself are an upper bound and not on it,
            unless there are no others.

    Raises:
        FrontierError: no records or answers, no problem that all have tried, or a cost that is unknown or zero for all.
    """

    def __init__(
        self,
        records: Iterable[Record],
        axis: Axis = "tokens_out",
        uses: float = 1.0,
        split: str | None = None,
        no_answer: float = 0.0,
        draws: int = 1000,
    ) -> None:
        self.axis: Axis = axis
        self.uses, self.split, self.no_answer = uses, split, no_answer
        records = [r for r in records if split is None or r.split == split]
        found = curves(records, axis, uses, None, no_answer)
        if not found and records:
            raise FrontierError("no answer could be judged: the grader failed on all; see the status of the records")
        if not found:
            raise FrontierError(
                f"there are no records{f' of the split {split!r}' if split else ''}; run something first"
            )
        self.unknown = [c.name for c in found if not c.known]
        self.unanswered = [c.name for c in found if not c.reached.any()]
        found = [c for c in found if c.known and c.reached.any()]
        if not found and self.unknown:
            raise FrontierError(f"the cost in {axis} of {', '.join(self.unknown)} is unknown; use another axis")
        if not found:
            raise FrontierError(f"none of {', '.join(self.unanswered)} gave an answer; see the status of its records")
        tried = [set(c.keys) for c in found]
        by_all = set[str].intersection(*tried)
        keys = [key for key in found[0].keys if key in by_all]
        self.left_out = len({r.key for r in records}) - len(keys)
        if not keys:
            raise FrontierError(f"no problem was tried by all of {', '.join(c.name for c in found)}")
        self.curves = [c.on(keys) for c in found]
        self._free = [c for c in self.curves if not c.bound] or self.curves
        if not any(c.cost.any() for c in self.curves):
            raise FrontierError(f"nothing was spent in {axis}: there is no cost to compare at; use another axis")
        self._resamples = Resamples(len(keys), draws)
        self._resampled = {
            id(c): (self._resamples.means(c.cost), self._resamples.means(c.quality)) for c in self.curves
        }
        self.points = self._best()

    @property
    def problems(self) -> int:
        """How many problems every curve is a mean over."""
        return len(self.curves[0].keys)

    @property
    def dearest(self) -> float:
        """The highest mean cost of any curve that may be on the frontier."""
        return max(float(c.cost.mean(axis=0).max()) for c in self._free)

    def curve(self, method: str, model: str | None = None) -> Curve:
        """The curve of a method, and of a model where there are several.

        Raises:
            FrontierError: no such curve, or more than one.
        """
        found = [c for c in self.curves if c.method == method and model in (None, c.model)]
        if len(found) != 1:
            names = ", ".join(c.name for c in self.curves)
            raise FrontierError(f"{len(found)} curves fit method={method!r}, model={model!r}; there are: {names}")
        return found[0]

    def band(self, curve: Curve) -> Band:
        """The points of a curve with their intervals.

        Where all problems score 0, or all 1, resampling sees no doubt at all; there the interval is the exact one of a
        proportion.
        """
        costs, qualities = self._resampled[id(curve)]
        low, high = intervals(qualities)
        for s in range(len(curve.steps)):
            column = curve.quality[:, s]
            if np.all(column == column[0]) and column[0] in (0.0, 1.0):
                exact = proportion(round(float(column.sum())), len(column))
                low[s], high[s] = exact.low, exact.high
        return Band(curve.cost.mean(axis=0), *intervals(costs), curve.quality.mean(axis=0), low, high)

    def quality(self, curve: Curve, cost: float) -> Estimate:
        """Mean quality at a mean cost per problem, in between two points by sending a share of problems on."""
        at = np.array([cost])
        return estimate(self._at(curve, at)[0], self._resampled_at(curve, at)[:, 0])

    def difference(self, better: Curve, worse: Curve, cost: float) -> Difference:
        """How much more quality one curve has than another at equal cost, on the same problems."""
        at = np.array([cost])
        resampled = self._resampled_at(better, at) - self._resampled_at(worse, at)
        return difference(self._at(better, at)[0] - self._at(worse, at)[0], resampled[:, 0])

    def area(self, curve: Curve) -> Estimate:
        """Mean quality over log cost, from the cheapest point of all curves to the dearest.

        One number for a whole curve: the quality to expect where nobody knows the budget's order of magnitude.
        """
        ends = [c.cost.mean(axis=0) for c in self.curves]
        cheapest = min(float(e[e > 0].min(initial=np.inf)) for e in ends)
        grid: Array = np.geomspace(cheapest, max(float(e.max()) for e in ends), _AREA_GRID)
        return estimate(self._at(curve, grid).mean(), self._resampled_at(curve, grid).mean(axis=1))

    def at(self, cost: float) -> Point | None:
        """The best point that costs no more, or None where nothing is so cheap."""
        return next((p for p in reversed(self.points) if p.cost.value <= cost), None)

    def point(self, curve: Curve, step: int) -> Point:
        """A curve's point at a step, or where it has no such step, at the last one before."""
        before = [i for i, number in enumerate(curve.steps) if number <= step]
        return self._point(curve, self.band(curve), max(before, key=lambda i: curve.steps[i], default=0))

    def gain(self, better: Point, worse: Point) -> Difference:
        """How much more quality one point has than another, on the same problems, whatever they cost."""
        (curve_a, s), (curve_b, t) = self._place(better), self._place(worse)
        resampled = self._resampled[id(curve_a)][1][:, s] - self._resampled[id(curve_b)][1][:, t]
        return difference(float((curve_a.quality[:, s] - curve_b.quality[:, t]).mean()), resampled)

    def optimism(self, cost: float) -> float:
        """By how much the best point up to a mean cost flatters itself by having been chosen on these problems.

        In each resample the best is chosen anew; it is the mean of how much better that choice looks in the resample
        than on all problems (Harrell's optimism).
        """
        costs, qualities = (np.hstack([self._resampled[id(c)][i] for c in self._free]) for i in (0, 1))
        on_all = np.concatenate([c.quality.mean(axis=0) for c in self._free])
        affordable = np.where(costs <= cost, qualities, -np.inf)
        best = affordable.argmax(axis=1)
        gained = affordable[np.arange(len(best)), best] - on_all[best]
        return float(gained[np.isfinite(gained)].mean())

    def plot(self) -> Any:
        """A plotly figure: it shows itself in a notebook; `.show()` opens it in a browser, `.write_html` keeps it."""
        return importlib.import_module("isoflop.frontier.figure").figure(self)  # plotly: not needed by most

    def _best(self) -> list[Point]:
        bands = [(c, self.band(c)) for c in sorted(self._free, key=lambda c: len(c.steps))]  # of equals the simplest
        flat = [(b.cost[s], -b.quality[s], i, s) for i, (c, b) in enumerate(bands) for s in range(len(c.steps))]
        best, points = -np.inf, list[Point]()
        for _, loss, i, s in sorted(flat):
            if -loss > best:
                best = -loss
                points.append(self._point(*bands[i], s))
        return points

    def _place(self, point: Point) -> tuple[Curve, int]:
        curve = self.curve(point.method, point.model)
        return curve, curve.steps.index(point.step)

    def _point(self, curve: Curve, band: Band, s: int) -> Point:
        cost = Estimate(float(band.cost[s]), float(band.cost_low[s]), float(band.cost_high[s]))
        quality = Estimate(float(band.quality[s]), float(band.low[s]), float(band.high[s]))
        return Point(curve.model, curve.method, curve.steps[s], cost, quality)

    def _at(self, curve: Curve, at: Array) -> Array:
        return _interpolate(curve.cost.mean(axis=0)[None], curve.quality.mean(axis=0)[None], at, curve.no_answer)[0]

    def _resampled_at(self, curve: Curve, at: Array) -> Array:
        return _interpolate(*self._resampled[id(curve)], at, curve.no_answer)


def _interpolate(cost: Array, quality: Array, at: Array, before: float) -> Array:
    """Quality at costs `at` (G) along curves (B, S): `before` the first point, level after the last; (B, G)."""
    cost = np.maximum.accumulate(cost, axis=1)
    rows: list[Array] = [np.interp(at, x, y, left=before) for x, y in zip(cost, quality, strict=True)]
    return np.stack(rows)
