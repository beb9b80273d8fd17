"""Weights in int4 where the layers can bear it and in int8 elsewhere; everything else stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast, final

import numpy as np
from torch import nn

from isoflop.cost import Meter
from isoflop.method.compress.linears import NibbleWeights, by_loss, linear_kinds, with_byte_weights
from isoflop.method.compress.packed import on_a_grid, sites
from isoflop.method.compress.tuning import swapped
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk


@final
@dataclass(frozen=True)
class WeightOnly(ShrinkMethod):
    """Weights of linear layers in int4, of those that lose most in int8, for kernels that widen them as they read.

    Where few rows are computed at once, as in decoding, reading weights is what takes time, and products are as
    precise as inputs in bf16 are. Each kind of linear layer (all whose names differ in numbers only; each layer where
    there are few) is tried alone in int4 on calibration data. Growing sets are then yielded, those with the least loss
    for a weight first, with int8 for the others. Rounding is to the nearest level between the least and the greatest
    weight of 32 columns: no search and no learning, for which see `clip` and `nupes`. With many rows at once (a
    prompt) int4 is slower than whole weights, int8 is not. That losses add up is assumed; each set is measured by the
    study. Weights that were in 16 levels before lose nothing by it and prove nothing, which the note then says.

    Cost: (kinds + 1) * inference on `examples` calibration examples.
    Buys: bytes of linear layers by 6.4 (int4) and 4 (int8) from float32; time depends on the machine; no law known.
    Args:
        groups: each linear layer alone up to so many, else by kind (count).
        examples: calibration examples that sensitivity is measured on (count).
    """

    groups: int = 12
    examples: int = 64

    source = "baseline"
    cost = "(kinds of linear layers + 1) * inference on `examples` examples"
    buys = "bytes of linear layers by 6.4 in int4 and 4 in int8; speed by the machine's kernels; no law known"

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield int4 of growing sets of layers, the others in int8.

        Raises:
            Refused: the processor has no fast kernel for int4 weights, or no layer's shape fits it.
        """
        if not NibbleWeights.is_fast():
            raise Refused("PyTorch has a fast kernel of int4 weights for processors with AVX2 or AVX512 only")
        every = linear_kinds(problem.module, self.groups)
        kinds = {
            kind: [n for n in names if NibbleWeights.fits(_at(problem.module, n))] for kind, names in every.items()
        }
        kinds = {kind: names for kind, names in kinds.items() if names}
        if not kinds:
            raise Refused("no linear layer with a multiple of 32 columns and of 16 rows, as int4 weights need")
        with problem.spending():
            order = by_loss(
                problem,
                problem.copy(),
                kinds,
                lambda n: NibbleWeights.rounded(_at(problem.module, n)),
                self.examples,
            )
            light = with_byte_weights(problem.copy())
            before = " (in 16 levels before)" if on_a_grid(sites(problem.module)) else ""
        for i, last in enumerate(order, 1):
            with problem.spending():
                light = swapped(light, {n: NibbleWeights(_at(problem.module, n)) for n in kinds[last]})
            others = f", in int8 in {', '.join(order[i:])}" if order[i:] else ""
            yield Shrunk(copy.deepcopy(light), f"weights in int4{before}{others}")


def _at(model: nn.Module, name: str) -> nn.Linear:
    return cast(nn.Linear, model.get_submodule(name))
