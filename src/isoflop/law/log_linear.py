"""Quality that grows with the logarithm of what was spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import FRACTION, Law, Parameter, coefficient, crossed
from isoflop.law.engine import Floats, Objective


@final
@dataclass(frozen=True)
class LogLinear(Law):
    """y = a + b log x, natural logarithm: the same gain for each doubling.

    Sun et al. found it for vision with data up to 300 M images; agents' success in and out of the training domain
    grows so with demonstrations (Li et al. 2024, arXiv 2406.03679). It passes 1 in the end, so it can be local only.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    output: ClassVar[str] = "accuracy"
    objective: ClassVar[Objective] = FRACTION
    fraction: ClassVar[bool] = True
    source: ClassVar[str] = "Sun et al. 2017, arXiv 1707.02968"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """a, b."""
        return coefficient("a"), coefficient("b")

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(1e3, 1e6, 16)), {"a": -0.2, "b": 0.06}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        (log_x,) = np.log(x)
        y = theta[:, :1] + theta[:, 1:2] * log_x
        return y, np.stack([np.ones_like(y), np.broadcast_to(log_x, y.shape)], axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, log x."""
        return self.model(x, np.zeros_like(theta))[1]
