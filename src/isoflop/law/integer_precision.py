"""Loss of training with weights, activations and cache in few integer bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from isoflop.law.base import Law, Parameter, amplitude, crossed, exponent
from isoflop.law.engine import Floats


@final
@dataclass(frozen=True)
class IntegerPrecision(Law):
    """Chinchilla's law in effective parameters N prod_x (1 - exp(-P_x/gamma_x)), x = weights, activations, cache.

    The authors warn that their constants are unlikely to be useful elsewhere, and fits differ in shifts of P that
    this form leaves out. A gamma shows only if its bits were varied down to few.
    """

    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens", "weight_bits", "activation_bits", "cache_bits")
    source: ClassVar[str] = "Kumar et al. 2024, arXiv 2411.04330, eqs. 3, 9"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """E, A, B, alpha, beta, gamma_w, gamma_a, gamma_kv."""
        gammas = [Parameter(f"gamma_{x}", 1e-2, 50.0, log=True, starts=(1.0, 3.0)) for x in ("w", "a", "kv")]
        exponents = (0.2, 0.5)
        return (
            Parameter("E", 0.0, 1e3),
            amplitude("A"),
            amplitude("B"),
            exponent("alpha", *exponents),
            exponent("beta", *exponents),
            *gammas,
        )

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        low = [
            (3, 16, 16),
            (16, 3, 16),
            (16, 16, 2),
            (16, 16, 1),
            (6, 6, 6),
            (16, 16, 16),
            (4, 8, 4),
            (2, 16, 16),
            (16, 2, 16),
        ]
        bits = np.array(low, float).T
        sizes = crossed([3e7, 1e8, 4e8], [1e9, 6e9, 3e10], range(len(low)))
        x = np.concatenate([sizes[:2], bits[:, sizes[2].astype(int)]])
        return x, {
            "E": 2.7648,
            "A": 4299.0,
            "B": 18060.0,
            "alpha": 0.4965,
            "beta": 0.4965,
            "gamma_w": 2.6745,
            "gamma_a": 2.2102,
            "gamma_kv": 0.9578,
        }

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        log_n, log_d = np.log(x[:2])
        alpha, beta = theta[:, 3:4], theta[:, 4:5]
        log_effective = log_n
        moves: list[Floats] = []
        for i in range(3):
            u = x[2 + i] / np.exp(theta[:, 5 + i : 6 + i])
            log_effective = log_effective + np.log(-np.expm1(-u))
            moves.append(-u * np.exp(-u) / -np.expm1(-u))
        by_n, by_d = np.exp(theta[:, 1:2] - alpha * log_effective), np.exp(theta[:, 2:3] - beta * log_d)
        columns = [np.ones_like(by_d), by_n, by_d, -by_n * log_effective, -by_d * log_d]
        columns += [-alpha * by_n * move for move in moves]
        return theta[:, :1] + by_n + by_d, np.stack(columns, axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, N_eff^-alpha, D^-beta."""
        unit = theta.copy()
        unit[:, :3] = 0.0
        return self.model(x, unit)[1][:, :3]


def best_bits(gamma: float, parts: int = 3) -> float:
    """Bits P* that are compute-optimal when cost is linear in them and `parts` share one gamma (alpha = beta).

    P* = u gamma with parts u exp(-u) = 1 - exp(-u), at any budget. With one part fewer bits are always better: 0.

    >>> round(best_bits(1.0), 6)
    1.903814
    """
    if parts < 2:
        return 0.0
    return gamma * float(brentq(lambda u: parts * u * np.exp(-u) + np.expm1(-u), 1e-6, 50.0, xtol=1e-13))


def quantisation_loss(params: ArrayLike, tokens: ArrayLike, bits: ArrayLike, **constants: float) -> Floats:
    """Loss added by quantising after training: C_T D^gamma_D / N^gamma_N exp(-P/gamma_post) (Kumar et al., eq. 2)."""
    c = constants
    n, d, p = (np.asarray(v, float) for v in (params, tokens, bits))
    return c["C_T"] * d ** c["gamma_D"] / n ** c["gamma_N"] * np.exp(-p / c["gamma_post"])
