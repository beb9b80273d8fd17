"""One sample: the baseline of all search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.cost import Meter
from isoflop.method.search.problem import Answer, Problem, SearchMethod


@final
@dataclass(frozen=True)
class Single(SearchMethod):
    """Ask once and take the answer: what every search must beat at equal cost, and a bigger model's curve.

    Cost: 1 sample.
    Buys: pass@1, p.
    """

    source: ClassVar[str] = "baseline"
    cost: ClassVar[str] = "1 sample"
    buys: ClassVar[str] = "p (pass@1)"

    def run(self, problem: Problem, meter: Meter, rng: np.random.Generator) -> Iterator[Answer]:
        """Yield the first sample's answer."""
        (candidate,) = problem.draw(1)
        yield Answer(candidate.answer)
