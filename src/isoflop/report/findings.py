"""What a study says, once, for every form that it is shown in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from isoflop.cost import Axis, Budget, Role, in_sequence
from isoflop.frontier import (
    Coverage,
    Curve,
    Difference,
    Difficulty,
    Estimate,
    Frontier,
    FrontierError,
    Plan,
    Point,
    coverage,
    difficulty,
    plan_from,
)
from isoflop.frontier.plan import NOT_SHOWN
from isoflop.frontier.words import amount, cost, interval, points, quality
from isoflop.method.search.pool import Pool
from isoflop.record import LedgerRow, Record
from isoflop.run import Study, read_method

SHOWN_AXES: tuple[Axis, ...] = ("flops", "tokens_out", "wall_s", "joules", "usd")
_PLANS = 5
_LONGEST_NAME = 32


@dataclass(frozen=True)
class Summary:
    """One curve in one row.

    Args:
        curve: whose.
        last: its last point.
        area: its mean quality over log cost.
        gain: against the baseline at the cost of the last point, paired; None for the baseline itself.
    """

    curve: Curve
    last: Point
    area: Estimate
    gain: Difference | None


@dataclass(frozen=True)
class Once:
    """A point against asking the same model once.

    Args:
        quality: of asking once.
        gain: of the point over it, paired.
        times: how many times its cost the point has.
    """

    quality: float
    gain: Difference
    times: float


@dataclass(frozen=True)
class Spent:
    """A budget and what became of it (in its axis' unit)."""

    budget: Budget
    spent: float
    overshoot: float


@dataclass(frozen=True)
class Trouble:
    """Rows that share a status other than `ok`."""

    status: str
    model: str
    method: str
    keys: tuple[str, ...]


class Findings:
    """The numbers of a study and the sentences that they make.

    Where there are both splits, curves, coverage and expectations are of `test`, and the plan's choices are made on
    `dev`; otherwise all are of all problems.

    Args:
        study: what to tell about.
        axis: what cost means; the axis of the first budget unless given, or the first that is known.
        frontiers: those of the same study that are there already.

    Raises:
        FrontierError: `axis` is given and no frontier can be drawn on it.
    """

    def __init__(
        self, study: Study, axis: Axis | None = None, frontiers: dict[Axis, Frontier | str] | None = None
    ) -> None:
        self.study = study
        splits = {r.split for r in study.records}
        self.split = "test" if {"dev", "test"} <= splits else None
        self._frontiers: dict[Axis, Frontier | str] = {} if frontiers is None else frontiers
        if axis is not None:
            self.axis: Axis = axis
            if isinstance(why := self.on(axis), str):
                raise FrontierError(why)
        else:
            asked: list[Axis] = [b.budget.axis for b in self.budgets]
            order: list[Axis] = [*asked, "tokens_out", *SHOWN_AXES]
            known: list[Axis] = [a for a in order if isinstance(self.on(a), Frontier)]
            self.axis = (known or order)[0]

    # Numbers

    def of(self, axis: Axis) -> Findings:
        """The same study on another axis."""
        return self if axis == self.axis else Findings(self.study, axis, self._frontiers)

    def on(self, axis: Axis) -> Frontier | str:
        """The frontier on an axis, or why there is none."""
        if axis not in self._frontiers:
            try:
                self._frontiers[axis] = Frontier(self.study.records, axis, split=self.split)
            except FrontierError as error:
                self._frontiers[axis] = str(error)
        return self._frontiers[axis]

    @property
    def frontier(self) -> Frontier | None:
        """The frontier on the axis of choice, if one can be drawn."""
        found = self.on(self.axis)
        return found if isinstance(found, Frontier) else None

    @cached_property
    def share(self) -> bool:
        """Whether quality is a share of problems solved."""
        return all(0 <= r.quality <= 1 for r in self.study.records if not math.isnan(r.quality))

    @cached_property
    def budgets(self) -> list[Spent]:
        """The run's budgets."""
        words = cast("list[str]", self.study.info.config.get("budgets", []))
        spent = cast("dict[str, float | None]", self.study.info.outcome.get("spent", {}))
        over = cast("dict[str, float]", self.study.info.outcome.get("overshoot", {}))
        budgets = [Budget.parse(w) for w in words]
        return [Spent(b, _number(spent.get(b.axis)), _number(over.get(b.axis))) for b in budgets]

    @cached_property
    def coverage(self) -> list[Coverage]:
        """Coverage of each model."""
        return coverage(self.study.graded, self.split)

    @cached_property
    def coverage_caveat(self) -> str:
        """Why coverage may be wrong here; empty if nothing speaks against it."""
        config = self.study.info.config
        allocate = cast("dict[str, Any]", config.get("allocate", {})).get("name", "uniform")
        methods = cast("list[dict[str, Any]]", config.get("methods", []))
        stopping = [m for m in methods if cast("dict[str, Any]", m.get("stop", {})).get("name", "never") != "never"]
        if allocate != "uniform":
            return f"samples were handed out by {allocate}, which looks at answers, so that these shares are too high"
        if stopping:
            return "a method stopped early when it was sure of its answers, so that these shares may be too high"
        return ""

    @cached_property
    def difficulty(self) -> list[Difficulty]:
        """Each problem's success probability, for each model, hardest first."""
        return difficulty(self.study.graded)

    @cached_property
    def summaries(self) -> list[Summary]:
        """A row for each curve, the best last point first."""
        front = self.frontier
        if front is None:
            return []
        found: list[Summary] = []
        for c in front.curves:
            base = self.baseline(c.model)
            last = front.point(c, max(c.steps))
            gain = None if base is None or base is c else front.difference(c, base, last.cost.value)
            found.append(Summary(c, last, front.area(c), gain))
        return sorted(found, key=lambda s: -s.last.quality.value)

    def baseline(self, model: str) -> Curve | None:
        """The curve of asking this model once."""
        front = self.frontier
        return (
            None
            if front is None
            else next((c for c in front.curves if c.model == model and c.method == "single"), None)
        )

    def once(self, point: Point) -> Once | None:
        """A point against asking its model once; None where that is what it is, or nobody asked once."""
        front, base = self.frontier, self.baseline(point.model)
        if front is None or base is None or point.method == base.method:
            return None
        least = front.point(base, 0)
        return Once(least.quality.value, front.gain(point, least), point.cost.value / least.cost.value)

    @cached_property
    def plans(self) -> list[Plan]:
        """Plans at budgets from the cheapest point to the dearest, a factor of the same size apart; no two alike."""
        front = self.frontier
        if front is None:
            return []
        least, most = front.points[0].cost.value, front.points[-1].cost.value
        found: list[Plan] = []
        try:
            fronts = [Frontier(self.study.records, self.axis, split="dev"), front] if self.split else [front]
        except FrontierError:
            return []
        for limit in np.geomspace(max(least, 1e-12) * 1.1, most * 1.1, _PLANS):
            budget = Budget(self.axis, _round_up(float(limit)))
            try:
                made = plan_from(fronts, budget, self.coverage)
            except FrontierError:
                continue  # cheap enough on the test problems but not on those that it is chosen by
            if not found or (made.choice.name, made.choice.step) != (found[-1].choice.name, found[-1].choice.step):
                found.append(made)
        return found

    @cached_property
    def troubles(self) -> list[Trouble]:
        """What failed or was skipped, by status, model and method."""
        groups: dict[tuple[str, str, str], list[str]] = {}
        for r in self.study.records:
            if r.status != "ok":
                groups.setdefault((r.status, r.model, r.method), []).append(r.key)
        return [Trouble(*group, tuple(keys)) for group, keys in groups.items()]

    @cached_property
    def roles(self) -> dict[Role, LedgerRow]:
        """The ledger by role, over all models and methods."""
        groups: dict[Role, list[LedgerRow]] = {}
        for row in self.study.ledger:
            groups.setdefault(row.role, []).append(row)
        return {role: _sum(rows) for role, rows in groups.items()}

    def answers(self, point: Point) -> dict[str, Record]:
        """The answers that a point stands for, by problem; of the first seed where there are several."""
        found: dict[str, Record] = {}
        for r in self.study.records:
            if (r.model, r.method) == (point.model, point.method) and r.status == "ok" and r.step <= point.step:
                before = found.get(r.key)
                if before is None or (r.seed == before.seed and r.step > before.step):
                    found[r.key] = r
        return found

    # Words

    @property
    def headline(self) -> list[str]:
        """What a reader should take away, in plain sentences, the most important first."""
        if not self.plans:
            why = self.on(self.axis)
            return [why if isinstance(why, str) else "Nothing was measured on the problems that choices are made by."]
        best = self.plans[-1]
        choice, front = best.choice, self.frontier
        assert front is not None
        found = f"{quality(choice.quality.value, self.share)} [{interval(choice.quality, self.share)}]"
        problems = f"{front.problems} {self.split or ''} problems".replace("  ", " ")
        does = f"solves {found} of the {problems}" if self.share else f"reaches a quality of {found} on {problems}"
        said = [f"{self.name(choice)} {does} for {cost(choice.cost.value, self.axis)} each."]
        if (once := self.once(choice)) is not None:
            unit = " points" if self.share else ""
            said.append(
                f"That is {points(once.gain.estimate, self.share)}{unit} over asking the same model once "
                f"({quality(once.quality, self.share)}), for {once.times:.3g} times the cost"
                f"{'' if once.gain.p <= NOT_SHOWN else '; so small a gain may be chance'}."
            )
        if best.cheaper is not None:
            said.append(
                f"{self.name(best.cheaper)} costs {best.cheaper.cost.value / best.choice.cost.value:.0%} of that and "
                f"is not shown to be worse."
            )
        same = [c for c in front.curves if c.bound and c.model == choice.model and c.method != choice.method]
        for c in same[:1]:
            reached = quality(front.point(c, max(c.steps)).quality.value, self.share)
            said.append(
                f"A perfect verifier would reach {reached} ({c.method}): a bound, since it looks at the grades."
            )
        if (more := best.tenfold) is not None:
            how = "could buy at most" if more.bound else "would buy"
            said.append(
                f"Ten times the budget {how} {quality(more.quality.value, self.share)} "
                f"[{interval(more.quality, self.share)}] ({more.how})."
            )
        return said

    def name(self, point: Point) -> str:
        """What to run to get a point: the method cut to where it stops and, where there are several, the model."""
        return self.named(self.command(point), point.model)

    def model(self, name: str) -> str:
        """A model's name, shortened if that leaves it distinct."""
        return self._short.get(name, name)

    def named(self, method: str, model: str) -> str:
        """A method and, where there are several, the model."""
        return f"{method} on {self.model(model)}" if len(self._short) > 1 else method

    @cached_property
    def models(self) -> list[str]:
        """The models, in order of appearance."""
        rows = (*self.study.records, *self.study.graded, *self.study.ledger)
        return list(dict.fromkeys(row.model for row in rows))

    @cached_property
    def _last_step(self) -> dict[tuple[str, str], int]:
        last: dict[tuple[str, str], int] = {}
        for r in self.study.records:
            last[r.model, r.method] = max(r.step, last.get((r.model, r.method), 0))
        return last

    @cached_property
    def _short(self) -> dict[str, str]:
        names = self.models
        short = [n if len(n) <= _LONGEST_NAME else f"{n[: _LONGEST_NAME - 1]}…" for n in names]
        return dict(zip(names, short if len(set(short)) == len(short) else names, strict=True))

    def command(self, point: Point) -> str:
        """The method that ends where the point stops; in words where no hyper-parameter says that."""
        if point.step >= self._last_step.get((point.model, point.method), 0):
            return point.method
        try:
            method = read_method(point.method)
        except ValueError:
            method = None
        if isinstance(method, Pool):
            return str(replace(method, n=min(method.n, (point.step + 1) * method.batch)))
        return f"{point.method}, stopped after answer {point.step + 1}"

    @property
    def notices(self) -> list[str]:
        """What limits all of the above."""
        info, front = self.study.info, self.frontier
        said: list[str] = []
        if info.status != "done":
            said.append(f"The run is not complete: {info.status}.")
        said += [
            f"The budget {b.budget} was exceeded by {amount(b.overshoot)}, by what was in flight when it ran out."
            for b in self.budgets
            if b.overshoot > 0
        ]
        if faults := info.outcome.get("grader_faults"):
            said.append(f"A grader failed {faults} times, on samples that count neither as right nor as wrong.")
            said.append(f"The grader said: {info.outcome['grader_said']}.")
        if front is not None:
            if front.unknown:
                said.append(f"Not on the frontier, cost in {self.axis} unknown: {', '.join(front.unknown)}.")
            if front.unanswered:
                said.append(f"Never answered: {', '.join(front.unanswered)}.")
            if front.left_out:
                said.append(
                    f"{front.left_out} problems are left out, as not everything was tried, or could be judged, on them."
                )
        said += [f"The plan: {w}." for w in (self.plans[-1].warnings if self.plans else ())]
        return said


def _sum(rows: Sequence[LedgerRow]) -> LedgerRow:
    return LedgerRow(
        "",
        "",
        rows[0].role,
        sum(r.samples for r in rows),
        sum(r.shared for r in rows),
        sum(r.replayed for r in rows),
        in_sequence(r.charged for r in rows),
        in_sequence(r.budgeted for r in rows),
        in_sequence(r.paid for r in rows),
    )


def _number(x: float | None) -> float:
    return math.nan if x is None else float(x)


def _round_up(x: float) -> float:
    """To two digits: a budget that people would write."""
    unit = 10 ** (math.floor(math.log10(x)) - 1)
    return math.ceil(x / unit) * unit
