"""The same records wherever a run is computed, and whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from isoflop.method.search.self_consistency import SelfConsistency
from isoflop.model.base import ModelError, Request
from isoflop.model.mock import Faults, Machine, Mock, Skill
from isoflop.run import Bench, Study, bench
from isoflop.run.fanout import Crew, FannedOut, Worker, crew_of
from isoflop.run.fanout.processes import Processes, ProcessWorker
from isoflop.task import Grader, Question, Questions


@dataclass(frozen=True)
class Whole(Grader):
    def extract(self, text: str) -> str | None:
        return text.strip() or None

    def canonical(self, answer: str) -> str:
        return answer


QUESTIONS = Questions("sums", [Question(f"q{i}", f"What is {i}+1?", str(i + 1), Whole()) for i in range(16)])
MODEL = "mock:p=0.4,latency_s=0.01,jitter_s=0.01,concurrency=8"


def study(folder, on: str | None = None, budget: str = "tokens_in=600") -> Study:
    return Bench(QUESTIONS, [MODEL], [SelfConsistency(n=16, batch=2)], [budget], on=on).run(
        folder / f"{on}.db".replace("/", "")
    )


def rows(s: Study) -> list[object]:
    return [(r.method, r.key, r.step, r.answer, r.quality, r.per_use.tokens_out) for r in s.records]


class Watched(Crew):
    """A crew one of whose workers is killed while samples of its are under way."""

    def __init__(self, crew: Crew, kill: Callable[[Worker], None], after: int) -> None:
        self.crew, self.size, self.kill, self.after = crew, crew.size, kill, after
        self.workers: list[Worker] = []
        self.drawn = 0

    async def hire(self, recipe: bytes) -> Worker:
        self.workers.append(Watching(await self.crew.hire(recipe), self))
        return self.workers[-1]

    async def close(self) -> None:
        await self.crew.close()


class Watching(Worker):
    def __init__(self, worker: Worker, crew: Watched) -> None:
        self.worker, self.crew = worker, crew

    async def generate(self, request: Request):
        async for item in self.worker.generate(request):
            self.crew.drawn += 1
            if self.crew.drawn == self.crew.after:
                self.crew.kill(self.crew.workers[0].worker)
            yield item

    async def close(self) -> None:
        await self.worker.close()


def kill_process(worker: Worker) -> None:
    assert isinstance(worker, ProcessWorker)
    with contextlib.suppress(ProcessLookupError):  # it was dead already
        os.kill(worker.process.pid, signal.SIGKILL)


def test_processes_give_the_records_of_one(tmp_path):
    assert rows(study(tmp_path, "processes:2")) == rows(study(tmp_path))


def test_a_killed_process_is_replaced_and_changes_no_record(tmp_path, monkeypatch):
    crew = Watched(Processes(2), kill_process, after=30)
    monkeypatch.setattr(bench, "crew_of", lambda words: crew)
    assert rows(study(tmp_path, "processes:2")) == rows(study(tmp_path))
    assert len(crew.workers) == 3
    assert crew.drawn > crew.after


def test_ray_workers_one_of_them_killed_give_the_records_of_one(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    crew = Watched(crew_of("ray:2"), lambda worker: ray.kill(worker.actor), after=30)
    monkeypatch.setattr(bench, "crew_of", lambda words: crew)
    try:
        assert rows(study(tmp_path, "ray:2")) == rows(study(tmp_path))
        assert len(crew.workers) == 3
    finally:
        ray.shutdown()


def test_a_models_own_error_passes_through(tmp_path):
    async def draw() -> None:
        lm = FannedOut(Mock(Skill(), Faults(error=1.0)), Processes(1))
        try:
            await lm.generate(Request("q", (0, 1)), lambda slot, sample: None)
        finally:
            await lm.close()

    with pytest.raises(ModelError, match="as its faults demand"):
        asyncio.run(draw())


def test_a_request_that_kills_every_worker_is_given_up():
    async def draw() -> None:
        lm = FannedOut(Mock(Skill(), machine=Machine(latency_s=1000)), Watched(Processes(1), kill_process, 0))

        async def kill() -> None:
            while True:
                await asyncio.sleep(0.05)
                for worker in list(lm._load):
                    kill_process(worker.worker)

        killing = asyncio.create_task(kill())
        try:
            await lm.generate(Request("q", (0,)), lambda slot, sample: None)
        finally:
            killing.cancel()
            await lm.close()

    with pytest.raises(ModelError, match="3 workers died one after the other"):
        asyncio.run(draw())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [("cloud:3", "cannot run on 'cloud:3'"), ("processes:0", "how many"), ("ray:x", "ray://auto")],
)
def test_crews_that_do_not_exist_are_refused(words, complaint):
    with pytest.raises(ValueError, match=complaint):
        crew_of(words)
