"""Growth of an ability with instruction data and model size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import FRACTION, Law, Parameter, coefficient, crossed
from isoflop.law.engine import Floats, Objective


@final
@dataclass(frozen=True)
class InstructionGrowth(Law):
    """score = a + pace log(examples) + size log(params): one fit for each ability, so that paces can be compared.

    Song et al. say that each ability has its own pace, and plot scores on such axes; the form itself is our choice.
    """

    inputs: ClassVar[tuple[str, ...]] = ("examples", "params")
    output: ClassVar[str] = "score"
    objective: ClassVar[Objective] = FRACTION
    source: ClassVar[str] = "after Song et al. 2023, arXiv 2310.19651 (its data, our form)"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """a, pace, size."""
        return coefficient("a"), coefficient("pace"), coefficient("size")

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(np.geomspace(100, 1e5, 6), [7e9, 13e9, 33e9]), {"a": -1.0, "pace": 0.03, "size": 0.05}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        log_d, log_n = np.log(x)
        y = theta[:, :1] + theta[:, 1:2] * log_d + theta[:, 2:3] * log_n
        return y, np.stack([np.broadcast_to(v, y.shape) for v in (np.ones(()), log_d, log_n)], axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, log examples, log params."""
        return self.model(x, np.zeros_like(theta))[1]
