"""Uniform quantisation of weights, with the clipped range searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from isoflop.cost import Meter
from isoflop.method.compress.grid import Granularity, Grid
from isoflop.method.compress.packed import at_width, pack_all, sites, sites_to_pack, with_packed
from isoflop.method.shrink import Original, ShrinkMethod, Shrunk


@final
@dataclass(frozen=True)
class Clip(ShrinkMethod):
    """Round weights to an even grid whose range cuts off what is rare: the baseline of every other quantiser.

    A grid as wide as the largest weight spends its levels on outliers. Here each group's range is the one of least
    squared error. No data are needed. Weights are stored packed and unpacked for each call: that saves memory, not
    FLOPs or time. It loses to learned or uneven grids at 4 bits and below, and to `cast` where time is what counts.

    Cost: about 14 passes over the weights for each width; no inference.
    Buys: error falling as 2^-bits while the grid is fine (a bit more is a quarter of the squared error).
    Args:
        bits: widths to yield, 2 to 8 (count).
        granularity: what shares a scale: `tensor`, `channel` (a row of the weight) or a number of columns.
        symmetric: the grid is even around 0; else it runs from the least to the greatest weight.
        embeddings: quantise tables of embeddings too.
        clip: search the range; else it is that of the weights.
    """

    bits: tuple[int, ...] = (8, 6, 5, 4, 3, 2)
    granularity: Granularity = "channel"
    symmetric: bool = True
    embeddings: bool = True
    clip: bool = True

    source = "baseline"
    cost = "about 14 passes over the weights for each width"
    buys = "squared error falls by 4 with each bit while the grid is fine"

    def __post_init__(self) -> None:
        for bits in self.bits:
            Grid(bits, self.granularity, self.symmetric)

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield the model at each width.

        Raises:
            Refused: no layer has weights that can be packed.
        """
        packable = sites_to_pack(problem, self.embeddings)
        for bits in self.bits:
            model = problem.copy()
            grid = Grid(bits, self.granularity, self.symmetric, clip=self.clip)
            with problem.spending():
                packed = pack_all(sites(model, self.embeddings), grid.of)
            yield at_width(bits, problem, with_packed(model, packed), packable)
