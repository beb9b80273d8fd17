"""A model whose samples are drawn by a crew of workers.

Only drawing is handed out: scheduling, budgets and the store stay in one place, so a run has the same records wherever
it is computed, and a worker's death costs no more than the samples it had under way.
"""

from __future__ import annotations

import asyncio
import importlib
import pickle
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import final

from isoflop.cost import Cost
from isoflop.model.base import LM, ModelError, Request, Sample

MOST_LOSSES = 3
"""How many workers may die under one call before it is given up (count)."""


class WorkerLostError(Exception):
    """A worker died, or cannot be reached any more; others can take over what it had not finished."""


class Worker(ABC):
    """Someone who has the model and draws samples with it."""

    @abstractmethod
    def generate(self, request: Request) -> AsyncIterator[tuple[int, Sample]]:
        """Draw the samples of `request`; yields slot and sample, in any order.

        Raises:
            ModelError: the model could not answer.
            WorkerLostError: the worker is gone; slots not yielded yet are up to others.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let the worker go."""


class Crew(ABC):
    """Where workers come from.

    Args:
        size: how many work side by side (count).
    """

    size: int

    @abstractmethod
    async def hire(self, recipe: bytes) -> Worker:
        """A new worker that makes its model from `recipe` (see `open_recipe`).

        Raises:
            ModelError: no worker, or no model, can be had there.
        """

    async def close(self) -> None:  # noqa: B027 - most crews own nothing but their workers
        """Give back what the crew itself holds."""


def crew_of(words: str) -> Crew:
    """The crew that `words` name: `processes:4`, or a Ray cluster as `ray://head:10001`, `ray://auto` or `ray:2`.

    Raises:
        ValueError: no such crew; the message says what to write.
        ModelError: its extra is not installed.
    """
    kind, _, rest = words.partition(":")
    if kind not in ("processes", "ray"):
        raise ValueError(f"cannot run on {words!r}; write processes:<how many>, ray:<how many> or ray://<address>")
    try:
        module = importlib.import_module(f"isoflop.run.fanout.{kind}")
    except ModuleNotFoundError as error:
        raise ModelError(f"running on {kind} needs {error.name}: pip install 'isoflop[{kind}]'", fatal=True) from error
    return module.open_crew(rest)


def recipe_of(lm: LM) -> bytes:
    """What a worker needs to make the same model: the model itself where it can be pickled, else its name."""
    try:
        return pickle.dumps(lm)
    except (TypeError, AttributeError, pickle.PicklingError):  # it holds threads, files or native memory
        return pickle.dumps(lm.name)


@final
class FannedOut(LM):
    """`lm`, computed by a crew; a call goes to the worker with least to do and is taken over by another if that dies.

    It states the concurrency of one worker: raise a bench's `lookahead` to twice the size of the crew to keep all busy.

    Args:
        lm: the model; here it only estimates.
        crew: who computes.
    """

    def __init__(self, lm: LM, crew: Crew) -> None:
        self.lm, self.crew = lm, crew
        self.name, self.digest, self.concurrency, self.price = lm.name, lm.digest, lm.concurrency, lm.price
        self._recipe = b""
        self._load: dict[Worker, int] = {}
        self._hiring = asyncio.Lock()

    def estimate(self, request: Request) -> Cost:
        """As the model's own."""
        return self.lm.estimate(request)

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        """Draw with the crew; see `LM.generate`.

        Raises:
            ModelError: as the model's own; or worker after worker died on this request.
        """
        missing = list(range(len(request.seeds)))
        for _ in range(MOST_LOSSES):
            worker = await self._least_busy()
            self._load[worker] += len(missing)
            try:
                left = Request(request.prompt, tuple(request.seeds[slot] for slot in missing), request.sampling)
                slots = list(missing)
                async for i, sample in worker.generate(left):
                    missing.remove(slots[i])
                    self._load[worker] -= 1
                    arrived(slots[i], sample)
                return
            except WorkerLostError:
                if self._load.pop(worker, None) is not None:
                    await worker.close()
            finally:
                if worker in self._load:
                    self._load[worker] -= len(missing)
        raise ModelError(f"{self.name}: {MOST_LOSSES} workers died one after the other on the same request")

    async def close(self) -> None:
        """Let all workers go; the next call hires again. The crew stays: other models may have workers of it."""
        workers, self._load = list(self._load), {}
        await asyncio.gather(*(worker.close() for worker in workers))
        await self.lm.close()
        self._hiring = asyncio.Lock()

    async def _least_busy(self) -> Worker:
        async with self._hiring:
            if len(self._load) < self.crew.size:
                self._recipe = self._recipe or recipe_of(self.lm)
                self._load[await self.crew.hire(self._recipe)] = 0
        return min(self._load, key=self._load.__getitem__)
