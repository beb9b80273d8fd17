"""Coverage: the share of problems that at least one of k independent samples solves; and how hard each problem is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from isoflop.frontier.estimate import LEVEL, Array, Estimate, Resamples, intervals, proportion
from isoflop.law.coverage import BetaCoverage, fit_beta_coverage, pass_at_k
from isoflop.record import Graded


@dataclass(frozen=True, eq=False)
class Coverage:
    """Unbiased pass@k of one model with intervals over problems, and the law that extends it.

    Valid where the number of samples did not depend on whether they were right: not where a run stopped a problem at
    its first success.

    Args:
        model: specification of the model.
        problems: of which at least one sample was graded (count).
        left_out: problems of which none was (count); they are in no number here.
        k: how many samples one may try, 1 to the fewest that a problem has (K, count).
        value: coverage at each k (K).
        low: lower ends of its intervals (K).
        high: upper ends (K).
        law: Beta distribution of the problems' success probabilities, fitted to the counts; None where they do not
            show one (all right, all wrong, one sample each).
    """

    model: str
    problems: int
    left_out: int
    k: Array
    value: Array
    low: Array
    high: Array
    law: BetaCoverage | None

    def at(self, k: int) -> Estimate:
        """Measured coverage at k samples.

        Raises:
            ValueError: more samples than every problem has.
        """
        if not 1 <= k <= len(self.k):
            raise ValueError(f"k={k} must lie in 1 to {len(self.k)}, the fewest samples that a problem has")
        return Estimate(float(self.value[k - 1]), float(self.low[k - 1]), float(self.high[k - 1]))

    def forecast(self, k: float) -> Estimate | None:
        """Coverage at k samples by the law, over problems like these; None where there is no law."""
        if self.law is None:
            return None
        expected = self.law.forecast(k, LEVEL)
        return Estimate(float(expected.value), float(expected.low), float(expected.high))


def coverage(graded: Iterable[Graded], split: str | None = None, draws: int = 1000) -> list[Coverage]:
    """The coverage of each model, in order of appearance; models of which nothing was graded are left out."""
    models: dict[str, list[Graded]] = {}
    for g in graded:
        if split is None or g.split == split:
            models.setdefault(g.model, []).append(g)
    return [_coverage(model, rows, draws) for model, rows in models.items() if any(g.n for g in rows)]


def _coverage(model: str, rows: list[Graded], draws: int) -> Coverage:
    some = [g for g in rows if g.n]
    n, c = np.array([g.n for g in some], float), np.array([g.c for g in some], float)
    k = np.arange(1.0, n.min() + 1)
    solved = pass_at_k(n[:, None], c[:, None], k)
    low, high = intervals(Resamples(len(some), draws).means(solved))
    try:
        law = fit_beta_coverage(n, c)
    except ValueError:
        law = None
    return Coverage(model, len(some), len(rows) - len(some), k, solved.mean(axis=0), low, high, law)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How often one model solves one problem.

    Args:
        graded: the counts.
        p: share of right samples, with its exact interval.
    """

    graded: Graded
    p: Estimate


def difficulty(graded: Iterable[Graded]) -> list[Difficulty]:
    """Each problem's success probability, the hardest first; problems without a graded sample are left out."""
    found = (Difficulty(g, proportion(g.c, g.n)) for g in graded if g.n)
    return sorted(found, key=lambda d: (d.p.value, -d.graded.n, d.graded.key))
