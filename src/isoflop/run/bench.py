"""The bench: models and methods side by side on the user's own task, under one budget."""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar, cast

from isoflop.cost import Budget, Cost, Meter
from isoflop.method.base import Method, read_part
from isoflop.method.search.asked import Asked, prompt_of
from isoflop.method.search.problem import SearchMethod
from isoflop.model.base import LM, ModelError, Request, Sampling
from isoflop.model.load import load
from isoflop.model.mock import Mock
from isoflop.record import UNJUDGED, Graded, Record, RunInfo, Store, default_path
from isoflop.run.allocate.base import Allocator, Seen
from isoflop.run.allocate.uniform import Uniform
from isoflop.run.fanout import Crew, FannedOut, crew_of
from isoflop.run.grades import Grades, right
from isoflop.run.provenance import provenance
from isoflop.run.scheduler import Arm, Scheduler, Snapshot, Stopped
from isoflop.run.study import Study
from isoflop.task import SPLITS, Questions, Split

T = TypeVar("T")

_REPORT_EVERY_S = 0.1
_GRADE_EVERY_S = 0.5


@dataclass(frozen=True)
class Bench:
    """A question to compute: which of these models and methods, on this task, under this budget?

    Names may stand for the things themselves: a task's name or file, a model's specification, a method in words.

    Args:
        task: questions, or a file of them, or a shipped task's name.
        models: who answers; several are compared on one frontier.
        methods: how to search.
        budgets: limits of the whole run, over all models, methods and problems; samples that methods share count once.
        allocate: which problem goes next.
        seed: of the run; the same seed draws the same samples, whatever the methods.
        sampling: how to draw samples.
        judge: who rates answers for methods that ask; each model its own unless given.
        splits: which questions: `dev`, `test` or both.
        limit: at most so many questions of each split (count).
        lookahead: samples under way, as a multiple of what a model works on at a time.
        on: where models are computed: here, or `processes:4`, or a Ray cluster, `ray://head:10001`. No part of the
            question: the records are the same wherever; with many workers raise `lookahead` to twice their number.
    """

    task: str | Questions
    models: Sequence[str | LM]
    methods: Sequence[str | SearchMethod] = ("single", "best_of_n", "self_consistency")
    budgets: Sequence[str | Budget] = ()
    allocate: str | Allocator = Uniform()
    seed: int = 0
    sampling: Sampling = Sampling()
    judge: str | LM | None = None
    splits: Sequence[Split] = SPLITS
    limit: int | None = None
    lookahead: float = 4.0
    on: str | None = None

    def run(
        self,
        store: Path | str | None = None,
        on_progress: Callable[[Snapshot], None] | None = None,
        resume: str | None = None,
    ) -> Study:
        """Run it and return what it found out; every sample is kept in `store` before anyone sees it.

        Args:
            store: the file to keep samples and records in; `default_path()` unless given.
            on_progress: called about ten times a second with how far the run is.
            resume: the run to go on with, if it was stopped or killed.

        Raises:
            ValueError: something in the question does not fit; nothing was spent.
            ModelError: a model cannot be used at all; nothing was spent.
            StoreError: the store cannot be opened or written, or holds no such run.
        """
        with Store(store or default_path()) as opened:
            run = _Run(self, opened, on_progress)
            name = run.begin(resume)
            _run_async(run)
            return Study.load(opened, name)

    def made(self) -> Made:
        """The things that the names stand for.

        Raises:
            ValueError: a name is not known, or nothing is named.
            ModelError: a model cannot be used.
        """
        if not self.models:
            raise ValueError("no model: name at least one, such as mock:p=0.3")
        if not self.methods:
            raise ValueError("no method: name at least one, such as single")
        if unknown := [s for s in self.splits if s not in SPLITS]:
            raise ValueError(f"unknown split {unknown[0]!r}; use {' or '.join(SPLITS)}")
        if self.lookahead < 1:
            raise ValueError(f"lookahead={self.lookahead:g} must be at least 1")
        return Made(
            Questions.load(self.task) if isinstance(self.task, str) else self.task,
            [load(m) if isinstance(m, str) else m for m in self.models],
            load(self.judge) if isinstance(self.judge, str) else self.judge,
            [read_method(m) if isinstance(m, str) else m for m in self.methods],
            [Budget.parse(b) if isinstance(b, str) else b for b in self.budgets],
            read_allocator(self.allocate) if isinstance(self.allocate, str) else self.allocate,
        )


