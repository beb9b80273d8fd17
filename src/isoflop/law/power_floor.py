"""A power law above a floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, amplitude, crossed, exponent
from isoflop.law.engine import Floats


@final
@dataclass(frozen=True)
class PowerFloor(Law):
    """y = E + A x^-alpha: a learning curve with irreducible error E.

    The same form serves loss against data, size or compute. The floor shows only where the curve bends; far from it
    E and alpha trade off against each other.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    output: ClassVar[str] = "y"
    source: ClassVar[str] = "Hestness et al. 2017, arXiv 1712.00409, eq. 2; Henighan et al. 2020, arXiv 2010.14701"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """E, A, alpha."""
        return Parameter("E", 0.0, 1e12), amplitude("A"), exponent("alpha")

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(1e3, 1e8, 30)), {"E": 1.5, "A": 20.0, "alpha": 0.35}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        (log_x,) = np.log(x)
        term = np.exp(theta[:, 1:2] - theta[:, 2:3] * log_x)
        return theta[:, :1] + term, np.stack([np.ones_like(term), term, -term * log_x], axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, x^-alpha."""
        term = np.exp(-theta[:, 2:3] * np.log(x[0]))
        return np.stack([np.ones_like(term), term], axis=1)
