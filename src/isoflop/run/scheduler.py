"""Advances many methods on many problems at once, under one budget, in an order that timing does not change.

Every method on every problem is an `Arm`: a generator in a greenlet of its own, so that a synchronous method can wait
for its model while others go on, in one thread. A method's call is admitted, sent, and put in a queue; calls are
answered in the order of that queue, however they arrive. So what an allocator knows at each decision, and with it every
record of the run, depends on the question asked and not on the network: a run that was killed is simply run again, and
finds in the store all that it had paid for.

The price of that order: while the oldest call hangs, only `lookahead` times as many samples are under way as the model
works on at a time.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from greenlet import getcurrent, greenlet

from isoflop.cost import FREE, Axis, BudgetExhausted, Cost, Hold, Meter, Role
from isoflop.method.base import Method, Task
from isoflop.method.search.problem import problem_seed
from isoflop.model.base import LM, FinishReason, ModelError, Request, Sample, settle
from isoflop.record import UNJUDGED, Record, Store, StoredSample, StoreError, Use
from isoflop.run.allocate.base import Allocator, Progress, Seen

GIVE_UP_AFTER = 8
"""Calls in a row that fail before a run stops and keeps the rest of its budget (count)."""
WRITE_EVERY_S = 0.002
"""The least time between two transactions (seconds): busy, each holds some samples; idle, none waits."""
RETRY_WRITE_S = 1.0
"""How long to wait before writing to a full disk again (seconds)."""


@dataclass(slots=True, eq=False)
class Call:
    """One request of one method, from the question to the answer.

    Args:
        arm: who asked.
        lm: the model asked.
        request: what was asked.
        role: what for.
        meter: who pays.
    """

    arm: Arm
    lm: LM
    request: Request
    role: Role
    meter: Meter
    index: int = 0
    keys: list[bytes] = field(default_factory=list[bytes])
    shared: list[bool] = field(default_factory=list[bool])
    samples: list[Sample | None] = field(default_factory=list[Sample | None])
    missing: int = 0
    hold: Hold | None = None
    error: ModelError | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, slot: int, sample: Sample) -> None:
        """Fill one slot."""
        self.samples[slot] = sample
        self.missing -= 1
        if not self.missing:
            self.done.set()

    def fail(self, error: ModelError) -> None:
        """Give up on the slots that are still empty."""
        self.error = error
        self.done.set()


@dataclass(slots=True, eq=False)
class Arm:
    """One method at work on one problem.

    Args:
        task: where the problem comes from.
        method: what works on it.
        key: the problem.
        meter: what it spends, inside the run's meter.
        peers: the same method and model over all problems.
    """

    task: Task[Any, Any]
    method: Method[Any, Any]
    key: str
    split: str
    meter: Meter
    peers: Seen
    label: str = ""
    problem: Any = None
    stepper: greenlet | None = None
    steps: int = 0
    confidence: float = math.nan
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is.

    Args:
        run: its identifier.
        arms: methods times problems (count).
        ended: those that are through (count).
        samples: samples delivered (count).
        replayed: those of them that were in the store before (count).
        in_flight: samples asked for and not delivered (count).
        spent: what the budget saw.
        trouble: what is in the way at the moment, empty if nothing.
        stopping: why it asks for no more and only awaits what is in flight; empty while it goes on.
    """

    run: str
    arms: int
    ended: int
    samples: int
    replayed: int
    in_flight: int
    spent: Cost
    trouble: str
    stopping: str


class Stopped(Exception):  # noqa: N818 - an outcome, not a fault
    """The run ended before its work was done; the message says why. Everything paid for is kept."""