@dataclass(frozen=True)
class Made:
    """What the names of a bench stand for."""

    questions: Questions
    lms: Sequence[LM]
    judge: LM | None
    methods: Sequence[SearchMethod]
    budgets: Sequence[Budget]
    allocator: Allocator

    @property
    def all_models(self) -> list[LM]:
        """Those that answer and the one that judges."""
        return [*self.lms] if self.judge is None else [*self.lms, self.judge]

    def computed_by(self, crew: Crew) -> Made:
        """The same with all models computed by `crew`."""
        judge = self.judge and FannedOut(self.judge, crew)
        return replace(self, lms=[FannedOut(lm, crew) for lm in self.lms], judge=judge)


def read_method(words: str | Mapping[str, object]) -> SearchMethod:
    """A search method from its words or its JSON form.

    Raises:
        ValueError: unknown name, field or value; the message lists what exists.
    """
    return read_part(cast("type[SearchMethod]", Method), "isoflop.method.search", words)


def read_allocator(words: str | Mapping[str, object]) -> Allocator:
    """An allocator from its words or its JSON form.

    Raises:
        ValueError: unknown name, field or value; the message lists what exists.
    """
    return read_part(Allocator, "isoflop.run.allocate", words)


def _config(bench: Bench, made: Made) -> dict[str, Any]:
    """All that was asked, as JSON; `_bench` reads it back."""
    config: dict[str, object] = {
        "task": bench.task if isinstance(bench.task, str) else bench.task.name,
        "models": [lm.name for lm in made.lms],
        "methods": [method.to_json() for method in made.methods],
        "budgets": [str(budget) for budget in made.budgets],
        "allocate": made.allocator.to_json(),
        "seed": bench.seed,
        "sampling": asdict(bench.sampling),
        "judge": made.judge and made.judge.name,
        "splits": list(bench.splits),
        "limit": bench.limit,
        "lookahead": bench.lookahead,
    }
    return json.loads(json.dumps(config))


def _bench(config: Mapping[str, Any]) -> Bench:
    asked = dict(config)
    asked["sampling"] = Sampling(**(asked["sampling"] | {"stop": tuple(asked["sampling"]["stop"])}))
    asked["methods"] = [read_method(m) for m in asked["methods"]]
    asked["allocate"] = read_allocator(asked["allocate"])
    return Bench(**asked)


def resume(
    run: str,
    store: Path | str | None = None,
    on_progress: Callable[[Snapshot], None] | None = None,
    on: str | None = None,
) -> Study:
    """Go on with a run that was stopped or killed; it pays for nothing twice.

    Args:
        run: its name, the beginning of it, or `last`.
        store: where it is kept.
        on_progress: called about ten times a second with how far it is.
        on: where models are computed, as in `Bench`; need not be where they were.

    Raises:
        StoreError: no such run.
        ValueError: its task or a model has changed since.
    """
    with Store(store or default_path()) as opened:
        info = opened.run(run)
    return replace(_bench(info.config), on=on).run(store, on_progress, resume=info.run)


