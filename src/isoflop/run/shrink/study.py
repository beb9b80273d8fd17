"""What a study of cheaper models found out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn

from isoflop.cost import Axis, Budget, Cost
from isoflop.frontier import Estimate, Frontier
from isoflop.frontier.estimate import Array, Resamples, estimate
from isoflop.method.shrink import Workload
from isoflop.record import Record
from isoflop.run.shrink.floor import Floor
from isoflop.run.shrink.kept import Bill, Candidate, Ended
from isoflop.run.shrink.measure import Measured
from isoflop.run.shrink.save import save
from isoflop.run.shrink.table import AXES_SHOWN, text

KEEP = "keep"


@dataclass(frozen=True)
class Asked:
    """What a study is asked.

    Args:
        floor: the least quality.
        uses: how often the model will be used; what a method costs once is shared by them.
        axis: what is to be as small as can be.
        budgets: of the whole study.
        seed: of the methods' own choices.
    """

    floor: Floor
    uses: float
    axis: Axis
    budgets: tuple[Budget, ...]
    seed: int = 0


@dataclass(frozen=True)
class Verdict:
    """What became of a finalist on the test examples.

    Args:
        candidate: which.
        margin: how far above the floor it lies there; it passed where `low` is not below 0.
        tail: probability that was allowed for `low` to lie above the truth.
        why: why it was not chosen; empty for the one that was.
    """

    candidate: Candidate
    margin: Estimate
    tail: float
    why: str


@dataclass(frozen=True)
class Technique:
    """One method, or several after one another, at the best of its steps.

    Args:
        name: the methods.
        candidate: the cheapest step that holds the floor on dev, else the one of highest quality; None without any.
        quality: of it, on dev.
        shares: of the original's cost per use, by axis.
        break_even: uses after which what it cost once is earned back on the study's axis.
        verdict: what is to be said of it.
    """

    name: str
    candidate: Candidate | None
    quality: Estimate | None
    shares: dict[Axis, Estimate]
    break_even: Estimate | None
    verdict: str


@dataclass(frozen=True)
class Best:
    """The cheapest model that holds the floor on the test examples; the original itself where nothing else does.

    Args:
        candidate: how it was made and what it does.
        workload: what it was made for.
    """

    candidate: Candidate
    workload: Workload

    @property
    def module(self) -> nn.Module:
        """The module."""
        return self.candidate.module()

    @property
    def name(self) -> str:
        """How it was made."""
        return self.candidate.name

    def save(self, folder: Path | str) -> Path:
        """Write the model and a README with the three lines that load it; see `isoflop.run.shrink.save.save`."""
        return save(self.module, self.workload, Path(folder), f"{self.candidate.name}: {self.candidate.note}")


@dataclass(frozen=True, eq=False)
class ShrinkStudy:
    """The candidates of a study, measured, and the one to use.

    Args:
        workload: what the model is for.
        asked: floor, uses, axis and budgets.
        original: the user's model as the first candidate.
        candidates: all others, in the order in which they were made.
        ended: how the work of each method ended.
        verdicts: what became of the finalists, in the order in which they were looked at.
        bill: what all of it has cost.
        folder: where it is kept.
        notices: what weakens the answer.
        margins: how far candidates lie above the floor on dev, by folder, as far as that has been worked out.
    """

    workload: Workload
    asked: Asked
    original: Candidate
    candidates: Sequence[Candidate]
    ended: Sequence[Ended]
    verdicts: Sequence[Verdict]
    bill: Bill
    folder: Path
    notices: tuple[str, ...] = ()
    margins: dict[Path, Estimate] = field(default_factory=dict[Path, Estimate], repr=False)

    def __str__(self) -> str:
        return text(self)

    @property
    def chosen(self) -> Candidate:
        """The one to use."""
        return next((v.candidate for v in self.verdicts if not v.why), self.original)

    @property
    def best(self) -> Best:
        """The one to use, to run or save."""
        return Best(self.chosen, self.workload)

    # Costs

    def per_use(self, candidate: Candidate) -> Cost:
        """What one use costs on average over the dev examples."""
        dev, latency = candidate.dev, candidate.latency
        base = self.original.latency
        return Cost(
            flops=float(dev.flops.mean()),
            bytes_moved=float(dev.bytes_moved.mean()),
            peak_bytes=float(dev.peak_bytes.max()),
            wall_s=latency.ratio.value * base.wall_s.value,
            joules=latency.joules,
        )

    def worst(self, candidate: Candidate) -> Cost:
        """What the dearest of the dev examples costs."""
        dev, latency = candidate.dev, candidate.latency
        most = [float(x.max()) for x in (dev.flops, dev.bytes_moved, dev.peak_bytes)]
        return Cost(*most, wall_s=latency.worst_s, joules=math.nan)

    def total(self, candidate: Candidate, axis: Axis | None = None) -> float:
        """What a use costs with its share of what was paid once; memory is that of a use alone."""
        axis = axis or self.asked.axis
        once = 0.0 if axis == "peak_bytes" else candidate.once[axis] / self.asked.uses
        return once + self.per_use(candidate)[axis]

    def share(self, candidate: Candidate, axis: Axis) -> Estimate:
        """The cost of a use as a share of the original's, with an interval over examples (of time: over rounds)."""
        if axis == "wall_s":
            return candidate.latency.ratio
        if axis == "joules":
            x = candidate.latency.joules / self.original.latency.joules
            return Estimate(x, x, x)
        mine: Array = getattr(candidate.dev, axis)
        base: Array = getattr(self.original.dev, axis)[: len(mine)]
        if axis == "peak_bytes":
            x = float(mine.max() / base.max())
            return Estimate(x, x, x)
        if np.isnan(mine).any():
            return Estimate(math.nan, math.nan, math.nan)
        resamples = Resamples(len(mine))
        ratios = resamples.means(mine) / resamples.means(base)
        return estimate(float(mine.mean() / base.mean()), ratios)

    def break_even(self, candidate: Candidate, axis: Axis | None = None) -> Estimate:
        """Uses after which what was paid once is earned back; infinite where nothing is saved."""
        axis = axis or self.asked.axis
        once, base, share = candidate.once[axis], self.per_use(self.original)[axis], self.share(candidate, axis)
        if axis == "peak_bytes":
            once = 0.0
        if once == 0:
            return Estimate(0.0, 0.0, 0.0)

        def uses(share: float) -> float:
            return once / (base * (1 - share)) if share < 1 else (math.nan if math.isnan(share) else math.inf)

        return Estimate(uses(share.value), uses(share.low), uses(share.high))

    # Quality

    def margin(self, candidate: Candidate) -> Estimate:
        """How far above the floor it lies on dev."""
        if candidate.folder not in self.margins:
            dev = candidate.dev.scores
            found = self.asked.floor.margin(self.workload, dev, self.original.dev.scores[: len(dev)])
            self.margins[candidate.folder] = found
        return self.margins[candidate.folder]

    def quality(self, measured: Measured) -> Estimate:
        """The workload's figure, with an interval over examples."""
        scores = measured.scores
        if not np.isfinite(scores).all():
            return Estimate(math.nan, math.nan, math.nan)
        rng = np.random.default_rng(0)
        draws = [self.workload.quality(scores[rng.integers(len(scores), size=len(scores))]) for _ in range(1000)]
        return estimate(self.workload.quality(scores), np.array(draws))

    def holds(self, candidate: Candidate) -> bool:
        """Whether it is shown to hold the floor on dev."""
        return self.whole(candidate) and self.margin(candidate).low >= 0

    def whole(self, candidate: Candidate) -> bool:
        """Whether all dev examples were looked at."""
        return len(candidate.dev) == len(self.original.dev)

    # What to say

    @cached_property
    def techniques(self) -> list[Technique]:
        """A row for each method and combination, the original first, then by cost."""
        by_path: dict[tuple[str, ...], list[Candidate]] = {}
        for c in self.candidates:
            by_path.setdefault(c.path, []).append(c)
        ended = {e.path: e.status for e in self.ended}
        rows = [self._technique(path, by_path.get(path, []), ended.get(path, "ok")) for path in {**by_path, **ended}]
        first = self._technique((KEEP,), [self.original], "ok")
        return [first, *sorted(rows, key=self._rank)]

    def _rank(self, row: Technique) -> tuple[int, float]:
        if row.candidate is None:
            return 2, 0.0
        return (0 if self.holds(row.candidate) else 1), self.total(row.candidate)

    def _technique(self, path: tuple[str, ...], steps: list[Candidate], status: str) -> Technique:
        name = " then ".join(path)
        if not steps:
            return Technique(name, None, None, {}, None, status)
        held = [c for c in steps if self.holds(c)]
        chosen = next((c for c in steps if c is self.chosen), None)
        best = min(held, key=self.total) if held else max(steps, key=lambda c: self.margin(c).value)
        c = chosen or best
        return Technique(
            name,
            c,
            self.quality(c.dev),
            {axis: self.share(c, axis) for axis in AXES_SHOWN},
            self.break_even(c),
            self._words(c, status),
        )

    def _words(self, c: Candidate, status: str) -> str:
        if c is self.chosen:
            return "chosen" if c is not self.original else "do nothing"
        if c is self.original:
            return "holds"
        on_test = next((v.why for v in self.verdicts if v.candidate is c), "")
        if on_test:
            said = on_test
        elif self.holds(c):
            dear = self.total(c) >= self.total(self.original)
            said = "holds, but is not cheaper" if dear else "holds; another is cheaper"
        elif self.margin(c).value >= 0:
            said = "not shown to hold"
        else:
            said = "below the floor"
        return said if status.startswith(("ok", "stopped")) else f"{said}; then {status}"

    @cached_property
    def orders(self) -> list[str]:
        """Where the same methods were applied in several orders, which of them won."""
        by_set: dict[frozenset[str], list[tuple[str, ...]]] = {}
        for c in self.candidates:
            if len(c.path) > 1:
                paths = by_set.setdefault(frozenset(w.partition("@")[0] for w in c.path), [])
                if c.path not in paths:
                    paths.append(c.path)
        said: list[str] = []
        for paths in by_set.values():
            orders = {tuple(w.partition("@")[0] for w in p) for p in paths}
            if len(orders) < 2:
                continue
            best = {o: self._cheapest_in(o) for o in orders}
            known = sorted((cost, o) for o, cost in best.items() if cost is not None)
            lost = [" then ".join(o) for o in orders if best[o] is None]
            if not known:
                said.append(f"order: none of {', '.join(lost)} holds the floor")
            else:
                (cost, first), *rest = known
                others = [f"{' then '.join(o)} ({c / cost:.2f}x its cost)" for c, o in rest]
                others += [f"{name} (below the floor)" for name in lost]
                said.append(f"order: {' then '.join(first)} won over {', '.join(others)}")
        return said

    def _cheapest_in(self, order: tuple[str, ...]) -> float | None:
        found = [
            self.total(c)
            for c in self.candidates
            if tuple(w.partition("@")[0] for w in c.path) == order and self.holds(c)
        ]
        return min(found, default=None)

    # Rows for everything that works on rows

    @cached_property
    def records(self) -> list[Record]:
        """A row for each candidate and example; dev for all that were looked at in full, test for the finalists too."""
        rows: list[Record] = []
        for c in (self.original, *self.candidates):
            if not self.whole(c):
                continue
            for split, measured in (("dev", c.dev), ("test", c.test)):
                if measured is not None:
                    rows += self._rows(c, split, measured)
        return rows

    def _rows(self, c: Candidate, split: str, measured: Measured) -> list[Record]:
        mean = self.per_use(c)
        return [
            Record(
                model="",
                method=c.method,
                task=self.workload.name,
                key=f"{split}-{i}",
                split=split,
                seed=self.asked.seed,
                step=c.step,
                once=c.once,
                per_use=replace(measured.cost(i), wall_s=mean.wall_s, joules=mean.joules),
                quality=float(measured.scores[i]),
                answer=c.note,
            )
            for i in range(len(measured))
        ]

    @cached_property
    def frontier(self) -> Frontier:
        """Quality against cost per use with its share of what was paid once, on dev and the study's axis."""
        return self.frontier_on(self.asked.axis)

    def frontier_on(self, axis: Axis) -> Frontier:
        """The frontier on another axis; of memory that of a use, as what is done once can be done elsewhere."""
        rows = [r for r in self.records if r.split == "dev"]
        if axis == "peak_bytes":
            rows = [replace(r, once=replace(r.once, peak_bytes=0.0)) for r in rows]
        return Frontier(rows, axis, self.asked.uses, no_answer=math.nan)
