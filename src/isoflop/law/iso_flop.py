"""Iso-FLOP profiles: a parabola through the losses at one budget, its minimum, and how far off that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isoflop.law.chinchilla import Chinchilla
from isoflop.law.columns import BadData
from isoflop.law.engine import Floats
from isoflop.law.fitted import Fit


class Profile(NamedTuple):
    """The bottom of one iso-FLOP curve.

    Args:
        flops: its budget (FLOP).
        params: size at the minimum (count).
        tokens: flops / (6 params) (count).
        loss: of the parabola there.
        inside: whether the minimum lies among the sizes that were run.
    """

    flops: float
    params: float
    tokens: float
    loss: float
    inside: bool


@dataclass(frozen=True, slots=True)
class Approach2:
    """Best size and data as powers of compute, from the bottoms of iso-FLOP curves.

    Args:
        profiles: the curves' bottoms.
        size_exponent: a in N* ~ C^a.
        size_factor: its factor.
        data_exponent: b in D* ~ C^b.
        data_factor: its factor.
    """

    profiles: tuple[Profile, ...]
    size_exponent: float
    size_factor: float
    data_exponent: float
    data_factor: float

    def params(self, flops: ArrayLike) -> Floats:
        """Best size at a budget (count)."""
        return self.size_factor * np.asarray(flops, float) ** self.size_exponent

    def tokens(self, flops: ArrayLike) -> Floats:
        """Best data at a budget (count)."""
        return self.data_factor * np.asarray(flops, float) ** self.data_exponent


def profile(flops: float, params: ArrayLike, loss: ArrayLike) -> Profile:
    """Fit loss = parabola in log N to the runs at one budget.

    Raises:
        BadData: fewer than four runs, or a parabola without a minimum.
    """
    log_n, measured = np.log(np.asarray(params, float)), np.asarray(loss, float)
    if len(log_n) < 4:
        raise BadData(f"{len(log_n)} runs at {flops:g} FLOP: a parabola needs at least 4")
    middle = float(log_n.mean())
    curve, slope, level = (float(v) for v in np.polyfit(log_n - middle, measured, 2))
    if curve <= 0:
        raise BadData(f"the runs at {flops:g} FLOP have no minimum: add sizes on both sides")
    best = -slope / (2 * curve)
    size = float(np.exp(middle + best))
    inside = bool(log_n.min() <= middle + best <= log_n.max())
    return Profile(flops, size, flops / (6 * size), level + slope * best + curve * best * best, inside)


def approach_2(profiles: Sequence[Profile], weights: ArrayLike | None = None) -> Approach2:
    """Regress log N* and log D* on log C over the bottoms of the curves (Hoffmann et al. 2022, approach 2).

    Args:
        profiles: at least two.
        weights: of each in the regression, as 1/variance; all alike if not given.

    Raises:
        BadData: fewer than two budgets.
    """
    if len({p.flops for p in profiles}) < 2:
        raise BadData("iso-FLOP curves at two budgets at least are needed")
    log_c = np.log([p.flops for p in profiles])
    root = None if weights is None else np.sqrt(np.asarray(weights, float))
    a, log_n = np.polyfit(log_c, np.log([p.params for p in profiles]), 1, w=root)
    b, log_d = np.polyfit(log_c, np.log([p.tokens for p in profiles]), 1, w=root)
    return Approach2(tuple(profiles), float(a), float(np.exp(log_n)), float(b), float(np.exp(log_d)))


def parabola_bias(flops: float, budgets: ArrayLike, span: float, points: int = 15, **law: float) -> float:
    """How far approach 2 would be off with no noise at all, if Chinchilla's law held: D*(flops) relative to the truth.

    Loss along a curve is no parabola in log N, so the wider the grid the lower the estimated data; the exponents stay
    right.

    Args:
        flops: where the extrapolation is asked for (FLOP).
        budgets: of the iso-FLOP curves (FLOP).
        span: grids reach from the best size divided by this to it times this.
        points: runs on each curve (count).
        law: E, A, B, alpha, beta.

    >>> truth = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    >>> round(parabola_bias(1e24, [1e17, 1e18, 1e19, 1e20, 1e21], span=4.0, **truth), 5)
    -0.01301
    """
    chinchilla = Chinchilla()
    a, b = law["alpha"], law["beta"]
    ratio = (a * law["A"] / (b * law["B"])) ** (1 / (a + b))

    def best_tokens(c: float) -> float:
        return (c / 6) ** (a / (a + b)) / ratio

    profiles: list[Profile] = []
    for c in np.asarray(budgets, float):
        d = best_tokens(float(c)) * np.geomspace(1 / span, span, points)
        profiles.append(profile(float(c), c / (6 * d), chinchilla.value(c / (6 * d), d, **law)))
    return float(approach_2(profiles).tokens(flops)) / best_tokens(flops) - 1


class Bias(NamedTuple):
    """What approach 2 would say by these runs' own law.

    Args:
        flops: ten times the largest run (FLOP).
        span: how far each curve reaches to both sides of its best size (factor).
        tokens: estimated best data there, relative to the law's own, less 1.
    """

    flops: float
    span: float
    tokens: float


def bias_of(fit: Fit, span: float = 4.0) -> Bias | None:
    """How far parabolas through iso-FLOP curves at the runs' budgets would be off, if the fitted law held.

    None where it cannot be said: another law than `chinchilla`, a parameter that these runs cannot tell, or no minimum
    on some curve.
    """
    if not isinstance(fit.law, Chinchilla):
        return None
    spent = 6 * np.prod(fit.x, axis=0)
    if any(estimate.value is None for estimate in fit.parameters(by="covariance")):
        return None
    values = dict(zip(("E", "A", "B", "alpha", "beta"), fit.law.reported(fit.theta).tolist()))
    flops = 10 * float(spent.max())
    try:
        off = parabola_bias(flops, np.geomspace(float(spent.min()), float(spent.max()), 5), span, **values)
    except BadData:
        return None
    return Bias(flops, span, off)
