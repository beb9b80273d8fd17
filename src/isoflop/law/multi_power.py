"""Loss along a training run from its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import ArrayLike

from isoflop.law.base import Law, Parameter, amplitude, crossed, exponent
from isoflop.law.engine import Floats, Indices

_PAIRS = 50_000
"""Pairs of a step and a change that are worked on at once."""


@final
@dataclass(frozen=True)
class MultiPower(Law):
    """L(t) = L0 + A S^-alpha + B sum_k (eta_k - eta_(k-1)) G(eta_k^-gamma (S(t) - S(k-1))), G(u) = 1 - (1 + C u)^-beta.

    S(t) is the sum of the learning rate up to step t. The sum over changes starts at step 1 and so runs over the
    warm-up too, which adds about B times the peak rate; leaving the warm-up out puts every prediction 0.1 nats too low.

    Args:
        schedules: learning rate at each step from 1 on, one for each curve (1/step).
        stride: steps that are taken together where the rate changes all the time; 1 is exact.
    """

    schedules: tuple[tuple[float, ...], ...]
    stride: int = 1

    inputs: ClassVar[tuple[str, ...]] = ("curve", "step")
    source: ClassVar[str] = "Luo et al. 2025, arXiv 2503.12811, eq. 1"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """L0, A, alpha, B, C, beta, gamma."""
        return (
            Parameter("L0", 0.0, 1e2),
            amplitude("A"),
            exponent("alpha", 0.3, 0.6),
            amplitude("B"),
            Parameter("C", 1e-6, 1e6, log=True, starts=(0.5, 3.0)),
            exponent("beta", 0.3, 0.7),
            exponent("gamma", 0.3, 0.7),
        )

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        x = crossed(range(1, len(self.schedules) + 1), np.linspace(0.1, 1.0, 25) * min(map(len, self.schedules)))
        return np.round(x), {"L0": 3.0, "A": 0.52, "alpha": 0.5, "B": 364.0, "C": 2.1, "beta": 0.58, "gamma": 0.64}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`; inputs are the curve, counted from 1, and the step."""
        y = np.empty((len(theta), x.shape[-1]))
        jac = np.empty((len(theta), 7, x.shape[-1]))
        for curve in np.unique(x[0]):
            at = x[0] == curve
            y[:, at], jac[:, :, at] = _curve(np.array(self.schedules[int(curve) - 1]), x[1][at], theta, self.stride)
        return y, jac

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, S^-alpha, and the sum over changes of the rate."""
        unit = theta.copy()
        unit[:, 0], unit[:, 1], unit[:, 3] = 0.0, 0.0, 0.0
        return self.model(x, unit)[1][:, [0, 1, 3]]


def warm_up(peak: float, steps: int, then: ArrayLike) -> tuple[float, ...]:
    """A schedule that rises linearly from 0 to `peak` in `steps` steps and goes on as `then` says."""
    return (*(peak * np.arange(1, steps + 1) / steps).tolist(), *np.asarray(then, float).tolist())


def from_rates(curve: Sequence[object], step: ArrayLike, rate: ArrayLike) -> tuple[MultiPower, Floats]:
    """The law with the schedules that a log of learning rates shows, and the number of each row's curve.

    Between logged steps the rate is interpolated; before the first it rises from zero, as a linear warm-up does.
    Steps are taken together so that no schedule has more than 400 changes.

    Args:
        curve: label of each row's run (M).
        step: step of each row (M), from 1 on.
        rate: learning rate there (M).
    """
    names = list(dict.fromkeys(map(str, curve)))
    number = np.array([names.index(str(c)) for c in curve])
    steps, rates = np.asarray(step, float), np.asarray(rate, float)
    schedules: list[tuple[float, ...]] = []
    for i in range(len(names)):
        own = np.flatnonzero(number == i)
        own = own[np.argsort(steps[own], kind="stable")]
        at = np.arange(1, int(steps[own].max()) + 1)
        known = np.interp(at, [0.0, *steps[own]], [0.0, *rates[own]])
        schedules.append(tuple(known.tolist()))
    stride = max(max(map(len, schedules)) // 400, 1)
    return MultiPower(tuple(schedules), stride), number + 1.0


@dataclass(frozen=True, slots=True)
class _Changes:
    """Where a schedule's rate changes: by how much, at which steps (from 0), and the logarithm of the rate from there
    on (K each)."""

    by: Floats
    place: Indices
    log_rate: Floats


def _curve(rate: Floats, steps: Floats, theta: Floats, stride: int) -> tuple[Floats, Floats]:
    l0, log_a, alpha, log_b = (theta[:, i : i + 1] for i in range(4))
    total = np.cumsum(rate)
    spent = total[steps.astype(int) - 1]
    by_s = np.exp(log_a - alpha * np.log(spent))
    change = np.diff(rate, prepend=0.0)
    places = np.flatnonzero(change)
    before = np.concatenate([[0.0], total])[places]
    starts = np.arange(0, len(places), stride)
    if stride > 1 and len(places):
        # A block of changes acts where its middle one is.
        change = np.add.reduceat(change[places], starts)
        middle = np.minimum(starts + stride // 2, len(places) - 1)
        places, before = places[middle], before[middle]
    else:
        change = change[places]
    acting = _Changes(change, places, np.log(np.maximum(rate[places], 1e-300)))
    drop, by_c, by_beta, by_gamma = _drop(acting, (steps, spent, before), theta[:, 4:])
    b = np.exp(log_b)
    columns = [np.ones_like(by_s), by_s, -by_s * np.log(spent), b * drop, b * by_c, b * by_beta, b * by_gamma]
    return l0 + by_s + b * drop, np.stack(columns, axis=1)


def _drop(changes: _Changes, at: tuple[Floats, Floats, Floats], theta: Floats) -> Floats:
    """The sum over changes and its derivative by log C, beta and gamma (4, S, M).

    Only a change before a step acts on it: such pairs lie in one line, by step, for a block of problems at once that
    stays in the processor's cache.
    """
    steps, spent, before = at
    found = np.zeros((4, len(theta), len(steps)))
    log_c, beta, gamma = (theta[:, i : i + 1] for i in range(3))
    scale = np.exp(log_c - gamma * changes.log_rate)
    per_part = 1_000_000 // max(len(changes.place), 1) + 1
    for first in range(0, len(steps), per_part):
        step, change = np.nonzero(steps[first : first + per_part, None] > changes.place)
        if not len(step):
            continue
        acted, begins = np.unique(step, return_index=True)
        since = np.maximum(spent[first + step] - before[change], 0.0)
        by, log_rate = changes.by[change], changes.log_rate[change]
        rows = _PAIRS // len(step) + 1
        for block in (slice(i, i + rows) for i in range(0, len(theta), rows)):
            cu = scale[block, change] * since
            log_one = np.log1p(cu)
            power = by * np.exp(-beta[block] * log_one)
            slope = power * beta[block] * cu / (1.0 + cu)
            for total, parts in zip(found, (by - power, slope, power * log_one, -slope * log_rate)):
                total[block, first + acted] = np.add.reduceat(parts, begins, axis=1)
    return found
