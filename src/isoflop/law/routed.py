"""Loss of a mixture of experts from dense size and number of experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, coefficient, crossed
from isoflop.law.engine import Floats, Objective, project


@final
@dataclass(frozen=True)
class Routed(Law):
    """log10 L = a log10 N + b log10 X + c log10 N log10 X + d, X an effective number of experts that saturates.

    1/X = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max. With c > 0 routing helps larger models less; where a + c
    log10 X reaches zero it no longer helps. At one number of tokens (130e9 in the paper): data is not in the law.
    """

    inputs: ClassVar[tuple[str, ...]] = ("params", "experts")
    objective: ClassVar[Objective] = Objective("least_squares")
    source: ClassVar[str] = "Clark et al. 2022, arXiv 2202.01169, eqs. 2, 6"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """a, b, c, d, E_start, E_max."""
        return (
            *(coefficient(name) for name in "abcd"),
            Parameter("E_start", 1e-2, 50.0, log=True, starts=(1.0, 3.0)),
            Parameter("E_max", 60.0, 1e6, log=True, starts=(200.0, 1000.0)),
        )

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(1.5e7, 1.3e9, 6), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]), {
            "a": -0.082,
            "b": -0.108,
            "c": 0.009,
            "d": 1.104,
            "E_start": 1.85,
            "E_max": 314.0,
        }

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        log_n = np.log10(x[0])
        start, most = np.exp(theta[:, 4:5]), np.exp(theta[:, 5:6])
        offset = 1.0 / (1.0 / start - 1.0 / most)
        shifted = x[1] - 1.0 + offset
        effective = 1.0 / (1.0 / shifted + 1.0 / most)
        log_x = np.log10(effective)
        a, b, c, d = (theta[:, i : i + 1] for i in range(4))
        y = 10.0 ** (a * log_n + b * log_x + c * log_n * log_x + d)
        by_log_x = y * (b + c * log_n)  # per natural logarithm: ln 10 and log10 cancel
        # d ln X / d ln start and / d ln most, through the offset and directly.
        by_shift = effective / shifted**2
        by_start = by_shift * offset**2 / start
        by_most = -by_shift * offset**2 / most + effective / most
        with_ten = y * np.log(10.0)
        columns = [with_ten * log_n, with_ten * log_x, with_ten * log_n * log_x, with_ten]
        return y, np.stack([*columns, by_log_x * by_start, by_log_x * by_most], axis=1)

    def starts(self, x: Floats, y: Floats, weights: Floats) -> Floats:
        """log10 L is linear in a, b, c, d."""
        values = self.grid(x, y)
        values[:, :4] = 0.0
        theta = np.stack([p.inward(values[:, i]) for i, p in enumerate(self.parameters)], axis=1)
        columns = self.model(x, theta)[1][:, :4] / np.log(10.0)
        theta[:, :4] = project(columns, np.log10(y), weights, np.zeros(4, bool))
        return theta
