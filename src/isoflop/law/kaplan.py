"""Loss from parameters and tokens, after Kaplan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, crossed
from isoflop.law.engine import Floats, project


@final
@dataclass(frozen=True)
class Kaplan(Law):
    """L(N, D) = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D, with no irreducible loss.

    N is without embeddings. The constants of this joint form are another set than those of its one-variable limits.
    """

    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens")
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """N_c, D_c, alpha_N, alpha_D."""
        exponents = (0.05, 0.1, 0.2, 0.35)
        return (
            Parameter("N_c", 1e-10, 1e40, log=True, starts=(1.0,)),
            Parameter("D_c", 1e-10, 1e40, log=True, starts=(1.0,)),
            Parameter("alpha_N", 1e-3, 3.0, starts=exponents),
            Parameter("alpha_D", 1e-3, 3.0, starts=exponents),
        )

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 6)), {
            "N_c": 6.4e13,
            "D_c": 1.8e13,
            "alpha_N": 0.076,
            "alpha_D": 0.103,
        }

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        log_n, log_d = np.log(x)
        alpha_d = theta[:, 3:4]
        ratio = theta[:, 2:3] / alpha_d
        short_n = theta[:, :1] - log_n
        log_a, log_b = ratio * short_n, theta[:, 1:2] - log_d
        log_u = np.logaddexp(log_a, log_b)
        y = np.exp(alpha_d * log_u)
        share = np.exp(log_a - log_u)
        jac = np.empty((len(theta), 4, x.shape[-1]))
        jac[:, 0] = y * alpha_d * share * ratio
        jac[:, 1] = y * alpha_d * (1.0 - share)
        jac[:, 2] = y * share * short_n
        jac[:, 3] = y * (log_u - share * log_a)
        return y, jac

    def starts(self, x: Floats, y: Floats, weights: Floats) -> Floats:
        """For each pair of exponents y^(1/alpha_D) is linear in N_c^ratio and D_c."""
        theta = super().starts(x, y, weights)
        for row in theta:
            ratio = row[2] / row[3]
            # Scaled by the middle of the data, as N^-ratio alone is far from 1.
            middle = np.exp(np.log(x).mean(axis=1, keepdims=True))
            basis = np.stack([(x[0] / middle[0]) ** -ratio, middle[1] / x[1]])
            target = (y / y.mean()) ** (1 / row[3])
            found = np.maximum(project(basis[None], target, weights / target**2, np.array([True, True]))[0], 1e-2)
            scale = np.log(y.mean()) / row[3]
            row[0] = np.log(middle[0, 0]) + (np.log(found[0]) + scale) / ratio
            row[1] = np.log(middle[1, 0]) + np.log(found[1]) + scale
        return np.clip(theta, *self.bounds())
