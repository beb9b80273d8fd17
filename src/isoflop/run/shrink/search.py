"""The search for the cheapest model that holds the floor: which method is tried next, and when it is enough."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from isoflop.cost import FREE, Budget, BudgetExhausted, Cost, Meter
from isoflop.frontier import Estimate
from isoflop.method.shrink import Data, Original, Refused, ShrinkMethod, Shrunk, Workload, WorkloadError
from isoflop.run.shrink.floor import TAIL
from isoflop.run.shrink.kept import THEN, Bill, Candidate, Ended, Kept
from isoflop.run.shrink.latency import Latency, latencies
from isoflop.run.shrink.measure import measure
from isoflop.run.shrink.study import KEEP, Asked, ShrinkStudy, Verdict

_SEARCHED, _PROBED, _COMBINED = 0.85, 0.3, 0.35
"""Shares: of the budget for the search; of that for the first look at all, and what is kept for combinations."""
_TWICE = 2.0
"""What a method is known to need is a lower bound: it is given so many times that, or its part."""
_SCREENED = 64
_SURE = 0.005
"""Probability of throwing out, on a few dev examples, a model that holds the floor."""
_DEEPEST, _STARTS, _FINALISTS, _TRIED, _KILLED = 3, 2, 5, 8, 2
_WORTH = 0.98
"""A combination is tried where its predicted cost is below this share of the best so far."""
_TIMED, _ROUNDS, _QUICK_S, _FINAL_S = 32, 3, 3.0, 20.0
"""Latency: on so many examples, as some models spend more on some of them; in so many rounds at least; seconds."""
_TESTS, _MOST_RESERVED = 3, 0.5
_FEW = 20
"""Examples below which intervals are known to be too narrow."""


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    Args:
        stage: what it is doing as a whole.
        doing: which method, or what.
        ended: methods and combinations whose work has ended (count).
        of: those known so far (count).
        holding: candidates that hold the floor on dev (count).
        best: the cheapest of them, and its share of the original's cost; empty without one.
        spent: of the whole study.
        left_s: at most how long it will take yet (seconds); NaN where nobody knows.
    """

    stage: str
    doing: str
    ended: int
    of: int
    holding: int
    best: str
    spent: Cost
    left_s: float


Watch = Callable[[Standing], None]


class _Stopwatch:
    """Seconds spent inside it: of a method's own work, or of looking at what it yielded."""

    def __init__(self) -> None:
        self._total, self._since = 0.0, math.nan

    def __call__(self) -> float:
        return self._total if math.isnan(self._since) else self._total + time.perf_counter() - self._since

    def __enter__(self) -> None:
        self._since = time.perf_counter()

    def __exit__(self, *failure: object) -> None:
        self._total, self._since = self(), math.nan


