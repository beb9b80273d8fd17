"""Steps to a given loss against batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, amplitude, crossed
from isoflop.law.engine import Floats, Objective


@final
@dataclass(frozen=True)
class CriticalBatch(Law):
    """S = S_min + E_min/B: steps to a fixed loss at batch B; with E = S B it is (S/S_min - 1)(E/E_min - 1) = 1.

    At the critical batch E_min/S_min both steps and tokens are twice their least. Below it, larger batches save time
    for nothing; above it, they waste compute.
    """

    inputs: ClassVar[tuple[str, ...]] = ("batch",)
    output: ClassVar[str] = "steps"
    objective: ClassVar[Objective] = Objective("least_squares")
    source: ClassVar[str] = "McCandlish et al. 2018, arXiv 1812.06162, eq. 2.11"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """S_min, E_min."""
        return amplitude("S_min"), amplitude("E_min")

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(1e4, 1e8, 12)), {"S_min": 5e3, "E_min": 4e9}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        few, many = np.exp(theta[:, :1]) * np.ones_like(x[0]), np.exp(theta[:, 1:2]) / x[0]
        return few + many, np.stack([few, many], axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, 1/B."""
        return self.model(x, np.zeros_like(theta))[1]


def critical_batch(S_min: float, E_min: float) -> float:
    """The batch at which steps and examples are both twice their least (in the unit of E_min)."""
    return E_min / S_min
