"""Best of N: draw many, keep the one that looks best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.method.search.pool import Pool
from isoflop.method.search.problem import Answer, Candidate, Problem
from isoflop.method.search.value.base import Value
from isoflop.method.search.value.likelihood import Likelihood


@final
@dataclass(frozen=True)
class BestOfN(Pool):
    """Draw N independent samples and answer with the one of highest value.

    With a perfect verifier (`value=oracle`) this is repeated sampling, whose share of problems solved is coverage
    (Brown et al. 2024, arXiv 2407.21787); with a weaker value it saturates where the value starts to be fooled, since
    more samples also mean more chances of a wrong answer that looks right. `self_consistency` needs no value at all.

    Cost: N samples, and what `value` spends on each.
    Buys: 1 - (1-p)^N on a problem with success probability p and `value=oracle`; over problems an exponentiated power
        law of N. No law known for other values.

    Args:
        n: samples in all (count).
        batch: samples drawn between two yields (count).
        stop: when fewer are enough.
        value: what decides which is best; ties go to the earlier sample.
    """

    source: ClassVar[str] = "large_language_monkeys"
    cost: ClassVar[str] = "n samples + n values"
    buys: ClassVar[str] = "1-(1-p)^n with a perfect verifier; no law known otherwise"

    value: Value = Likelihood()

    def worth(self, problem: Problem, drawn: Sequence[Candidate]) -> list[float]:
        """The value of each candidate."""
        return self.value.of(problem, drawn)

    def choose(self, problem: Problem, pool: Sequence[Candidate], worth: Sequence[float]) -> Answer:
        """The answer of highest value; certain only if the value is."""
        answered = [i for i, c in enumerate(pool) if c.answer is not None]
        confident = max(worth) if self.value.certain else float("nan")
        if not answered:
            return Answer(None, confident)
        return Answer(pool[max(answered, key=lambda i: worth[i])].answer, confident)
