"""From a budget on mean cost to thresholds: which share of inputs leaves at which exit, and at what score."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Shares = Literal["exponential", "gauss", "gamma", "level"]
SHARES: tuple[Shares, ...] = get_args(Shares)
_KNOB = 200.0  # beyond it every family has all its mass on one exit
_HALVINGS = 80


def exit_shares(family: Shares, knob: float, exits: int) -> Floats:
    """The share of inputs that leaves at each of K exits; a larger `knob` moves them to later ones.

    `exponential` p_k ~ r^k with knob = ln r; `gauss` p_k ~ exp(-(k - knob)^2 / 2), of width one exit; `gamma`
    p_k ~ (k + 1)^(knob - 1) exp(-(k + 1)). DeeR has these three; that the knob is the centre and the shape of the
    latter two is ours, so that each reaches from all at the first exit to all at the last.
    """
    k = np.arange(exits, dtype=np.float64)
    if family == "exponential":
        log_p = knob * k
    elif family == "gauss":
        log_p = -((k - knob) ** 2) / 2
    elif family == "gamma":
        log_p = (knob - 1) * np.log(k + 1) - (k + 1)
    else:
        raise ValueError(f"{family!r} is no family of exit shares; use one of {', '.join(SHARES[:3])}")
    p = np.exp(log_p - log_p.max())
    return p / p.sum()


def solve_shares(family: Shares, costs: Sequence[float], budget: float) -> Floats:
    """The shares whose mean cost is `budget`.

    Args:
        family: see `exit_shares`.
        costs: of leaving at each exit, growing (any unit).
        budget: mean cost of an input (same unit).

    Raises:
        ValueError: `budget` is outside of what the exits cost.

    >>> solve_shares("exponential", [1.0, 2.0, 3.0], 2.0).round(3).tolist()
    [0.333, 0.333, 0.333]
    """
    c = np.asarray(costs, np.float64)
    if not c[0] <= budget <= c[-1]:
        raise ValueError(f"a mean of {budget:g} is outside of what the exits cost, {c[0]:g} to {c[-1]:g}")
    low, high = -_KNOB, _KNOB
    for _ in range(_HALVINGS):
        knob = (low + high) / 2
        low, high = (knob, high) if exit_shares(family, knob, len(c)) @ c < budget else (low, knob)
    return exit_shares(family, (low + high) / 2, len(c))


def cut(scores: Floats, shares: Floats) -> Floats:
    """Thresholds at which the given shares of inputs leave at each exit.

    An input leaves at the first exit where its score is at least the threshold, and at the last one in any case.

    Args:
        scores: of each input at each exit but the last [N, K - 1], higher is readier; -inf where it cannot leave.
        shares: of inputs to leave at each of K exits; sum 1.

    Returns:
        Thresholds [K - 1], midway between two scores so that rounding moves nobody; inf where nobody leaves.
    """
    left, gone, wanted = np.ones(len(scores), bool), 0, 0.0
    thresholds = np.full(scores.shape[1], np.inf)
    for k in range(scores.shape[1]):
        wanted += shares[k] * len(scores)
        here = np.sort(scores[left, k])[::-1]
        leaving = min(round(wanted) - gone, int(np.isfinite(here).sum()))
        if leaving > 0:
            below = here[leaving] if leaving < len(here) and np.isfinite(here[leaving]) else here[leaving - 1] - 1.0
            thresholds[k] = (here[leaving - 1] + below) / 2
            out = left & (scores[:, k] >= thresholds[k])
            left &= ~out
            gone += int(out.sum())
    return thresholds


def leaves_at(scores: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """The exit (0 to K - 1) at which each of N inputs leaves; see `cut`."""
    ready = np.concatenate([scores >= thresholds, np.ones((len(scores), 1), bool)], axis=1)
    return ready.argmax(axis=1)


def solve_thresholds(family: Shares, scores: Floats, costs: Sequence[float], budget: float) -> Floats:
    """Thresholds at which N inputs cost `budget` on average.

    The families fix which share leaves where; `level` has one threshold for all exits instead, which lets easy
    inputs leave early wherever they are easy: it wants scores that mean the same at every exit.

    Args:
        family: how inputs are spread over exits.
        scores: see `cut` [N, K - 1].
        costs: of leaving at each of K exits, growing (any unit).
        budget: mean cost of an input (same unit).

    Raises:
        ValueError: `budget` is outside of what the exits cost.
    """
    c = np.asarray(costs, np.float64)
    usable = [k for k in range(scores.shape[1]) if np.isfinite(scores[:, k]).any()]
    kept = [*usable, len(c) - 1]
    if family != "level":
        shares = np.zeros(len(c))
        shares[kept] = solve_shares(family, c[kept].tolist(), budget)
        return cut(scores, shares)
    solve_shares("exponential", c[kept].tolist(), budget)  # refuses what is out of reach
    finite = sorted(cast(list[float], scores[np.isfinite(scores)].tolist()))
    around = [finite[0] - 1.0, *finite, finite[-1] + 1.0]
    levels = [(a + b) / 2 for a, b in pairwise(around)]
    low, high = 0, len(levels) - 1  # the mean cost grows with the level
    while low < high:
        middle = (low + high + 1) // 2
        spent = c[leaves_at(scores, _all_at(levels[middle], scores))].mean()
        low, high = (middle, high) if spent <= budget else (low, middle - 1)
    return _all_at(levels[low], scores)


def _all_at(level: float, scores: Floats) -> Floats:
    return np.array([level] * scores.shape[1], np.float64)
