"""Uniform quantisation of weights, with the clipped range searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from isoflop.cost import Meter
from isoflop.cost.ops import stored_bytes
from isoflop.method.compress.grid import Granularity, Grid
from isoflop.method.compress.packed import on_a_grid, pack_all, sites, with_packed
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk

_ALREADY = "; the weights were on a grid of at most 16 levels before, so this says nothing about 4 bits"


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
        if not sites(problem.module, self.embeddings):
            raise Refused(
                "no linear, convolution, attention, recurrent or embedding layer whose weights are not packed"
            )
        before = stored_bytes(problem.module)
        for bits in self.bits:
            model = problem.copy()
            grid = Grid(bits, self.granularity, self.symmetric, clip=self.clip)
            found = sites(model, self.embeddings)
            with problem.spending():
                packed = pack_all(found, grid.of)
                already = bits <= 4 and on_a_grid(found)
            model = with_packed(model, packed)
            note = f"{bits} bits, {stored_bytes(model) / before:.3f}x bytes"
            yield Shrunk(model, note + (_ALREADY if already else ""))
