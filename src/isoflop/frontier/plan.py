"""The plan: what to run on a budget, and what to expect of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from isoflop.cost import Budget
from isoflop.frontier.coverage import Coverage, coverage
from isoflop.frontier.estimate import Difference, Estimate
from isoflop.frontier.frontier import Frontier, FrontierError, Point
from isoflop.record import Graded, Record

TENFOLD = 10.0
NOT_SHOWN = 0.05
"""p-value above which a difference counts as not shown."""
FEW = 20
"""Problems below which percentile intervals are known to be too narrow (count)."""
_FEWEST, _MOST = 1e-3, 1e12


@dataclass(frozen=True)
class Tenfold:
    """What ten times the budget buys.

    Args:
        quality: expected mean quality.
        how: `measured` or `coverage law`.
        bound: it is what ten times the samples would hold for a perfect verifier to find, not what the choice would.
    """

    quality: Estimate
    how: str
    bound: bool = False


@dataclass(frozen=True)
class Plan:
    """What to run on a budget, and what to expect.

    Args:
        budget: the most a problem may cost on average, per use.
        uses: how often what is paid once is used.
        choice: what to run and where to stop it, with cost and quality as measured on problems that had no part in the
            choice, or corrected for it where there were none.
        answers: how many answers the chosen method gave at most, so `choice.step + 1` of so many (count).
        hard: quality where the budget is a limit for each problem, not for their mean: each stops before it costs more.
        chosen: quality on the problems it was chosen by, which flatters it.
        chosen_on: the split it was chosen on, or `all` where there are not both.
        checked_on: the split it was measured on, or `all`.
        cheaper: the cheapest point of the frontier that is not shown to be worse (p > 0.05) on the problems that the
            choice was made by.
        gain: how much better the choice is than the cheapest point of all, on the problems it was measured on.
        tenfold: what ten times the budget buys, where anything tells.
        warnings: what weakens the plan.
    """

    budget: Budget
    uses: float
    choice: Point
    answers: int
    hard: float
    chosen: Estimate
    chosen_on: str
    checked_on: str
    cheaper: Point | None
    gain: Difference
    tenfold: Tenfold | None
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        where = "" if self.answers == 1 else f", stopped after answer {self.choice.step + 1} of {self.answers}"
        lines = [
            f"run {self.choice.name}{where}",
            f"expect quality {self.choice.quality} at {self.choice.cost.value:.4g} {self.budget.axis} per use "
            f"(chosen on {self.chosen_on}, measured on {self.checked_on})",
        ]
        lines.append(f"expect {self.hard:.3f} if no single problem may cost more than the budget")
        if self.tenfold:
            most = " at most" if self.tenfold.bound else ""
            lines.append(f"ten times the budget: quality{most} {self.tenfold.quality} ({self.tenfold.how})")
        return "\n".join([*lines, *(f"warning: {w}" for w in self.warnings)])


def plan(
    records: Sequence[Record],
    budget: Budget,
    uses: float = 1.0,
    graded: Sequence[Graded] = (),
    no_answer: float = 0.0,
    draws: int = 1000,
) -> Plan:
    """What to run when a problem may cost `budget` on average.

    The best point of many is also the luckiest (the winner's curse). So the choice is made on the `dev` problems and
    its quality measured on the `test` problems. Where a split is missing, the optimism of choosing and measuring on the
    same problems is estimated by doing both in each bootstrap resample (Harrell's correction) and taken off.

    Args:
        records: of one task.
        budget: the most a problem may cost on average, per use.
        uses: how often what is paid once is used.
        graded: counts of right samples, from which the coverage law tells what ten times the budget buys.
        no_answer: quality of a problem without an answer; see `curves`.
        draws: resamples of the problems (count).

    Raises:
        FrontierError: no frontier can be drawn on the budget's axis, or nothing is so cheap.
    """
    held_out = {"dev", "test"} <= {r.split for r in records}
    splits = ("dev", "test") if held_out else (None,)
    fronts = [Frontier(records, budget.axis, uses, split, no_answer, draws) for split in splits]
    return plan_from(fronts, budget, coverage(graded, splits[-1], draws))


def plan_from(fronts: Sequence[Frontier], budget: Budget, found: Sequence[Coverage] = ()) -> Plan:
    """`plan` from frontiers that are there already.

    Args:
        fronts: that of the problems to choose by and that of the problems to measure on; one alone serves as both.
        budget: the most a problem may cost on average, per use.
        found: coverage, from which ten times the budget can be forecast.

    Raises:
        FrontierError: nothing is so cheap.
    """
    first, last = fronts[0], fronts[-1]
    chosen = _best(first, budget.limit)
    choice = _checked(fronts, chosen, budget.limit)
    curve = last.curve(choice.method, choice.model)
    return Plan(
        budget=budget,
        uses=last.uses,
        choice=choice,
        answers=max(curve.steps) + 1,
        hard=float(curve.capped(np.array([budget.limit]))[0]),
        chosen=chosen.quality,
        chosen_on=first.split or "all",
        checked_on=last.split or "all",
        cheaper=_cheaper(first, chosen),
        gain=last.gain(choice, min(last.points, key=lambda p: p.cost.value)),
        tenfold=_tenfold(fronts, choice, budget.limit, found),
        warnings=(*_warnings(fronts, choice, budget),),
    )


def _best(front: Frontier, limit: float) -> Point:
    if (best := front.at(limit)) is None:
        raise FrontierError(
            f"nothing fits {limit:g} {front.axis} a problem: the cheapest, {front.points[0].name}, "
            f"costs {front.points[0].cost.value:.4g}"
        )
    return best


def _checked(fronts: Sequence[Frontier], chosen: Point, limit: float) -> Point:
    """The point as measured where it was not chosen, or freed of the optimism of having been."""
    if len(fronts) == 2:
        curve = fronts[1].curve(chosen.method, chosen.model)
        return fronts[1].point(curve, chosen.step)
    off, q = fronts[0].optimism(limit), chosen.quality
    return replace(chosen, quality=Estimate(q.value - off, q.low - off, q.high - off))


def _cheaper(front: Frontier, chosen: Point) -> Point | None:
    rivals = (p for p in front.points if p.cost.value < chosen.cost.value)
    return next((p for p in rivals if front.gain(chosen, p).p > NOT_SHOWN), None)


def _tenfold(fronts: Sequence[Frontier], choice: Point, limit: float, found: Sequence[Coverage]) -> Tenfold | None:
    first = fronts[0]
    if first.dearest >= TENFOLD * limit:
        return Tenfold(_checked(fronts, _best(first, TENFOLD * limit), TENFOLD * limit).quality, "measured")
    of_model = next((c for c in found if c.model == choice.model and c.law), None)
    if of_model is None:
        return None
    if fronts[-1].curve(choice.method, choice.model).bound:  # its curve is coverage itself
        bound, samples = False, _samples(of_model, choice.quality.value)
    else:
        bound = True
        single = next((c for c in fronts[-1].curves if (c.model, c.method) == (choice.model, "single")), None)
        samples = None if single is None else choice.cost.value / float(single.cost.mean())
    expected = None if samples is None else of_model.forecast(TENFOLD * samples)
    return None if expected is None else Tenfold(expected, "coverage law", bound)


def _samples(measured: Coverage, quality: float) -> float | None:
    """At how many samples the law has this coverage; None where it never has."""
    law = measured.law
    if law is None or not float(law(_FEWEST)) < quality < float(law(_MOST)):
        return None
    return math.exp(brentq(lambda log_k: float(law(math.exp(log_k))) - quality, math.log(_FEWEST), math.log(_MOST)))


def _warnings(fronts: Sequence[Frontier], choice: Point, budget: Budget) -> Iterator[str]:
    last = fronts[-1]
    if len(fronts) == 1:
        yield (
            "the choice was made and measured on the same problems, as there are not both a dev and a test split; "
            "the optimism of that is estimated and taken off"
        )
    if choice.cost.value > budget.limit:
        yield f"measured, it costs {choice.cost.value:.4g} {budget.axis} a problem: over the budget"
    if last.unknown:
        yield f"not considered, as its cost in {budget.axis} is unknown: {', '.join(last.unknown)}"
    if last.left_out:
        yield f"{last.left_out} problems are left out, as not everything was tried on them"
    if last.problems < FEW:
        yield f"only {last.problems} problems: the intervals are too narrow"
    curve = last.curve(choice.method, choice.model)
    if curve.bound:
        yield "it chooses answers by their grade (value=oracle): an upper bound, unless answers can be checked in use"
    if (answered := float(curve.reached.max())) < 1:
        yield f"it answered only {answered:.0%} of the problems; the rest failed or came after the budget was spent"