class Scheduler:
    """Runs arms under one meter until they end or the budget does.

    Args:
        run: the run's identifier.
        store: where samples are kept before anyone sees them.
        meter: the run's meter, with the budgets.
        allocator: who goes next.
        seed: the run's seed.
        lookahead: samples under way, as a multiple of what the model works on at a time.
    """

    def __init__(self, run: str, store: Store, meter: Meter, allocator: Allocator, seed: int, lookahead: float) -> None:
        self.run, self.store, self.meter, self.allocator = run, store, meter, allocator
        self.seed, self.lookahead = seed, lookahead
        self.arms: list[Arm] = []
        self.records: list[Record] = []
        self.uses: list[Use] = []
        self.replayed = 0
        self.trouble = ""
        self.stop_reason = ""
        self.on_yield: Callable[[int, Arm, Any], None] = lambda record, arm, answer: None
        self._axis: Axis | None = meter.budgets[0].axis if meter.budgets else None
        self._ready: list[tuple[float, int]] = []
        self._queue: deque[Call] = deque()
        self._blocked: list[Call] = []
        self._outstanding = 0
        self._window = 1.0
        self._used: set[bytes] = set()
        self._waiting: dict[bytes, list[tuple[Call, int]]] = {}
        self._unsaved: list[tuple[StoredSample, Sample]] = []
        self._flush_due = False
        self._flushed_at = 0.0
        self._spoilt: dict[bytes, StoredSample] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0

    def add(self, task: Task[Any, Any], method: Method[Any, Any], key: str, split: str, peers: Seen) -> None:
        """Put one method to work on one problem."""
        arm = Arm(task, method, key, split, Meter(parent=self.meter), peers, str(method))
        self.arms.append(arm)
        self._requeue(len(self.arms) - 1)

    def snapshot(self) -> Snapshot:
        """How far the run is."""
        ended = sum(bool(arm.ended) for arm in self.arms)
        return Snapshot(
            self.run,
            len(self.arms),
            ended,
            len(self.uses),
            self.replayed,
            self._outstanding,
            self.meter.spent,
            self.trouble,
            self.stop_reason,
        )

    def stop(self, why: str) -> None:
        """Ask for no more; what is under way is still awaited, kept and charged."""
        self.stop_reason = self.stop_reason or why

    async def drive(self) -> None:
        """Work until all arms have ended.

        Raises:
            Stopped: `stop` was called, or the model failed for good.
        """
        while not self.stop_reason:
            while self._ready and not self._blocked and self._outstanding < self._window:
                _, index = heapq.heappop(self._ready)
                self._advance(index)
            if not self._queue:
                return
            await self._deliver()
        await self._drain()
        raise Stopped(self.stop_reason)

    # One arm, up to its next call or answer

    def _advance(self, index: int, send: Sequence[Sample] | Exception | None = None) -> None:
        arm = self.arms[index]
        try:
            if arm.stepper is None:
                arm.stepper = greenlet(self._work)
                out = arm.stepper.switch(arm)
            elif isinstance(send, Exception):
                out = arm.stepper.throw(send)
            else:
                out = arm.stepper.switch(send)
        except BudgetExhausted as refused:
            self._end(arm, f"skipped: the budget {refused.axis}={refused.limit:g} was used up")
        except ModelError as error:
            self._end(arm, f"failed: {error}")
        except Exception as error:  # a method's own fault must not cost the others what they have paid for
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._end(arm, f"failed: {type(error).__name__}: {error} ({where.name}, line {where.lineno})")
        else:
            if isinstance(out, Call):
                self._issue(index, out)
            elif out is None:
                self._end(arm, "done")
            else:
                self._note(arm, out[0])
                self._requeue(index)

    def _work(self, arm: Arm) -> None:
        """Runs inside the arm's greenlet: hands every call and every answer to the scheduler."""

        def ask(lm: LM, request: Request, role: Role, meter: Meter) -> Sequence[Sample]:
            parent = getcurrent().parent
            assert parent is not None
            return parent.switch(Call(arm, lm, request, role, meter))

        arm.problem = arm.task.open(arm.key, arm.meter, ask, self.seed)
        rng = np.random.default_rng(problem_seed(self.seed, arm.task.name, arm.key))
        answers: Iterator[Any] = arm.method.run(arm.problem, arm.meter, rng)
        for answer in answers:
            parent = getcurrent().parent
            assert parent is not None
            parent.switch((answer,))

    def _note(self, arm: Arm, answer: Any) -> None:
        text, arm.confidence = arm.task.describe(answer)
        why = arm.task.unjudged(arm.problem, answer)
        self.records.append(self._record(arm, f"{UNJUDGED}{why}" if why else "ok", text))
        arm.steps += 1
        self.on_yield(len(self.records) - 1, arm, answer)

    def _end(self, arm: Arm, how: str) -> None:
        arm.ended = how
        arm.stepper = None
        if how.startswith("failed") or (how.startswith("skipped") and not arm.steps):
            self.records.append(self._record(arm, how, ""))

    def _record(self, arm: Arm, status: str, text: str) -> Record:
        return Record(
            arm.task.model,
            arm.label,
            arm.task.name,
            arm.key,
            arm.split,
            self.seed,
            arm.steps,
            FREE,
            arm.meter.spent,
            math.nan,
            status,
            text,
            arm.confidence,
        )

    def _requeue(self, index: int) -> None:
        arm = self.arms[index]
        spent = arm.meter.spent[self._axis] if self._axis else float(arm.steps)
        rank = self.allocator.rank(Progress(arm.steps, spent, arm.confidence, arm.peers))
        if rank is None:
            self._end(arm, "done: sure")
        else:
            heapq.heappush(self._ready, (rank, index))

    # One call, from the question to the answer

    def _issue(self, index: int, call: Call) -> None:
        call.index = index
        call.keys = call.request.sample_keys(call.lm.digest)
        call.shared = [key in self._used for key in call.keys]
        if not self._admit(call):
            return
        call.samples = [None] * len(call.keys)
        call.missing = len(call.keys)
        self._used.update(call.keys)
        self._queue.append(call)
        self._outstanding += len(call.keys)
        self._window = max(self._window, self.lookahead * call.lm.concurrency)
        found = self.store.get_samples([key for key in call.keys if key not in self._waiting])
        kept = {key: sample for key, sample in found.items() if sample.finish_reason != "error"}
        self._spoilt.update((key, found[key]) for key in found.keys() - kept.keys())
        to_draw: list[int] = []
        for slot, key in enumerate(call.keys):
            if key in kept:
                call.put(slot, _thaw(kept[key]))
                self.replayed += kept[key].run != self.run
            elif key in self._waiting:
                self._waiting[key].append((call, slot))
            else:
                self._waiting[key] = [(call, slot)]
                to_draw.append(slot)
        if to_draw:
            task = asyncio.get_running_loop().create_task(self._draw(call, to_draw))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _admit(self, call: Call) -> bool:
        """Reserve what `call` may spend; False if that has to wait for calls under way, or was refused."""
        fresh = tuple(seed for seed, shared in zip(call.request.seeds, call.shared, strict=True) if not shared)
        if not fresh:
            return True
        try:
            call.hold = call.meter.admit(call.lm.estimate(replace(call.request, seeds=fresh)))
        except BudgetExhausted as refused:
            if self._queue:  # what is under way has reserved more than it will spend: ask again when it is settled
                self._blocked.append(call)
            else:
                self._advance(call.index, refused)
            return False
        return True

    async def _draw(self, call: Call, slots: Sequence[int]) -> None:
        """Have the model draw the samples that are neither kept nor under way."""
        request = replace(call.request, seeds=tuple(call.request.seeds[slot] for slot in slots))
        keys = [call.keys[slot] for slot in slots]
        came: set[bytes] = set()
        spoilt: dict[bytes, Sample] = {}

        def arrived(i: int, sample: Sample) -> None:
            if sample.finish_reason == "error":
                spoilt[keys[i]] = sample
            else:
                came.add(keys[i])
                self._arrived(keys[i], call.lm.digest, sample)

        failure: ModelError | None = None
        try:
            await call.lm.generate(request, arrived)
            if missing := len(keys) - len(came) - len(spoilt):
                failure = ModelError(f"{call.lm.name} ended a call without {missing} of its {len(keys)} samples")
        except ModelError as error:
            failure = error
        except Exception as error:  # a model's own fault: without an answer its callers would wait for ever
            failure = ModelError(f"{call.lm.name} broke: {type(error).__name__}: {error}", fatal=True)
        if failure:
            self._failed(failure, [key for key in keys if key not in came])
        else:
            self._failures = 0
        for key, sample in spoilt.items():
            if failure:  # a slot that failed for good leaves nothing but its cost, for a resumed run to go on from
                wasted = sample.cost.then(sample.wasted)
                call.meter.charge(wasted, "retry")
                sample = replace(sample, cost=FREE, wasted=wasted, attempts=max(2, sample.attempts))
            self._arrived(key, call.lm.digest, sample)

    def _failed(self, error: ModelError, keys: Sequence[bytes]) -> None:
        self._failures += 1
        if error.fatal or self._failures >= GIVE_UP_AFTER:
            again = "" if error.fatal else f" ({self._failures} calls in a row)"
            self.stop(f"the model failed{again}: {error}")
        for key in keys:
            self._used.discard(key)
            for waiting, _ in self._waiting.pop(key, ()):
                waiting.fail(error)

    def _arrived(self, key: bytes, model: str, sample: Sample) -> None:
        if key in self._spoilt:  # an earlier attempt brought nothing but its cost: a retry of it
            before = self._spoilt.pop(key)
            wasted = before.cost.then(before.wasted).then(sample.wasted)
            sample = replace(sample, attempts=before.attempts + sample.attempts, wasted=wasted)
        self._unsaved.append((_freeze(key, self.run, model, sample), sample))
        if not self._flush_due:  # what arrives at about the same time is written in one transaction
            self._flush_due = True
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), self._flushed_at + WRITE_EVERY_S), self._flush)

    def _flush(self) -> None:
        """Keep what has arrived, then let it be seen. A full disk is waited out: the samples are paid for."""
        self._flush_due = False
        self._flushed_at = asyncio.get_running_loop().time()
        arrived = self._unsaved
        if not arrived:
            return
        try:
            self.store.put_samples([kept for kept, _ in arrived])
        except StoreError as error:
            self.trouble = f"{len(arrived)} paid samples wait to be written: {error}"
            self._flush_due = True
            asyncio.get_running_loop().call_later(RETRY_WRITE_S, self._flush)
            return
        self.trouble = ""
        self._unsaved = []
        for kept, sample in arrived:
            for waiting, slot in self._waiting.pop(kept.sample, ()):
                waiting.put(slot, sample)

    async def _deliver(self) -> None:
        """Wait for the oldest call and hand its samples to its method."""
        call = self._queue[0]
        await asyncio.sleep(0)  # let calls just issued be sent even if this one was answered from the store
        await call.done.wait()
        if self.stop_reason:
            return
        self._queue.popleft()
        self._outstanding -= len(call.keys)
        self._settle(call, "cancelled" if call.error else call.role)
        if call.error is None:
            for key, shared in zip(call.keys, call.shared, strict=True):
                use = Use(len(self.uses), key, call.lm.name, call.arm.label, call.arm.key, call.role, shared)
                self.uses.append(use)
        arrived = [sample for sample in call.samples if sample is not None]
        self._advance(call.index, call.error or arrived)
        blocked, self._blocked = self._blocked, []
        for waiting in blocked:
            self._issue(waiting.index, waiting)

    def _settle(self, call: Call, role: Role) -> None:
        """Charge what arrived: in full to the method, and to the run what no other method of it had drawn."""
        arrived = [(sample, shared) for sample, shared in zip(call.samples, call.shared, strict=True) if sample]
        if call.hold:
            settle(call.hold, [sample for sample, shared in arrived if not shared], role)
        if any(call.shared):
            settle(Hold(call.meter, FREE, shared=True), [sample for sample, shared in arrived if shared], role)

    async def _drain(self) -> None:
        """Await what is under way: it is paid for, and kept for whoever resumes the run."""
        while self._tasks or self._unsaved:
            if self._tasks:
                await asyncio.wait(self._tasks)
            else:
                await asyncio.sleep(RETRY_WRITE_S)
        for call in self._queue:
            self._settle(call, "cancelled")
        self._queue.clear()


def _freeze(key: bytes, run: str, model: str, s: Sample) -> StoredSample:
    return StoredSample(key, run, model, s.text, s.token_ids, s.logprobs, s.finish_reason, s.attempts, s.cost, s.wasted)


def _thaw(s: StoredSample) -> Sample:
    return Sample(s.text, s.token_ids, s.logprobs, cast(FinishReason, s.finish_reason), s.cost, s.attempts, s.wasted)