class Search:
    """One study, from the first measurement to the verdict.

    Methods are tried alone first, all of them on a small share of the budget, so that cheap ones end; those that need
    more are tried again, the cheapest first. Then methods are applied to what others yielded, the most promising pair
    first and in both orders. The rest of the budget goes to what was left out. Of all that hold the floor on dev the
    cheapest are timed beside each other and looked at on test, one after the other, until one holds it there.

    Args:
        module: the user's, in evaluation mode.
        workload: what it is for.
        asked: floor, uses, axis, budgets.
        methods: to try.
        kept: where everything is kept.
        watch: told how far it is.
    """

    def __init__(
        self,
        module: nn.Module,
        workload: Workload,
        asked: Asked,
        methods: Sequence[ShrinkMethod],
        kept: Kept,
        watch: Watch | None = None,
    ) -> None:
        self.module, self.workload, self.asked = module, workload, asked
        self._methods: Mapping[str, ShrinkMethod] = {str(m): m for m in methods}
        self._kept, self._watch = kept, watch
        earlier, started = kept.bill(), time.perf_counter()

        def clock() -> float:
            return earlier.clock_s + time.perf_counter() - started

        self._clock = clock
        self._all = Meter(asked.budgets, clock=clock)
        for role, cost in earlier.by_role.items():
            self._all.charge(cost, role)
        self._meter = self._all
        self._margins: dict[Path, Estimate] = {}
        self._ended: dict[tuple[str, ...], Ended] = {}
        self._candidates: list[Candidate] = []
        few = min(len(workload.dev), len(workload.test))
        self._notices = [f"only {few} examples: the intervals are too narrow"] if few < _FEW else []
        self._stage = "measuring the original"

    def run(self) -> ShrinkStudy:
        """Search until everything worth trying was tried or the budget is spent.

        Raises:
            WorkloadError: the original misses the floor, or cannot be measured.
            BudgetExhausted: the budget does not even allow to measure the original.
        """
        try:
            self._original = self._keep()
            self._meter = self._searching()
            self._alone()
            self._combine()
            self._leftovers()
            return self._conclude()
        finally:
            self._save_bill()

    # The original

    def _keep(self) -> Candidate:
        found = self._kept.of((KEEP,))
        if found:
            original = found[0]
        else:
            dev = measure(self.module, self.workload, self.workload.dev, self._all)
            (once,) = latencies([self.module], self._uses.rows(slice(0, 1)), at_most_s=0)
            (quick,) = self._timed([self.module], _QUICK_S, once.wall_s.value)
            original = self._kept.add(Candidate((KEEP,), 0, "as it was", FREE, dev, quick), self.module)
            self._save_bill()
        floor, has = self.asked.floor, self.workload.quality(original.dev.scores)
        if has == 0 and floor.relative:
            raise WorkloadError(
                f"{self.workload.name}: the original's quality on dev is 0, so a share of it means nothing; "
                f"give the floor as a quality"
            )
        if has < floor.of(has):
            raise WorkloadError(
                f"{self.workload.name}: the original itself misses the floor: it has {has:.4g} on dev, asked are "
                f"{floor.of(has):.4g}; lower the floor, or bring a better model"
            )
        return original

    def _searching(self) -> Meter:
        """What the search may spend: all but what timing and testing some finalists will take."""
        before = self._all.spent
        self._tested(self._original)
        after, budgets = self._all.spent, list[Budget]()
        for b in self.asked.budgets:
            test = after[b.axis] - before[b.axis]
            timing = _FINAL_S if b.axis == "wall_s" else 0.0
            reserve = min(max((1 - _SEARCHED) * b.limit, _TESTS * test + timing), _MOST_RESERVED * b.limit)
            spent = 0.0 if b.axis == "wall_s" else after[b.axis]  # time is the clock's, which counts from the start
            budgets.append(Budget(b.axis, max(b.limit - reserve - spent, 1e-9)))
        return Meter(budgets, self._all, self._clock)

    # Methods alone

    def _alone(self) -> None:
        self._stage = "methods alone"
        new = [name for name in self._methods if not self._resumed((name,))]
        share = _PROBED if len(self._methods) > 1 else 1.0
        for i, name in enumerate(new):
            self._try((name,), self._original, self._part(share / (len(new) - i)))
            share *= 1 - 1 / (len(new) - i)
        self._offer(leave=_COMBINED if len(self._methods) > 1 else 0.0)

    def _offer(self, leave: float) -> None:
        """Give those that were cut off twice an equal part of what is left, or twice what they need if that is more.

        Those that need least come first, and what they leave goes to the next: a budget that is too small for all of
        them makes some of them whole, and not none. The last one is offered all that is left. What needs more than
        that is not begun again.

        Args:
            leave: share of what is left now that is not to be given away yet.
        """
        back = self._part(leave)
        had_all: set[tuple[str, ...]] = set()
        while True:
            room = self._part(1.0, back)
            needs = {e.path: _share(e.needs, room) for e in self._ended.values() if e.path not in had_all}
            waiting = {path: share for path, share in needs.items() if share <= 1}
            if not waiting:
                return
            path = min(waiting, key=lambda p: waiting[p])
            part = min(_TWICE * max(1 / len(waiting), waiting[path]), 1.0)
            had_all |= {path} if part == 1 else set()
            self._try(path, self._base(path), self._part(part, back))

    def _resumed(self, path: tuple[str, ...]) -> bool:
        """Whether an earlier process has tried this, for a floor that makes no difference.

        To its end, or until its budget was spent: then what it needs is known, and it waits until there is as much.
        """
        ended, found = self._kept.ended(path), self._kept.of(path)
        if ended is None or (ended.status.startswith("skipped") and ended.needs is None):
            return False
        lost = [c for c in found if not c.has_module and self._margin(c).high >= 0]
        stopped_short = ended.status.startswith("stopped") and found and self._margin(found[-1]).value >= 0
        if lost or stopped_short:
            self._kept.forget(path)
            return False
        self._candidates += found
        self._ended[path] = ended
        return True

    # Combinations

    def _combine(self) -> None:
        self._stage = "combinations"
        while (option := self._option()) is not None:
            path, base = option
            if not self._resumed(path):
                if not self._affordable() and self._kept.ended(path) is None:
                    break
                self._try(path, base, self._part(1 / 3))

    def _option(self) -> tuple[tuple[str, ...], Candidate] | None:
        """The most promising combination not tried yet, as if shares of cost multiplied and losses of quality added.

        Combinations of two and of more take turns: the more methods, the more promising they look, and the fewer hold.
        """
        study, axis = self._study(), self.asked.axis
        held = [c for c in self._candidates if study.holds(c)]
        whole, above = study.per_use(self._original)[axis], study.margin(self._original).value
        best = min(study.per_use(c)[axis] for c in (self._original, *held))
        alone = {
            name: [(above - study.margin(c).value, study.per_use(c)[axis] / whole) for c in held if c.path == (name,)]
            for name in self._methods
        }
        tried = Counter(_words(path) for path in self._ended)
        both = {_labels(path) for path in self._ended if len(path) == 2}
        options: list[tuple[float, tuple[str, ...], Candidate]] = []
        for base in (c for c in held if len(c.path) < _DEEPEST):
            path = (*base.path[:-1], f"{base.path[-1]}@{base.step}")
            for name, steps in alone.items():
                new, fits = (*path, name), [share for loss, share in steps if loss <= study.margin(base).value]
                times, labels = tried[_words(new)], _labels(new)
                if not fits or new in self._ended or len(labels) < len(new) or times == _STARTS:
                    continue
                predicted = study.per_use(base)[axis] * min(fits)
                if predicted < _WORTH * best or (not times and labels in both):
                    options.append((predicted, new, base))
        if not options:
            return None
        turns = Counter(map(len, self._ended))
        _, path, base = min(options, key=lambda o: (turns[len(o[1])], o[0], o[1]))
        return path, base

    def _leftovers(self) -> None:
        """What was skipped for want of budget gets what is left."""
        self._stage = "what was left out"
        self._offer(leave=0.0)

    # One method on one module

    def _try(self, path: tuple[str, ...], base: Candidate, budgets: Sequence[Budget]) -> None:
        """Follow a method's curve until it ends, falls below the floor or has spent its share."""
        self._tell(THEN.join(path))
        self._candidates = [c for c in self._candidates if c.path != path]
        if not self._affordable():
            self._end(path, "skipped: the budget was spent before its turn")
            return
        if self._kept.begin(path) >= _KILLED:
            self._end(path, f"failed: the process ended {_KILLED} times while it worked (killed, or out of memory)")
            return
        status, needs, start = "ok", None, self._start(path, base)
        watch, looked = _Stopwatch(), _Stopwatch()
        share = Meter(budgets, self._meter, lambda: watch() + looked())
        meter = Meter(parent=share, clock=watch)
        try:
            status = self._follow(path, base, start, (meter, watch), (share, looked))
        except Refused as why:
            status = f"refused: {why}"
        except BudgetExhausted as exhausted:
            kept = self._start(path, base).once[exhausted.axis] - start.once[exhausted.axis]
            status, needs = _cut_off(exhausted, meter.spent[exhausted.axis] - kept, budgets)
        except (KeyboardInterrupt, SystemExit):
            self._kept.give_up(path)
            raise
        except Exception as error:  # whatever a method or a module of a user raises, the study goes on
            status = f"failed: {_why(error)}"
        self._end(path, status, needs)

    def _start(self, path: tuple[str, ...], base: Candidate) -> Candidate:
        """What a method starts from: the last of its own models if it `continues` and all of them are there."""
        found = self._kept.of(path) if self._methods[path[-1]].continues else []
        return found[-1] if found and all(c.has_module for c in found) else base

    def _follow(
        self,
        path: tuple[str, ...],
        base: Candidate,
        start: Candidate,
        own: tuple[Meter, _Stopwatch],
        looking: tuple[Meter, _Stopwatch],
    ) -> str:
        """Its own meter makes its once-cost; a look at what it yields is part of its share, but is never cut off by it,
        as all that was paid to make it would be lost."""
        method, module = self._methods[path[-1]], base.module()
        module.eval()
        (meter, watch), (share, looked) = own, looking
        known, first, begun = {c.step: c for c in self._kept.of(path)}, 0, None
        if start.path == path:
            first, begun = start.step + 1, start.module()
            self._candidates += known.values()
        problem = Original(module, self.workload, meter, self.module, begun)
        below = 0
        for step, shrunk in enumerate(_stepping(method, problem, meter, self.asked.seed, watch), first):
            new = Candidate(path, step, shrunk.note, start.once.then(meter.spent))
            look = Meter(parent=self._meter)
            with looked:
                candidate = known.get(step) or self._look(new, shrunk.module, look)
            share.charge(look.spent, "verify", shared=True)
            self._candidates.append(candidate)
            self._save_bill()
            self._tell(THEN.join(path))
            margin = self._margin(candidate)
            below = below + 1 if margin.value < 0 else 0
            if margin.high < 0 or below == 2:
                return f"stopped: below the floor from step {step + 1 - below} on"
        return "ok"

    def _look(self, candidate: Candidate, module: nn.Module, meter: Meter) -> Candidate:
        """Measure what a method yielded: a few dev examples first, all where these leave hope."""
        dev, original = self.workload.dev, self._original.dev.scores
        few = min(_SCREENED, max(len(dev) // 4, 1))
        found = measure(module, self.workload, dev.rows(slice(0, few)), meter)
        hope = self.asked.floor.margin(self.workload, found.scores, original[:few], _SURE).high >= 0
        if hope and few < len(dev):
            found = found.then(measure(module, self.workload, dev.rows(slice(few, len(dev))), meter))
        candidate = replace(candidate, dev=found)
        if self._margin(candidate).high < 0:
            return self._kept.add(candidate, None)  # not worth the time and the disk
        quick = self._timed([self.module, module], _QUICK_S, self._original.quick.wall_s.value)[1]
        return self._kept.add(replace(candidate, quick=quick), module)

    def _timed(self, modules: Sequence[nn.Module], at_most_s: float, once_s: float) -> list[Latency]:
        """Beside each other, on as many examples as there is time for if all take what the original takes."""
        many = max(int(at_most_s / (_ROUNDS * once_s * len(modules))), 1)
        return latencies(modules, self._uses.spread(min(many, _TIMED)), at_most_s=at_most_s)

    @property
    def _uses(self) -> Data:
        return self.workload.use or self.workload.dev

    # The verdict

    def _conclude(self) -> ShrinkStudy:
        """Time the cheapest beside each other and look at them on test, until one holds or too many have failed."""
        self._stage = "verifying on test"
        study = self._study()
        most = study.total(self._original)
        waiting = sorted((c for c in self._candidates if study.holds(c) and study.total(c) < most), key=study.total)
        verdicts: list[Verdict] = []
        try:
            self._tested(self._original)
            while waiting and all(v.why for v in verdicts) and len(verdicts) < _TRIED:
                finalists, waiting = waiting[:_FINALISTS], waiting[_FINALISTS:]
                self._verify(self._finals(finalists), verdicts)
                waiting = [c for c in waiting if not self._hopeless(c, verdicts)]
        except BudgetExhausted as exhausted:
            self._notices.append(f"the budget ended before all finalists were verified on test ({exhausted})")
            if all(v.why for v in verdicts):  # those that were looked at for another floor or axis cost nothing more
                seen = {v.candidate.folder for v in verdicts}
                kept = [c for c in self._candidates if c.test and c.folder not in seen and study.holds(c)]
                self._verify(sorted(kept, key=study.total), verdicts)
        return replace(self._study(), verdicts=tuple(verdicts), notices=tuple(self._notices))

    def _finals(self, finalists: list[Candidate]) -> list[Candidate]:
        """Time the finalists beside the original, all in the same rounds; in order of cost."""
        todo = [self._original, *finalists]
        if any(c.final is None for c in todo):
            self._tell("timing the finalists")
            self._all.admit(FREE).release()
            modules = [self.module, *(c.module() for c in finalists)]
            at_most_s, once_s = min(_FINAL_S, self._all.left("wall_s") / 3), self._original.quick.wall_s.value
            for c, found in zip(todo, self._timed(modules, at_most_s, once_s), strict=True):
                self._replace(c, self._kept.add_final(c, found))
            self._save_bill()
        trouble = self._original.latency.trouble
        if trouble and self.asked.axis in ("wall_s", "joules"):
            self._notices.append(f"latency is unreliable: {trouble}")
        names = {c.folder for c in finalists}
        return sorted((c for c in self._candidates if c.folder in names), key=self._study().total)

    def _verify(self, finalists: Sequence[Candidate], verdicts: list[Verdict]) -> None:
        """One after the other on test; the k-th may err with 1/k(k+1) of the allowed probability, so all share it."""
        base = self._original.test
        assert base is not None
        for candidate in finalists:
            passed = not all(v.why for v in verdicts)
            if not passed and self._hopeless(candidate, verdicts):
                continue
            tried = 1 + sum(bool(v.why) for v in verdicts)
            tail = TAIL / (tried * (tried + 1))
            c = self._tested(candidate)
            assert c.test is not None
            margin = self.asked.floor.margin(self.workload, c.test.scores, base.scores, tail)
            why = self._why_not(c, margin) or ("holds; another is cheaper" if passed else "")
            verdicts.append(Verdict(c, margin, tail, why))

    def _hopeless(self, c: Candidate, verdicts: Sequence[Verdict]) -> bool:
        """Whether one has failed on test that was further above the floor on dev, or as far and of the same methods."""
        low, failed = self._margin(c).low, [v.candidate for v in verdicts if v.why.startswith("fails")]
        tops = [(self._margin(f).low, f) for f in failed]
        return any(low < top or (low == top and _labels(f.path) <= _labels(c.path)) for top, f in tops)

    def _why_not(self, c: Candidate, margin: Estimate) -> str:
        study, axis = self._study(), self.asked.axis
        if margin.low < 0:
            return f"fails on test: margin {margin}"
        if study.total(c) >= study.total(self._original):
            return "holds, but is not cheaper"
        if axis == "wall_s" and c.latency.ratio.high >= 1:
            return f"holds, but is not shown to be faster ({c.latency.ratio} of the original's time)"
        return ""

    def _tested(self, c: Candidate) -> Candidate:
        """A candidate with what it does on test."""
        if c.test is not None:
            return c
        self._tell(f"{c.name} on test")
        found = measure(c.module(), self.workload, self.workload.test, self._all)
        tested = self._kept.add_test(c, found)
        self._replace(c, tested)
        self._save_bill()
        return tested

    # Bookkeeping

    def _replace(self, old: Candidate, new: Candidate) -> None:
        if old.folder == self._original.folder:
            self._original = new
        self._candidates = [new if c.folder == old.folder else c for c in self._candidates]

    def _study(self) -> ShrinkStudy:
        return ShrinkStudy(
            self.workload,
            self.asked,
            self._original,
            tuple(self._candidates),
            tuple(self._ended.values()),
            (),
            Bill(self._clock(), self._all.by_role),
            self._kept.folder,
            margins=self._margins,
        )

    def _margin(self, c: Candidate) -> Estimate:
        if c.folder == Path():  # not kept yet
            scores = c.dev.scores
            return self.asked.floor.margin(self.workload, scores, self._original.dev.scores[: len(scores)])
        return self._study().margin(c)

    def _base(self, path: tuple[str, ...]) -> Candidate:
        if len(path) == 1:
            return self._original
        *before, last = path[:-1]
        name, _, step = last.rpartition("@")
        return next(c for c in self._candidates if c.path == (*before, name) and c.step == int(step))

    def _part(self, share: float, back: Sequence[Budget] = ()) -> list[Budget]:
        """A share of what the search may still spend, less what is kept back; memory is given back, so never shared."""
        kept = {b.axis: b.limit for b in back}
        return [
            b if b.axis == "peak_bytes" else replace(b, limit=max(share * (left - kept.get(b.axis, 0.0)), 1e-9))
            for b, left in ((b, self._meter.left(b.axis)) for b in self._meter.budgets)
        ]

    def _affordable(self) -> bool:
        return all(self._meter.left(b.axis) > 0 for b in self.asked.budgets)

    def _end(self, path: tuple[str, ...], status: str, needs: Budget | None = None) -> None:
        self._ended[path] = self._kept.end(Ended(path, status, needs))
        seen = {c.step for c in self._candidates if c.path == path}
        self._candidates += [c for c in self._kept.of(path) if c.step not in seen]  # paid for by an earlier try
        self._save_bill()

    def _save_bill(self) -> None:
        self._kept.write_bill(Bill(self._clock(), self._all.by_role))

    def _tell(self, doing: str) -> None:
        if self._watch is None:
            return
        study = self._study()
        held = [c for c in self._candidates if study.holds(c)]
        best = min(held, key=study.total, default=None)
        axis = self.asked.axis
        words = "" if best is None else f"{best.name} at {study.share(best, axis).value:.2f}x {axis}"
        todo = [n for n in self._methods if (n,) not in self._ended]
        self._watch(
            Standing(
                self._stage,
                doing,
                len(self._ended),
                len(self._ended) + len(todo),
                len(held),
                words,
                self._all.spent,
                self._all.left("wall_s"),
            )
        )


def _cut_off(exhausted: BudgetExhausted, spent: float, budgets: Sequence[Budget]) -> tuple[str, Budget | None]:
    """What to say of a method whose budget ended, and what it needs at least; looks at its steps are paid and kept.

    Args:
        exhausted: by what was asked beyond its budget.
        spent: what it has spent on that axis and would spend again.
        budgets: its share.
    """
    axis = exhausted.axis
    if math.isnan(exhausted.asked):
        return f"failed: what it would cost on {axis} is not known, so no budget of it can be kept", None
    needs = Budget(axis, exhausted.asked + (0.0 if axis == "peak_bytes" else spent))
    share = min(b.limit for b in budgets if b.axis == axis)
    return f"skipped: needs {axis}={needs.limit:.4g} or more, its share was {share:.4g}", needs


def _share(needs: Budget | None, room: Sequence[Budget]) -> float:
    """What a method needs as a share of what there is; infinite where it waits for nothing."""
    return math.inf if needs is None else max(needs.limit / b.limit for b in room if b.axis == needs.axis)


def _stepping(method: ShrinkMethod, problem: Original, meter: Meter, seed: int, watch: _Stopwatch) -> Iterator[Shrunk]:
    """What a method yields, its own time running only while it works."""
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
    running = method.run(problem, meter, np.random.default_rng(seed))
    while True:
        with watch:
            shrunk = next(running, None)
        if shrunk is None:
            return
        shrunk.module.eval()
        yield shrunk


def _words(path: Sequence[str]) -> tuple[str, ...]:
    """The methods of a path without the steps."""
    return tuple(word.partition("@")[0] for word in path)


def _labels(path: Sequence[str]) -> frozenset[str]:
    """The methods of a path without steps and fields."""
    return frozenset(word.partition("(")[0] for word in _words(path))


def _why(error: Exception) -> str:
    words = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "allocate memory" in words or "not enough memory" in words:
        return f"out of memory ({words or 'MemoryError'})"
    return f"{type(error).__name__}: {words}"
