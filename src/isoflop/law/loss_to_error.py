"""Task error from loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import FRACTION, Law, Parameter, crossed
from isoflop.law.engine import Floats, Objective


@final
@dataclass(frozen=True)
class LossToError(Law):
    """error = eps - k exp(-gamma L): error averaged over tasks falls exponentially as loss falls.

    For the mean over many tasks; single tasks are too noisy at small scale. `sigmoid` with of="linear" is the
    alternative.
    """

    inputs: ClassVar[tuple[str, ...]] = ("loss",)
    output: ClassVar[str] = "error"
    objective: ClassVar[Objective] = FRACTION
    fraction: ClassVar[bool] = True
    source: ClassVar[str] = "Gadre et al. 2024, arXiv 2403.08540, eq. 5"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """eps, k, gamma."""
        return (
            Parameter("eps", 0.0, 2.0),
            Parameter("k", 0.0, 1e6),
            Parameter("gamma", 1e-3, 20.0, starts=(0.3, 0.8, 2.0)),
        )

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.linspace(2.2, 5.0, 40)), {"eps": 0.86, "k": 2.2, "gamma": 0.71}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        fall = np.exp(-theta[:, 2:3] * x[0])
        return theta[:, :1] - theta[:, 1:2] * fall, np.stack(
            [np.ones_like(fall), -fall, theta[:, 1:2] * fall * x[0]], axis=1
        )

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, -exp(-gamma L)."""
        return self.model(x, theta)[1][:, :2]
