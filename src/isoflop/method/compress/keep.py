"""Keep the model as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from isoflop.cost import Meter
from isoflop.method.shrink import Original, ShrinkMethod, Shrunk


@final
@dataclass(frozen=True)
class Keep(ShrinkMethod):
    """Do nothing: what every other method must beat at equal quality.

    It costs nothing once and everything on each use; a good answer where uses are few.

    Cost: nothing.
    Buys: nothing.
    """

    source = "baseline"
    cost = "nothing"
    buys = "nothing: quality and cost of the original"

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a copy of the original."""
        yield Shrunk(problem.copy(), "as it was")
