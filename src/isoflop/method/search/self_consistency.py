"""Self-consistency: the answer that most samples agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.law.coverage import majority_confidence
from isoflop.method.search.pool import Pool
from isoflop.method.search.problem import Answer, Candidate, Problem
from isoflop.method.search.vote import tally


@final
@dataclass(frozen=True)
class SelfConsistency(Pool):
    """Draw N independent samples and answer with the majority (Wang et al. 2022, arXiv 2203.11171).

    Needs no verifier, only answers that can be told equal. It turns a right answer that is the most frequent one into
    certainty and any other into certain failure, so it saturates at the share of problems whose mode is right.

    Cost: N samples.
    Buys: tends to 1 where the right answer is the mode of the model's answers and to 0 where it is not.

    Args:
        n: samples in all (count).
        batch: samples drawn between two yields (count).
        stop: when fewer are enough; `confident` makes it adaptive consistency (arXiv 2305.11860).
    """

    source: ClassVar[str] = "arXiv 2203.11171"
    cost: ClassVar[str] = "n samples"
    buys: ClassVar[str] = "P(the right answer is the mode of n draws); its limit is 0 or 1 a problem"

    def worth(self, problem: Problem, drawn: Sequence[Candidate]) -> list[float]:
        """One vote each."""
        return [1.0] * len(drawn)

    def choose(self, problem: Problem, pool: Sequence[Candidate], worth: Sequence[float]) -> Answer:
        """The answer with most votes, with the probability that it keeps its lead."""
        votes = tally(problem, pool, worth)
        if not votes:
            return Answer(None, 0.0)
        first, second = (round(count) for _, count in [*votes, ("", 0.0)][:2])
        return Answer(votes[0][0], majority_confidence(first, second))
