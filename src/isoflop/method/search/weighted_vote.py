"""Weighted vote: answers add up the values of the samples behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.method.search.pool import Pool
from isoflop.method.search.problem import Answer, Candidate, Problem
from isoflop.method.search.value.base import Value
from isoflop.method.search.value.likelihood import Likelihood
from isoflop.method.search.vote import tally


@final
@dataclass(frozen=True)
class WeightedVote(Pool):
    """Draw N samples and answer with argmax over answers of the summed value of the samples that gave it.

    Between `best_of_n` (one sample decides) and `self_consistency` (all values 1): a noisy value is averaged out, and a
    majority can be overruled by few samples of high value (Li et al. 2022, arXiv 2206.02336; called best-of-N weighted
    by Snell et al. 2024, arXiv 2408.03314).

    Cost: N samples, and what `value` spends on each.
    Buys: no law known; at most coverage, at least majority if values carry information.

    Args:
        n: samples in all (count).
        batch: samples drawn between two yields (count).
        stop: when fewer are enough.
        value: the weight of a sample.
    """

    source: ClassVar[str] = "arXiv 2206.02336"
    cost: ClassVar[str] = "n samples + n values"
    buys: ClassVar[str] = "no law known"

    value: Value = Likelihood()

    def worth(self, problem: Problem, drawn: Sequence[Candidate]) -> list[float]:
        """The value of each candidate."""
        return self.value.of(problem, drawn)

    def choose(self, problem: Problem, pool: Sequence[Candidate], worth: Sequence[float]) -> Answer:
        """The answer with most weight, with its share of all weight."""
        weights = tally(problem, pool, worth)
        total = sum(weight for _, weight in weights)
        if not weights:
            return Answer(None, 0.0)
        return Answer(weights[0][0], weights[0][1] / total if total else float("nan"))
