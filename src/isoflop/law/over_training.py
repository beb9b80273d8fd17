"""Loss of models trained on more, or fewer, tokens than the compute-optimal number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, amplitude, crossed, exponent
from isoflop.law.engine import Floats, Objective


@final
@dataclass(frozen=True)
class OverTraining(Law):
    """L = E + a N^-eta + b (sqrt(6) D)^-eta: parameters and tokens share one exponent.

    So loss against compute falls with the same slope at any ratio M = D/N of tokens to parameters, and only the offset
    moves: small cheap runs at several M predict large over-trained ones. `chinchilla` leaves the exponents free.
    The factor sqrt(6) is the paper's, whose constants are in compute C = 6 N D.
    """

    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens")
    objective: ClassVar[Objective] = Objective("least_squares", scale="linear")
    source: ClassVar[str] = "Gadre et al. 2024, arXiv 2403.08540, eq. 4"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """E, a, b, eta."""
        return Parameter("E", 0.0, 1e3), amplitude("a"), amplitude("b"), exponent("eta")

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(1e7, 1e9, 6), np.geomspace(3e8, 1e11, 6)), {
            "E": 1.84,
            "a": 166.2,
            "b": 366.7,
            "eta": 0.273,
        }

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        log_n, log_d = np.log(x)
        log_d = log_d + 0.5 * np.log(6.0)
        by_n, by_d = (np.exp(theta[:, i : i + 1] - theta[:, 3:4] * v) for i, v in ((1, log_n), (2, log_d)))
        jac = np.stack([np.ones_like(by_n), by_n, by_d, -by_n * log_n - by_d * log_d], axis=1)
        return theta[:, :1] + by_n + by_d, jac

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, N^-eta, (sqrt(6) D)^-eta."""
        unit = theta.copy()
        unit[:, :3] = 0.0
        return self.model(x, unit)[1][:, :3]
