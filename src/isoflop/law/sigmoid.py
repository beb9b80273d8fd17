"""A metric that rises from a floor to a ceiling."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Literal, final

import numpy as np
from scipy.special import expit

from isoflop.law.base import FRACTION, Law, Parameter, crossed
from isoflop.law.engine import Floats, Objective


@final
@dataclass(frozen=True)
class Sigmoid(Law):
    """y = floor + span / (1 + exp(-k (u - m))), u = log x or x: a task metric that saturates.

    With `of="linear"`, x a loss and k < 0, it is the second step from loss to accuracy (Bhagia et al. 2024). The
    ceiling floor + span shows only once the metric bends.

    Args:
        of: whether x enters as its logarithm (compute, tokens) or as it is (a loss).
    """

    of: Literal["log", "linear"] = "log"

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    output: ClassVar[str] = "accuracy"
    fraction: ClassVar[bool] = True
    objective: ClassVar[Objective] = FRACTION
    source: ClassVar[str] = "Bhagia et al. 2024, arXiv 2412.04403, eq. 3; Ruan et al. 2024, arXiv 2405.10938"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """floor, span, k, m."""
        return (
            Parameter("floor", 0.0, 1.0),
            Parameter("span", 0.0, 1.0),
            Parameter("k", -1e3, 1e3, starts=(1.0,)),
            Parameter("m", -1e3, 1e3, starts=(1.0,)),
        )

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(1e18, 1e24, 40) if self.of == "log" else np.linspace(0.4, 2.0, 40)), (
            {"floor": 0.25, "span": 0.6, "k": 1.0, "m": 48.0}
            if self.of == "log"
            else {"floor": 0.25, "span": 0.6, "k": -6.0, "m": 1.1}
        )

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        u = np.log(x[0]) if self.of == "log" else x[0]
        away = u - theta[:, 3:4]
        share = np.asarray(expit(theta[:, 2:3] * away), float)
        slope = theta[:, 1:2] * share * (1.0 - share)
        jac = np.stack([np.ones_like(share), share, slope * away, -slope * theta[:, 2:3]], axis=1)
        return theta[:, :1] + theta[:, 1:2] * share, jac

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, and the rise from 0 to 1."""
        unit = theta.copy()
        unit[:, 0], unit[:, 1] = 0.0, 1.0
        share = self.model(x, unit)[0]
        return np.stack([np.ones_like(share), share], axis=1)

    def grid(self, x: Floats, y: Floats) -> Floats:
        """Steepness from the range of x, midpoints in and just outside it."""
        u = np.log(x[0]) if self.of == "log" else x[0]
        reach = float(np.ptp(u))
        sign = 1.0 if np.corrcoef(u, y)[0, 1] >= 0 else -1.0
        steep = [sign * k / reach for k in (2.0, 6.0, 15.0)]
        places = u.min() + reach * np.array([-0.1, 0.25, 0.5, 0.75, 1.1])
        return np.array([[np.nan, np.nan, k, m] for k, m in product(steep, places)])
