"""The scheduler against models and methods of known behaviour."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from isoflop.cost import Budget, Cost, Meter
from isoflop.method.base import Method, Task
from isoflop.model.base import LM, MeteredLM, ModelError, Request, Sample, Sampling
from isoflop.record import RunInfo, Store, StoreError
from isoflop.run import scheduler as module
from isoflop.run.allocate.base import Seen
from isoflop.run.allocate.first_success import FirstSuccess
from isoflop.run.allocate.uniform import Uniform
from isoflop.run.scheduler import Scheduler, Stopped

UNIFORM = Uniform()


class Coin(LM):
    """Answers with a digest of prompt and seed, 1 to 5 tokens long, after a delay that changes from run to run."""

    name, digest, concurrency = "coin", "coin", 4

    def __init__(self, jitter: random.Random, fail: Callable[[str], bool] = lambda prompt: False) -> None:
        self.jitter, self.fail, self.drawn = jitter, fail, 0

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        async def one(slot: int, seed: int) -> None:
            await asyncio.sleep(self.jitter.random() * 0.002)
            if self.fail(str(request.prompt)):
                raise ModelError("the coin rolled away")
            token = hashlib.blake2b(f"{request.prompt}/{seed}".encode()).digest()[0]
            self.drawn += 1
            arrived(slot, Sample(str(token), cost=Cost(tokens_in=1, tokens_out=1 + token % 5)))

        await asyncio.gather(*(one(slot, seed) for slot, seed in enumerate(request.seeds)))

    def estimate(self, request: Request) -> Cost:
        return Cost(tokens_in=len(request.seeds), tokens_out=5 * len(request.seeds))


@dataclass
class Door:
    lm: MeteredLM
    key: str
    seed: int

    def draw(self, first: int, n: int) -> list[int]:
        seeds = tuple(range(self.seed + first, self.seed + first + n))
        return [int(s.text) for s in self.lm.sample(Request(self.key, seeds, Sampling()))]


class Toss(Task[Door, int]):
    name, digest, model = "toss", "toss", "coin"

    def __init__(self, lm: LM, n: int) -> None:
        self.lm, self.n = lm, n

    def keys(self, split: str) -> list[str]:
        return [f"{split}{i}" for i in range(self.n)]

    def open(self, key, meter, ask, seed) -> Door:
        return Door(MeteredLM(self.lm, ask, meter), key, seed)

    def score(self, key: str, answer: int) -> float:
        return answer / 255

    def describe(self, answer: int) -> tuple[str, float]:
        return str(answer), float(answer >= 200)


@dataclass(frozen=True)
class Highest(Method[Door, int]):
    n: int = 8
    batch: int = 2

    def run(self, problem: Door, meter: Meter, rng) -> Iterator[int]:
        best = 0
        for first in range(0, self.n, self.batch):
            best = max([best, *problem.draw(first, self.batch)])
            yield best


@dataclass(frozen=True)
class Broken(Method[Door, int]):
    def run(self, problem: Door, meter: Meter, rng) -> Iterator[int]:
        yield problem.draw(0, 1)[0]
        raise ZeroDivisionError("my own fault")


def play(path, lm, methods, *, budgets=(), allocator=UNIFORM, problems=6, run="r", lookahead=4.0):
    with Store(path) as store:
        meter = Meter([Budget.parse(b) for b in budgets])
        s = Scheduler(run, store, meter, allocator, 0, lookahead)
        task = Toss(lm, problems)
        for method in methods:
            peers = Seen()
            for key in task.keys("test"):
                s.add(task, method, key, "test", peers)
        asyncio.run(s.drive())
        store.put_uses(run, s.uses)
        return s, store.ledger(run)


def rows(s: Scheduler) -> list[object]:
    return [(r.method, r.key, r.step, r.answer, r.per_use, r.status) for r in s.records]


@pytest.mark.parametrize("budgets", [[], ["tokens_out=90"]])
@pytest.mark.parametrize("allocator", [Uniform(), FirstSuccess()])
def test_records_do_not_depend_on_timing(tmp_path, budgets, allocator):
    runs = [
        play(
            tmp_path / f"{i}.db",
            Coin(random.Random(i)),
            [Highest(), Highest(n=4)],
            budgets=budgets,
            allocator=allocator,
        )
        for i in range(3)
    ]
    assert rows(runs[0][0]) == rows(runs[1][0]) == rows(runs[2][0])
    assert {r.status for r in runs[0][0].records} <= {"ok"} or budgets


def test_methods_share_samples_and_the_budget_sees_each_once(tmp_path):
    lm = Coin(random.Random(0))
    s, ledger = play(tmp_path / "s.db", lm, [Highest(n=8), Highest(n=4)], problems=5)
    assert lm.drawn == 5 * 8
    charged = {row.method: row for row in ledger}
    assert charged["highest(n=4)"].shared + charged["highest"].shared == 5 * 4
    assert charged["highest(n=4)"].charged.tokens_in == 5 * 4
    assert sum(row.budgeted.tokens_out for row in ledger) == s.meter.spent.tokens_out
    assert sum(row.paid.tokens_in for row in ledger) == 5 * 8


def test_a_second_run_replays_and_has_the_same_records(tmp_path):
    lm = Coin(random.Random(0))
    first, _ = play(tmp_path / "s.db", lm, [Highest()], budgets=["tokens_out=100"])
    drawn = lm.drawn
    again, ledger = play(tmp_path / "s.db", lm, [Highest()], budgets=["tokens_out=100"], run="r2")
    assert lm.drawn == drawn
    assert rows(first) == rows(again)
    assert again.replayed == len(again.uses)
    assert sum(row.paid.tokens_out for row in ledger) == 0
    assert sum(row.charged.tokens_out for row in ledger) == first.meter.spent.tokens_out


@pytest.mark.parametrize("limit", [5, 37, 100])
def test_a_budget_is_never_exceeded_and_is_used_up(tmp_path, limit):
    s, _ = play(
        tmp_path / "s.db", Coin(random.Random(1)), [Highest(batch=1)], budgets=[f"tokens_out={limit}"], problems=50
    )
    assert limit - 5 < s.meter.spent.tokens_out <= limit
    assert s.meter.overshoot() == {"tokens_out": 0}


def test_two_budgets_at_once_200_ways(tmp_path):
    lm = Coin(random.Random(2))
    lm.concurrency = 200
    s, _ = play(tmp_path / "s.db", lm, [Highest(batch=1)], budgets=["tokens_out=900", "tokens_in=250"], problems=200)
    assert s.meter.spent.tokens_in <= 250
    assert s.meter.spent.tokens_out <= 900
    assert s.meter.overshoot() == {"tokens_out": 0, "tokens_in": 0}
    assert lm.drawn == s.meter.spent.tokens_in


def test_first_success_stops_where_the_method_is_sure(tmp_path):
    s, _ = play(tmp_path / "s.db", Coin(random.Random(3)), [Highest(n=64)], allocator=FirstSuccess(), problems=20)
    last = {r.key: r for r in s.records}
    assert all(int(r.answer) >= 200 or r.step == 31 for r in last.values())
    assert sum(arm.ended == "done: sure" for arm in s.arms) > 10


def test_a_fault_in_one_method_leaves_the_others_alone(tmp_path):
    s, _ = play(tmp_path / "s.db", Coin(random.Random(4)), [Broken(), Highest(n=2)], problems=3)
    failed = [r for r in s.records if r.status.startswith("failed: ZeroDivisionError: my own fault")]
    assert len(failed) == 3
    assert sum(r.status == "ok" for r in s.records) == 3 + 3


def test_a_problem_the_model_cannot_answer_is_recorded_and_the_rest_goes_on(tmp_path):
    lm = Coin(random.Random(5), fail=lambda prompt: prompt == "test2")
    s, _ = play(tmp_path / "s.db", lm, [Highest()], problems=5)
    assert [r.key for r in s.records if r.status == "failed: the coin rolled away"] == ["test2"]
    assert sum(r.status == "ok" for r in s.records) == 4 * 4


def test_a_dying_model_stops_the_run_and_a_resumed_one_pays_for_nothing_twice(tmp_path):
    whole, _ = play(tmp_path / "whole.db", Coin(random.Random(6)), [Highest()], problems=20)
    dying = Coin(random.Random(7))
    dying.fail = lambda prompt: dying.drawn > 60
    with pytest.raises(Stopped, match="calls in a row"):
        play(tmp_path / "s.db", dying, [Highest()], problems=20)
    revived = Coin(random.Random(8))
    s, ledger = play(tmp_path / "s.db", revived, [Highest()], problems=20)
    assert dying.drawn + revived.drawn == 20 * 8
    assert rows(s) == rows(whole)
    assert sum(row.paid.tokens_in for row in ledger) == 20 * 8


def test_a_full_disk_is_waited_out(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RETRY_WRITE_S", 0.001)
    refusals = iter([True, True, False, True])
    put = Store.put_samples

    def full(self, samples):
        if next(refusals, False):
            raise StoreError("database or disk is full")
        put(self, samples)

    monkeypatch.setattr(Store, "put_samples", full)
    lm = Coin(random.Random(9))
    s, _ = play(tmp_path / "s.db", lm, [Highest()])
    assert lm.drawn == 6 * 8
    assert rows(s) == rows(play(tmp_path / "other.db", Coin(random.Random(10)), [Highest()])[0])
    assert next(refusals, None) is None


def test_stopping_keeps_and_charges_what_is_under_way(tmp_path):
    lm = Coin(random.Random(11))
    with Store(tmp_path / "s.db") as store:
        store.begin(RunInfo("r", 0.0, "running", {}, {}))
        s = Scheduler("r", store, Meter(), Uniform(), 0, 4.0)
        task = Toss(lm, 10)
        for key in task.keys("test"):
            s.add(task, Highest(), key, "test", Seen())
        s.on_yield = lambda record, arm, answer: s.stop("enough") if record == 7 else None
        with pytest.raises(Stopped, match="enough"):
            asyncio.run(s.drive())
        store.put_uses("r", s.uses)
        by_role = {row.role: row for row in store.ledger("r")}
    assert lm.drawn == by_role["generate"].samples + by_role["cancelled"].samples
    assert by_role["cancelled"].samples > 0
    assert s.meter.by_role["cancelled"].tokens_out == by_role["cancelled"].charged.tokens_out


class Half(Coin):
    """Breaks in a way of its own on some prompts."""

    def __init__(self, how: str) -> None:
        super().__init__(random.Random(0))
        self.how = how

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        if request.prompt != "test1" or not self.how:
            await super().generate(request, arrived)
        elif self.how == "silent":
            await super().generate(Request(request.prompt, request.seeds[1:], request.sampling), arrived)
        elif self.how == "bug":
            raise KeyError("choices")
        elif self.how == "aborted":
            for slot in range(len(request.seeds)):
                arrived(slot, Sample("7", finish_reason="error", cost=Cost(tokens_out=1)))
        else:
            arrived(0, Sample("", finish_reason="error", cost=Cost(tokens_out=3), attempts=2))
            raise ModelError("never answered")


def test_a_model_that_loses_a_sample_fails_that_problem_only(tmp_path):
    s, _ = play(tmp_path / "s.db", Half("silent"), [Highest()], problems=4)
    assert [r.status for r in s.records if r.key == "test1"] == ["failed: coin ended a call without 1 of its 2 samples"]
    assert sum(r.status == "ok" for r in s.records) == 3 * 4


def test_a_model_with_a_bug_stops_the_run_and_names_it(tmp_path):
    with pytest.raises(Stopped, match="coin broke: KeyError: 'choices'"):
        play(tmp_path / "s.db", Half("bug"), [Highest()], problems=4)


def test_samples_that_a_server_aborted_are_samples(tmp_path):
    s, _ = play(tmp_path / "s.db", Half("aborted"), [Highest()], problems=3)
    assert {r.status for r in s.records} == {"ok"}


def test_what_a_slot_cost_before_it_failed_is_kept_and_goes_on_as_retry(tmp_path):
    s, ledger = play(tmp_path / "s.db", Half("lost"), [Highest()], problems=3)
    assert [r.status for r in s.records if r.key == "test1"] == ["failed: never answered"]
    assert s.meter.by_role["retry"] == Cost(tokens_out=3)
    assert sum(row.paid.tokens_out for row in ledger if row.role == "retry") == 3
    s, ledger = play(tmp_path / "s.db", Half(""), [Highest()], problems=3)
    assert {r.status for r in s.records} == {"ok"}
    assert sum(row.charged.tokens_out for row in ledger if row.role == "retry") == 3
    answers = [row[:4] for row in rows(s)]
    assert answers == [row[:4] for row in rows(play(tmp_path / "other.db", Half(""), [Highest()], problems=3)[0])]
