"""The task's own grader as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.method.search.problem import Candidate, Problem
from isoflop.method.search.value.base import Value


@final
@dataclass(frozen=True)
class Oracle(Value):
    """The grade itself: what a perfect verifier would let the samples reach (coverage).

    Honest at the time of use only where answers can be checked, such as programs by their tests; elsewhere the curve is
    an upper bound. Grading is off the meter.
    """

    certain: ClassVar[bool] = True

    def of(self, problem: Problem, candidates: Sequence[Candidate]) -> list[float]:
        """The score of each answer."""
        return [problem.verify(c.answer) if c.answer is not None else 0.0 for c in candidates]
