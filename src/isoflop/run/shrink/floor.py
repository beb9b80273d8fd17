"""Floors: the least quality that is acceptable, and whether a model is shown to hold it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from isoflop.frontier.estimate import LEVEL, Array, Estimate
from isoflop.method.shrink import Workload, mean

DRAWS = 2000
TAIL = (1 - LEVEL) / 2
"""Probability that a model is taken to hold the floor although it does not, at most."""


@dataclass(frozen=True)
class Floor:
    """The least quality that is acceptable.

    Args:
        value: a quality, or the share of the original's.
        relative: which of the two. Of a negative quality (a loss with its sign turned), a share of 0.99 allows
            1/0.99 of the loss.

    >>> Floor.parse("0.99x").of(0.5), Floor.parse("0.8").of(0.5), Floor.parse("0.5x").of(-2.0)
    (0.495, 0.8, -4.0)
    """

    value: float
    relative: bool

    @staticmethod
    def parse(words: str | float) -> Floor:
        """A floor from words: `0.99x` is a share of the original's quality, `0.8` a quality.

        Raises:
            ValueError: neither.
        """
        found = re.fullmatch(r"\s*([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(x?)\s*", str(words))
        if found is None or (found[2] and not 0 < float(found[1]) <= 1):
            raise ValueError(
                f"floor {words!r} must be a share of the original's quality such as 0.99x (above 0, at most 1x), or a "
                f"quality such as 0.8"
            )
        return Floor(float(found[1]), bool(found[2]))

    def of(self, original: float) -> float:
        """The quality that it asks for, given the original's."""
        if not self.relative:
            return self.value
        return original * self.value if original >= 0 else original / self.value

    def __str__(self) -> str:
        return f"{self.value:g}x" if self.relative else f"{self.value:g}"

    def margin(self, workload: Workload, scores: Array, original: Array, tail: float = TAIL) -> Estimate:
        """How far a model lies above the floor, with an interval: it holds the floor where `low` is not below 0.

        A paired bootstrap over examples of the workload's figure itself, whatever it is, a relative floor moving with
        the original's figure in each resample. Of a mean of right and wrong answers the bootstrap sees too little doubt
        where nearly all agree, so there it is the interval after Agresti and Min (2005, Stat. Med. 24, 729): half an
        example added to each of the four outcomes of the pair.

        Args:
            workload: tells what the figure of many scores is.
            scores: of the model's answers (N).
            original: of the original's answers to the same examples (N).
            tail: probability that the truth lies below `low`, and above `high`.
        """
        if not np.isfinite(scores).all():
            return Estimate(-math.inf, -math.inf, -math.inf)
        value = workload.quality(scores) - self.of(workload.quality(original))
        if workload.quality is mean and set(np.unique(np.concatenate([scores, original]))) <= {0.0, 1.0}:
            return self._of_shares(value, scores, original, tail)
        at = np.random.default_rng(0).integers(len(scores), size=(DRAWS, len(scores)))
        if workload.quality is mean:
            now, was = scores[at].mean(axis=1), original[at].mean(axis=1)
        else:
            now, was = (np.array([workload.quality(of[row]) for row in at]) for of in (scores, original))
        resampled = now - np.array([self.of(x) for x in was])
        low, high = np.quantile(resampled, (tail, 1 - tail))
        return Estimate(value, float(low), float(high))

    def _of_shares(self, value: float, scores: Array, original: Array, tail: float) -> Estimate:
        added = np.array([(s, o) for s in (0.0, 1.0) for o in (0.0, 1.0)])
        s, o = np.concatenate([scores, added[:, 0]]), np.concatenate([original, added[:, 1]])
        weights = np.concatenate([np.ones(len(scores)), np.full(4, 0.5)])
        apart = s - (self.value * o if self.relative else self.value)
        centre = float(np.average(apart, weights=weights))
        spread = math.sqrt(float(np.average((apart - centre) ** 2, weights=weights)) / weights.sum())
        reach = -float(ndtri(tail)) * spread
        return Estimate(value, centre - reach, centre + reach)
