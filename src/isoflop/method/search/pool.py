"""The loop that pooled searches share: draw a batch, choose among all drawn so far, yield."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from isoflop.cost import Meter
from isoflop.method.search.problem import Answer, Candidate, Problem, SearchMethod
from isoflop.method.search.stop.base import Stop
from isoflop.method.search.stop.never import Never


@dataclass(frozen=True)
class Pool(SearchMethod):
    """Independent samples, pooled: subclasses say which answer a pool stands for.

    Args:
        n: samples in all (count).
        batch: samples drawn between two yields (count).
        stop: when fewer are enough.
    """

    n: int = 16
    batch: int = 4
    stop: Stop = Never()

    def __post_init__(self) -> None:
        if self.n < 1 or self.batch < 1:
            raise ValueError(f"n={self.n} and batch={self.batch} must be at least 1")

    def run(self, problem: Problem, meter: Meter, rng: np.random.Generator) -> Iterator[Answer]:
        """Yield the pool's answer after every batch."""
        pool: list[Candidate] = []
        worth: list[float] = []
        while len(pool) < self.n:
            drawn = problem.draw(min(self.batch, self.n - len(pool)))
            worth += self.worth(problem, drawn)
            pool += drawn
            answer = self.choose(problem, pool, worth)
            yield answer
            if self.stop.enough(answer.confidence):
                return

    @abstractmethod
    def worth(self, problem: Problem, drawn: Sequence[Candidate]) -> list[float]:
        """What each new candidate counts for."""

    @abstractmethod
    def choose(self, problem: Problem, pool: Sequence[Candidate], worth: Sequence[float]) -> Answer:
        """The answer that the pool stands for, with the method's confidence in it."""
