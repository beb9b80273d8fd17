"""Curves: what each method's answers cost and how good they are, problem by problem and answer by answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from isoflop.cost import Axis
from isoflop.frontier.estimate import Array
from isoflop.record import Record


@dataclass(frozen=True, eq=False)
class Curve:
    """One model and method on P problems over S steps, each problem's seeds averaged.

    Step s means: every problem stops after its s-th answer, or where it ended before that. A problem that has not yet
    answered counts as `no_answer`, and what it has spent counts in full. The point of a step is the mean over problems
    of both, which is what a run of many problems under one budget pays and gets.

    Args:
        model: specification of the model; empty in families that have none.
        method: the method with its hyper-parameters.
        keys: the P problems.
        steps: the S steps, counted from 0 as in records; in order of mean cost.
        cost: what each problem had cost by each step, per use ((P, S), in the axis' unit).
        quality: the score of its answer then (P, S).
        reached: share of problems that went on so far, at each step (S).
        no_answer: what a problem without an answer counts as.
    """

    model: str
    method: str
    keys: tuple[str, ...]
    steps: tuple[int, ...]
    cost: Array
    quality: Array
    reached: Array
    no_answer: float = 0.0

    @property
    def name(self) -> str:
        """Model and method."""
        return f"{self.model} {self.method}" if self.model else self.method

    @property
    def bound(self) -> bool:
        """Whether it chose its answers by their grade (`value=oracle`): what a perfect verifier would reach."""
        return "value=oracle" in self.method

    @property
    def known(self) -> bool:
        """Whether all its costs are known."""
        return not bool(np.isnan(self.cost).any())

    def on(self, keys: Sequence[str]) -> Curve:
        """The same curve on some of its problems."""
        place = {key: i for i, key in enumerate(self.keys)}
        rows = [place[key] for key in keys]
        return Curve(
            self.model,
            self.method,
            tuple(keys),
            self.steps,
            self.cost[rows],
            self.quality[rows],
            self.reached,
            self.no_answer,
        )

    def capped(self, limits: Array) -> Array:
        """Mean quality where every problem must stop before it costs more than a limit of its own: (G) to (G).

        This is stricter than a mean cost: a problem whose answers are long gets fewer of them.
        """
        found = np.full((len(self.keys), len(limits)), self.no_answer)
        for s in range(len(self.steps)):  # a later affordable answer replaces an earlier one
            found = np.where(self.cost[:, s, None] <= limits, self.quality[:, s, None], found)
        return found.mean(axis=0)


def curves(
    records: Iterable[Record], axis: Axis, uses: float = 1.0, split: str | None = None, no_answer: float = 0.0
) -> list[Curve]:
    """The curves in a set of records, one for each model and method, in order of appearance.

    A record with the same model, method, problem, seed and step as a later one is replaced by it, so the records of
    several runs can simply be put together. An answer that its grader could not judge is neither right nor wrong: the
    answer before it stands, the cost counts. A problem of which no answer could be judged is on no curve.

    Args:
        records: of one task.
        axis: what cost means.
        uses: how often what is paid once is used; per use it costs once / uses + per_use (memory: the larger one).
        split: `dev`, `test`, or None for both.
        no_answer: quality of a problem without an answer: 0 where quality is a share solved. NaN where 0 means nothing
            (losses): then a curve begins at the first step at which every problem has an answer.

    Raises:
        ValueError: records of more than one task, or `uses` not positive.
    """
    if not uses > 0:
        raise ValueError(f"uses={uses:g} must be positive")
    rows = [r for r in records if split is None or r.split == split]
    if len(tasks := sorted({r.task for r in rows})) > 1:
        raise ValueError(f"records of {len(tasks)} tasks cannot share a frontier: {', '.join(tasks)}; pick one")
    runs: dict[tuple[str, str], dict[str, dict[int, dict[int, Record]]]] = {}
    for r in rows:
        runs.setdefault((r.model, r.method), {}).setdefault(r.key, {}).setdefault(r.seed, {})[r.step] = r
    for problems in runs.values():
        for key, seeds in list(problems.items()):
            problems[key] = {seed: by_step for seed, by_step in seeds.items() if _judged(by_step.values())}
            if not problems[key]:
                del problems[key]
    made = (_curve(*name, problems, axis, uses, no_answer) for name, problems in runs.items() if problems)
    return [curve for curve in made if curve.steps]


def _judged(rows: Iterable[Record]) -> bool:
    rows = list(rows)
    return not any(r.unjudged for r in rows) or any(not math.isnan(r.quality) for r in rows)


def _curve(
    model: str,
    method: str,
    problems: dict[str, dict[int, dict[int, Record]]],
    axis: Axis,
    uses: float,
    no_answer: float,
) -> Curve:
    last = max(step for seeds in problems.values() for by_step in seeds.values() for step in by_step)
    shape = (len(problems), last + 1)
    cost, quality, reached = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for p, seeds in enumerate(problems.values()):
        for by_step in seeds.values():
            spent, good = 0.0, no_answer
            for s in range(last + 1):
                if (r := by_step.get(s)) is not None:
                    spent = _per_use(r, axis, uses)
                    good = good if math.isnan(r.quality) else r.quality
                    reached[p, s] += r.status == "ok"
                cost[p, s] += spent
                quality[p, s] += good
        for sums in (cost, quality, reached):
            sums[p] /= len(seeds)
    mean = cost.mean(axis=0)
    order = [s for s in np.argsort(mean, kind="stable") if not np.isnan(quality[:, s]).any()]
    return Curve(
        model,
        method,
        tuple(problems),
        tuple(int(s) for s in order),
        cost[:, order],
        quality[:, order],
        reached.mean(axis=0)[order],
        no_answer,
    )


def _per_use(record: Record, axis: Axis, uses: float) -> float:
    once, per_use = record.once[axis], record.per_use[axis]
    if axis == "peak_bytes":
        return math.nan if math.isnan(once) or math.isnan(per_use) else max(once, per_use)
    return once / uses + per_use
