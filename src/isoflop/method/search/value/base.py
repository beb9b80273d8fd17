"""The contract of a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from isoflop.method.base import Part
from isoflop.method.search.problem import Candidate, Problem


class Value(Part, ABC):
    """How good a candidate looks; what it spends is charged to the problem."""

    certain: ClassVar[bool] = False
    """Whether a value of 1 means that the answer is right, so that a search may stop there."""

    @abstractmethod
    def of(self, problem: Problem, candidates: Sequence[Candidate]) -> list[float]:
        """A number for each candidate that has an answer, higher is better; not negative, so that votes can add up.

        Raises:
            BudgetExhausted: passes through from the judge.
        """
