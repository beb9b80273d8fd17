"""Cost of a convolutional network scaled in depth, width and resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import numpy as np

from isoflop.law.base import Law, Parameter, amplitude, crossed
from isoflop.law.engine import Floats, Objective


@final
@dataclass(frozen=True)
class Compound(Law):
    """cost = c depth^p width^q resolution^r, for FLOPs (1, 2, 2 expected), activations (1, 1, 2) or run-time
    (measured).

    Run-time on memory-bound hardware follows activations, so scaling width, which costs the fewest activations a
    FLOP, is fastest at equal FLOPs.
    """

    inputs: ClassVar[tuple[str, ...]] = ("depth", "width", "resolution")
    output: ClassVar[str] = "cost"
    objective: ClassVar[Objective] = Objective("least_squares")
    source: ClassVar[str] = "Dollar et al. 2021, arXiv 2103.06877, table 1"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """c, p, q, r."""
        return amplitude("c"), *(Parameter(name, -5.0, 5.0, starts=(1.0,)) for name in "pqr")

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed([1, 2, 4], [1, 2, 4], [1, 1.5, 2]), {"c": 3.0, "p": 1.0, "q": 1.1, "r": 2.1}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        logs = np.log(x)
        y = np.exp(theta[:, :1] + sum(theta[:, i + 1 : i + 2] * v for i, v in enumerate(logs)))
        return y, np.stack([y, *(y * v for v in logs)], axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """The product of powers without its factor."""
        unit = theta.copy()
        unit[:, 0] = 0.0
        return self.model(x, unit)[0][:, None, :]


class Scaled(NamedTuple):
    """What each dimension, and the activations, are multiplied by."""

    depth: float
    width: float
    resolution: float
    activations: float


def fast_compound(flops_factor: float, alpha: float = 0.8) -> Scaled:
    """Dimensions for `flops_factor` times the FLOPs, the share alpha of it (in exponents) given to width.

    depth s^((1-alpha)/2), width s^(alpha/2), resolution s^((1-alpha)/4): activations grow as s^(1 - alpha/2), so
    alpha = 1 gives their square root, and alpha = 1/3 uniform scaling.

    >>> tuple(round(v, 6) for v in fast_compound(16.0, alpha=1.0))
    (1.0, 4.0, 1.0, 4.0)
    """
    if not flops_factor > 0 or not 0 <= alpha <= 1:
        raise ValueError(f"flops_factor={flops_factor:g} must be positive and alpha={alpha:g} in [0, 1]")
    s, rest = flops_factor, 1.0 - alpha
    return Scaled(s ** (rest / 2), s ** (alpha / 2), s ** (rest / 4), s ** (1.0 - alpha / 2))
