"""Estimates with intervals: the paired bootstrap over problems, and exact bounds of a proportion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

Array = npt.NDArray[np.float64]
LEVEL = 0.95
"""Probability that an interval holds the truth, in all tables and plots."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the interval around it that holds the truth 95 times in 100.

    >>> print(Estimate(0.68, 0.6, 0.754))
    0.680 [0.600, 0.754]
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the interval."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one is than another, on the same problems.

    Args:
        estimate: the difference of the means.
        p: two-sided bootstrap p-value of no difference.
    """

    estimate: Estimate
    p: float


class Resamples:
    """The same problems drawn again with replacement, B times: multinomial weights that every curve shares.

    Sharing them is what pairs the curves: a hard problem is hard for both methods, so it cancels in their difference,
    whose interval is narrower than the intervals of the two suggest. It measures which problems were asked, and with
    them the luck of each problem's samples; it does not measure a choice made by looking at the results.

    Args:
        problems: how many there are (count).
        draws: B (count).
        seed: of the resampling.
    """

    def __init__(self, problems: int, draws: int = 1000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(problems, np.full(problems, 1 / problems), size=draws)
        self.weights: Array = counts / problems

    def means(self, values: Array) -> Array:
        """The mean over problems in each resample: `values` is (P, ...), the result (B, ...)."""
        return np.tensordot(self.weights, values, axes=1)


def intervals(resampled: Array) -> tuple[Array, Array]:
    """Lower and upper bounds by percentiles of the resamples: (B, ...) to (...) twice."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail), axis=0)
    return low, high


def estimate(value: float, resampled: Array) -> Estimate:
    """A value with the percentile interval of its resamples (B)."""
    low, high = intervals(resampled)
    return Estimate(float(value), float(low), float(high))


def difference(value: float, resampled: Array) -> Difference:
    """A difference with its interval and p-value: the share of resamples on the far side of zero, doubled."""
    far = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    return Difference(estimate(value, resampled), min(1.0, 2 * (far + 1) / (len(resampled) + 1)))


def proportion(right: int, of: int) -> Estimate:
    """A share with its exact (Clopper-Pearson) interval, good for small counts and for 0 and all.

    >>> print(proportion(0, 10))
    0.000 [0.000, 0.308]
    """
    if not of:
        return Estimate(float("nan"), 0.0, 1.0)
    tail = (1 - LEVEL) / 2
    low = float(betaincinv(right, of - right + 1, tail)) if right else 0.0
    high = float(betaincinv(right + 1, of - right, 1 - tail)) if right < of else 1.0
    return Estimate(right / of, low, high)
