"""Spend where the next step is likeliest to solve a problem, per unit of cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from scipy.optimize import minimize

from isoflop.run.allocate.base import Allocator, Progress, Seen


@final
@dataclass(frozen=True)
class ExpectedGain(Allocator):
    """Greedy on the expected gain of one more step over its cost, learned as the run goes.

    A problem whose chance of being solved a step is p ~ Beta(a, b) and that k steps have not solved is solved by the
    next with probability a / (a + b + k). a and b are fitted, for each method and model, to how this run's problems
    were solved so far. Greedy is optimal for independent samples with a verifier, the coverage being concave in the
    samples of each problem. With several models or methods in one run it also decides between them. No better than
    `uniform` while nothing has been solved or all problems are alike.

    Args:
        at_least: confidence that counts as solved (fraction).
    """

    needs_confidence: ClassVar[bool] = True

    at_least: float = 0.95

    def rank(self, progress: Progress) -> float | None:
        """Minus the expected gain per unit of cost; None once solved."""
        seen, solved = progress.peers, progress.confidence >= self.at_least
        if progress.steps:
            _learn(seen, progress, solved)
        if solved:
            return None
        if not progress.steps:
            return -math.inf  # look at each problem once
        step_cost = progress.spent / progress.steps
        doubt = 1.0 if math.isnan(progress.confidence) else 1.0 - progress.confidence
        chance = _chance(seen, progress.steps)
        return -doubt * chance / step_cost if step_cost > 0 else -math.inf


def _learn(seen: Seen, progress: Progress, solved: bool) -> None:
    while len(seen.tried) < progress.steps:
        seen.tried.append(0)
        seen.solved.append(0)
    seen.tried[progress.steps - 1] += 1
    seen.solved[progress.steps - 1] += solved
    seen.steps += 1


def _chance(seen: Seen, k: int) -> float:
    """Chance that the next step solves a problem that k steps did not: a / (a + b + k)."""
    if seen.steps >= 1.25 * seen.fitted_at:  # refit only as the evidence grows: a few dozen fits in the longest run
        seen.prior, seen.fitted_at = _beta(seen), seen.steps
    a, b = seen.prior
    return a / (a + b + k)


def _beta(seen: Seen) -> tuple[float, float]:
    """The most likely (a, b), with a weak pull towards the flat Beta(1, 1) while there is little evidence."""
    k = np.arange(len(seen.tried))
    solved = np.asarray(seen.solved, dtype=float)
    unsolved = np.asarray(seen.tried, dtype=float) - solved

    def loss(log_ab: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        a, b = np.exp(log_ab)
        fit = solved @ np.log(a / (a + b + k)) + unsolved @ np.log((b + k) / (a + b + k))
        return float(0.125 * log_ab @ log_ab - fit)

    a, b = np.exp(minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-7, 7), (-7, 7)]).x)
    return float(a), float(b)
