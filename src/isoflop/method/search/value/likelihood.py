"""The model's own likelihood as a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from isoflop.method.search.problem import Candidate, Problem
from isoflop.method.search.value.base import Value


@final
@dataclass(frozen=True)
class Likelihood(Value):
    """The geometric mean of a sample's token probabilities, which costs nothing more.

    Length-normalised, as a long sample is less likely than a short one whatever its worth. A model is often surest of
    its own mistakes: compare with the votes of `self_consistency` before trusting it.
    """

    def of(self, problem: Problem, candidates: Sequence[Candidate]) -> list[float]:
        """exp(mean log-probability), in (0, 1]; 0 for a model that does not tell its log-probabilities."""
        return [
            math.exp(sum(c.sample.logprobs) / len(c.sample.logprobs)) if c.sample.logprobs else 0.0 for c in candidates
        ]
