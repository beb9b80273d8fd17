"""A plain power law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, amplitude, crossed
from isoflop.law.engine import Floats


@final
@dataclass(frozen=True)
class Power(Law):
    """y = A x^-alpha; alpha below zero is growth.

    With alpha in (-1, -0.5) it is how the model size that fits a data set grows with it (Hestness et al. 2017).
    Without a floor it must fail in the end where there is an irreducible loss: see `power_floor`.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    output: ClassVar[str] = "y"
    source: ClassVar[str] = "Hestness et al. 2017, arXiv 1712.00409"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """A, alpha."""
        return amplitude("A"), Parameter("alpha", -5.0, 5.0, starts=(-0.7, 0.1, 0.5))

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(1e3, 1e7, 20)), {"A": 12.0, "alpha": 0.3}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        (log_x,) = np.log(x)
        y = np.exp(theta[:, :1] - theta[:, 1:2] * log_x)
        return y, np.stack([y, -y * log_x], axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """x^-alpha."""
        return np.exp(-theta[:, 1:2, None] * np.log(x))