class _Run:
    """One run of a bench."""

    def __init__(self, bench: Bench, store: Store, on_progress: Callable[[Snapshot], None] | None) -> None:
        self.bench, self.store, self.on_progress = bench, store, on_progress
        self.made = made = bench.made()
        for lm in made.all_models:
            if isinstance(lm, Mock):
                lm.know({prompt_of(q): q.answer for q in made.questions})
        self.crew: Crew | None = None
        self.tasks: list[Asked] = []
        self.problems = _in_turn([(s, key) for key in made.questions.keys(s)[: bench.limit]] for s in bench.splits)
        self.earlier_s = 0.0
        self.name = ""

    def begin(self, resumed: str | None) -> str:
        """Check that the question can be asked, and enter it as a run."""
        if not self.problems:
            raise ValueError(f"task {self.made.questions.name} has no questions in {' or '.join(self.bench.splits)}")
        self._check_budgets()
        if self.bench.on:
            self.crew = crew_of(self.bench.on)
            self.made = self.made.computed_by(self.crew)
        config = _config(self.bench, self.made)
        made_of: dict[str, object] = {
            "task_digest": self.made.questions.digest,
            "model_digests": {lm.name: lm.digest for lm in self.made.all_models},
        }
        if resumed is None:
            self.name = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
            made_of |= provenance() | {"prices": {lm.name: lm.price for lm in self.made.all_models}}
            self.store.begin(RunInfo(self.name, time.time(), "running", config, made_of))
            return self.name
        info = self.store.run(resumed)
        for what, now in (("config", config), *made_of.items()):
            before = info.config if what == "config" else info.provenance[what]
            if before != now:
                raise ValueError(f"cannot resume {info.run}: its {what} was {before}, now it is {now}; start a new run")
        self.name, self.earlier_s = info.run, self.store.elapsed_s(info)
        self.store.finish(self.name, "running", info.outcome)
        return self.name

    def _check_budgets(self) -> None:
        """Refuse a question that a model does not take and a budget that cannot be kept, before anything is spent."""
        for lm in self.made.lms:
            least, *_ = [self._least(lm, key) for _, key in self.problems]
            for b in self.made.budgets:
                if b.axis == "wall_s":
                    continue  # the clock keeps it
                if math.isnan(least[b.axis]):
                    raise ValueError(
                        f"budget {b} cannot be kept: {lm.name} cannot tell its {b.axis} beforehand; {_remedy(b)}"
                    )
                if least[b.axis] > b.limit:
                    raise ValueError(
                        f"budget {b} is less than one sample of {lm.name} can cost ({least[b.axis]:g}); "
                        f"raise it, or lower max_tokens={self.bench.sampling.max_tokens}"
                    )

    def _least(self, lm: LM, key: str) -> Cost:
        """What one sample of a question can cost at most.

        Raises:
            ModelError: the model does not take the question.
        """
        try:
            return lm.estimate(Request(prompt_of(self.made.questions[key]), (0,), self.bench.sampling))
        except ModelError as error:
            raise ModelError(f"question {key} cannot be asked: {error}; nothing was spent", fatal=True) from error

    async def drive(self) -> None:
        """Schedule, grade, and keep the rows."""
        made, started = self.made, time.monotonic() - self.earlier_s
        self.tasks = [Asked(made.questions, lm, made.judge, self.bench.sampling) for lm in made.lms]
        meter = Meter(made.budgets, clock=lambda: time.monotonic() - started)
        scheduler = Scheduler(self.name, self.store, meter, made.allocator, self.bench.seed, self.bench.lookahead)
        grades = Grades(os.cpu_count() or 1)
        scheduler.on_yield = lambda record, arm, answer: grades.want(arm.task, arm.key, answer)
        # Problem by problem, so that a budget which ends early leaves some that all have tried, of both splits.
        searches = [(task, method, Seen()) for task in self.tasks for method in made.methods]
        for split, key in self.problems:
            for task, method, peers in searches:
                scheduler.add(task, method, key, split, peers)
        beside = [asyncio.create_task(self._report(scheduler)), asyncio.create_task(_grade(grades))]
        status = "done"
        with _interrupts(scheduler):
            try:
                await scheduler.drive()
            except Stopped as stopped:
                status = f"stopped: {stopped}"
            except asyncio.CancelledError:
                status = "stopped: interrupted twice"
            finally:
                for task in beside:
                    task.cancel()
                for lm in self.made.all_models:
                    await lm.close()
                if self.crew:
                    await self.crew.close()
        self._keep(scheduler, grades, status)

    def _keep(self, scheduler: Scheduler, grades: Grades, status: str) -> None:
        longest: dict[tuple[str, str], tuple[Arm, Sequence[Any]]] = {}
        for arm in scheduler.arms:
            drawn = arm.task.drawn(arm.problem) if arm.problem is not None else ()
            if len(drawn) > len(longest.get((arm.task.model, arm.key), (arm, ()))[1]):
                longest[arm.task.model, arm.key] = (arm, drawn)
        for arm, drawn in longest.values():
            for answer in drawn:
                grades.want(arm.task, arm.key, answer)
        grades.settle()
        tasks = {task.model: task for task in self.tasks}
        self.store.put_records(self.name, [_graded(r, tasks[r.model], grades) for r in scheduler.records])
        self.store.put_uses(self.name, scheduler.uses)
        rows: list[Graded] = []
        for arm, drawn in longest.values():
            n, c = right(grades.of(arm.task, arm.key, arm.task.describe(answer)[0]) for answer in drawn)
            level = self.made.questions[arm.key].level
            rows.append(Graded(arm.task.model, arm.key, arm.split, level, n, c))
        self.store.put_graded(self.name, rows)
        grades.close()
        faults = [fault for arm in scheduler.arms if arm.problem is not None for fault in arm.task.faults(arm.problem)]
        outcome: dict[str, object] = {
            "wall_s": scheduler.meter.spent.wall_s,
            "spent": _plain(scheduler.meter.spent),
            "overshoot": {**scheduler.meter.overshoot()},
            "samples": len(scheduler.uses),
            "replayed": scheduler.replayed,
            "lost": sum(lm.lost for lm in self.made.all_models),
            "grader_faults": len(faults),
            "grader_said": faults[-1] if faults else "",
        }
        self.store.finish(self.name, status, outcome)

    async def _report(self, scheduler: Scheduler) -> None:
        while self.on_progress:
            self.on_progress(scheduler.snapshot())
            await asyncio.sleep(_REPORT_EVERY_S)


