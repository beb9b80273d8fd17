"""The contract of an allocator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from isoflop.method.base import Part


@dataclass(slots=True)
class Seen:
    """What the steps of one method and model have brought so far, over all problems; allocators write it.

    Args:
        tried: problems still unsolved when step k was made on them, by k (count).
        solved: problems solved by that step, by k (count).
        steps: steps made (count).
        prior: Beta (a, b) fitted to `tried` and `solved` when `fitted_at` steps had been made.
        fitted_at: see `prior` (count).
    """

    tried: list[int] = field(default_factory=list[int])
    solved: list[int] = field(default_factory=list[int])
    steps: int = 0
    prior: tuple[float, float] = (1.0, 1.0)
    fitted_at: int = 0


@dataclass(slots=True)
class Progress:
    """How far one method is on one problem, as an allocator sees it: never the score.

    Args:
        steps: answers yielded (count).
        spent: what they cost, on the axis that the budget limits (its unit; steps without a budget).
        confidence: the method's belief in its answer (0 to 1); NaN where it has none.
        peers: the same method and model over all problems.
    """

    steps: int
    spent: float
    confidence: float
    peers: Seen


class Allocator(Part, ABC):
    """Which problem's method to advance next; because methods are generators, every method can be allocated.

    An allocator ranks a problem whenever its method is ready for another step, from what was delivered up to then.
    """

    needs_confidence: ClassVar[bool] = False
    """Whether it does no better than `uniform` with methods that yield no confidence."""

    @abstractmethod
    def rank(self, progress: Progress) -> float | None:
        """Where the problem stands in the queue, lowest first; None to work on it no more.

        Called once before the first step and once after each.
        """
