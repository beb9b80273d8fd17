"""Loss from parameters and tokens: E + A/N^alpha + B/D^beta."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, amplitude, crossed, exponent
from isoflop.law.engine import Floats


@final
@dataclass(frozen=True)
class Chinchilla(Law):
    """Loss L(N, D) = E + A/N^alpha + B/D^beta of a model of N parameters trained on D tokens, each seen once."""

    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens")
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, approach 3"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """E, A, B, alpha, beta."""
        return (Parameter("E", 0.0, 1e3), amplitude("A"), amplitude("B"), exponent("alpha"), exponent("beta"))

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(1e7, 3e9, 7), np.geomspace(3e8, 1e11, 7)), {
            "E": 1.82,
            "A": 480.0,
            "B": 2100.0,
            "alpha": 0.35,
            "beta": 0.37,
        }

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        log_n, log_d = np.log(x)
        by_n = np.exp(theta[:, 1:2] - theta[:, 3:4] * log_n)
        by_d = np.exp(theta[:, 2:3] - theta[:, 4:5] * log_d)
        jac = np.empty((len(theta), 5, x.shape[-1]))
        jac[:, 0], jac[:, 1], jac[:, 2], jac[:, 3], jac[:, 4] = 1.0, by_n, by_d, -by_n * log_n, -by_d * log_d
        return theta[:, :1] + by_n + by_d, jac

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, N^-alpha, D^-beta."""
        by_n, by_d = np.exp(-theta[:, 3:5, None] * np.log(x)).transpose(1, 0, 2)
        return np.stack([np.ones_like(by_n), by_n, by_d], axis=1)