async def _grade(grades: Grades) -> None:
    while True:
        await asyncio.sleep(_GRADE_EVERY_S)
        await asyncio.to_thread(grades.settle)


def _in_turn(groups: Iterable[Sequence[T]]) -> list[T]:
    """The first of each group, then the second of each, and so on."""
    return [item for turn in zip_longest(*groups) for item in turn if item is not None]


def _graded(record: Record, task: Asked, grades: Grades) -> Record:
    if record.status != "ok":
        return record
    score = grades.of(task, record.key, record.answer)
    if isinstance(score, Exception):
        return replace(record, status=f"{UNJUDGED}{score}")
    return replace(record, quality=score)


def _remedy(budget: Budget) -> str:
    if budget.axis == "usd":
        return "give its price, as in endpoint:http://host/v1#model?input=0.15&output=0.60 (USD per million tokens)"
    return "limit tokens_out or wall_s instead"


def _plain(cost: Cost) -> dict[str, float | None]:
    return {axis: None if math.isnan(x) else x for axis, x in cost.as_dict().items()}


@contextmanager
def _interrupts(scheduler: Scheduler) -> Generator[None]:
    """Ctrl-C or SIGTERM once: ask for no more and keep what comes. Twice: leave what is under way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupted() -> None:
        if scheduler.stop_reason:
            task.cancel()
        scheduler.stop("interrupted")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _run_async(run: _Run) -> None:
    """Run to the end, in a thread of its own where this one has an event loop already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(run.drive())
        return
    failed: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(run.drive())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="isoflop run")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
