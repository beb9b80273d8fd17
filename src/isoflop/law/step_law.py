"""The best learning rate, or batch, as a product of powers of model size and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, amplitude, crossed
from isoflop.law.engine import Floats, Objective


@final
@dataclass(frozen=True)
class StepLaw(Law):
    """y = c N^a D^b for the learning rate that did best at each (N, D); DeepSeek's form, in compute alone, is `power`.

    The best of a grid is known to the grid's spacing only, so the noise is a factor, not a percentage. Users could not
    refit the published exponents from the released table (stepfun-ai/steplaw issue 10): do not transplant them.
    """

    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens")
    output: ClassVar[str] = "learning_rate"
    objective: ClassVar[Objective] = Objective("least_squares")
    source: ClassVar[str] = "Li et al. 2025, arXiv 2503.04715, eq. 1"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """c, a, b."""
        return amplitude("c"), Parameter("a", -5.0, 5.0, starts=(-0.5,)), Parameter("b", -5.0, 5.0, starts=(0.3,))

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(6e7, 1e9, 5), np.geomspace(2e9, 1e11, 5)), {"c": 1.79, "a": -0.713, "b": 0.307}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        log_n, log_d = np.log(x)
        y = np.exp(theta[:, :1] + theta[:, 1:2] * log_n + theta[:, 2:3] * log_d)
        return y, np.stack([y, y * log_n, y * log_d], axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """N^a D^b."""
        unit = theta.copy()
        unit[:, 0] = 0.0
        return self.model(x, unit)[0][:, None, :]
