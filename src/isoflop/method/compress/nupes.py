"""NUPES: weights on a grid that is even in a power of them, exponent and weights learned together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.cost import Meter
from isoflop.method.compress.grid import Grid
from isoflop.method.compress.learned import Schedule, SoftLevels, learn
from isoflop.method.compress.packed import PackedTensor, Site, at_width, pack_all, sites, sites_to_pack, with_packed
from isoflop.method.shrink import Original, ShrinkMethod, Shrunk

_GOLDEN = (math.sqrt(5) - 1) / 2
_EXPONENTS = (0.3, 1.0)
_TRIES = 6  # narrow the range of exponents to 0.7 * 0.618^5 = 0.06
_SAMPLE = 16384  # weights of a layer that its exponent is searched on


class PowerLevels(nn.Module):
    """The levels sign(k) * (|k| / K)^(1 / a) with a learnable exponent `a` [1, 2K + 1].

    The derivative by `a` is -level * log(|k| / K) / a^2: at k = 0 it is 0 times infinity, so 0 is left out of it.
    """

    def __init__(self, bits: int, exponent: float) -> None:
        super().__init__()
        top = 2 ** (bits - 1) - 1
        self.register_buffer("side", torch.arange(1, top + 1) / top)
        self.exponent = nn.Parameter(torch.tensor(exponent))

    def forward(self) -> Tensor:
        """The levels, ascending."""
        side = torch.as_tensor(self.side) ** (1 / self.exponent.clamp(*_EXPONENTS))
        return torch.cat([-side.flip(0), side.new_zeros(1), side])[None]


@final
@dataclass(frozen=True)
class Nupes(ShrinkMethod):
    """Quantise sign(w) * |w|^a evenly: levels denser near 0, where bell-shaped weights are, for one number a layer.

    First without data: the exponent of least squared error, which is convex in it nearby (golden section on a sample),
    with the clipped range of `clip` searched at each exponent. Then, with calibration data, exponent, scales and
    weights are learned together layer by layer, so that each layer gives the original's outputs though its inputs come
    from quantised layers. Weights move over the whole grid and are not just rounded up or down. Whichever of the two
    is better on the calibration task is yielded. Powers keep products (|x|^a |w|^a = |xw|^a), by which the paper's
    networks need integer arithmetic only; here weights are unpacked through a table and computed with as floats, and
    activations stay as they are.

    Departs from the paper (known from its abstract; no code was published): a weight goes to the level nearest to
    itself and not in the power's domain, the range is clipped, and soft rounding is a sigmoid between two levels.

    Cost: per width, about 7 * 14 passes over a sample and 14 over the weights; then for each layer two inferences on
        `examples` up to it and `steps` forward and backward passes of the layer on `batch` rows.
    Buys: squared error below a clipped even grid's at equal bits where weights are bell-shaped; least at 3 and 4 bits.
    Args:
        bits: widths to yield (count).
        embeddings: quantise tables of embeddings too; those and attention's joint projections are not learned.
        power: search and learn the exponent; else it is 1, and what is learned are scales and weights of an even grid.
        steps: of learning a layer (count); 0 needs no data.
        rate: of learning, in units of the scale.
        batch: rows of a linear layer's inputs, or examples of a convolution's, in a step (count).
        examples: calibration examples that are learned from (count).
    """

    bits: tuple[int, ...] = (6, 5, 4, 3)
    embeddings: bool = True
    power: bool = True
    steps: int = 200
    rate: float = 0.003
    batch: int = 256
    examples: int = 128

    source = "nupes"
    cost = "14 passes over the weights, then steps * forward and backward of each layer on `batch` rows, a width"
    buys = "squared error below that of a clipped even grid of as many bits, where weights are bell-shaped"

    def __post_init__(self) -> None:
        for bits in self.bits:
            Grid(bits)

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield the model at each width.

        Raises:
            Refused: no layer has weights that can be packed.
        """
        packable = sites_to_pack(problem, self.embeddings)
        for bits in self.bits:
            with problem.spending():
                grids = {(s.owner, s.name): power_grid(s.weight, bits) if self.power else Grid(bits) for s in packable}
            model = self._packed(problem.copy(), problem, grids, {})
            how = "data-free"
            if self.steps:
                better = self._learned(problem, grids, rng)
                if problem.merit(better) > problem.merit(model):
                    model, how = better, "learned"
            yield at_width(bits, problem, model, packable, f", {how}")

    def _packed(
        self,
        model: nn.Module,
        problem: Original,
        grids: dict[tuple[str, str], Grid],
        soft: dict[tuple[str, str], SoftLevels],
    ) -> nn.Module:
        """`model` with what was learned packed as it is, and the rest on its grid."""

        def pack(site: Site) -> PackedTensor:
            key = site.owner, site.name
            if key in soft:
                return PackedTensor(soft[key].coded(), grids[key].bits, site.weight)
            return grids[key].pack(site.weight)

        with problem.spending():
            packed = pack_all(sites(model, self.embeddings), pack)
        return with_packed(model, packed)

    def _learned(self, problem: Original, grids: dict[tuple[str, str], Grid], rng: np.random.Generator) -> nn.Module:
        def start(site: Site) -> SoftLevels:
            grid, rows = grids[site.owner, site.name], site.weight.reshape(len(site.weight), -1).float()
            _, scale, _ = grid.quantise(rows)
            if grid.exponent == 1:
                scale = scale * grid.top
            return SoftLevels(rows, scale, PowerLevels(grid.bits, grid.exponent).requires_grad_(self.power))

        model = problem.copy()
        schedule = Schedule(self.steps, self.rate, self.batch, self.examples)
        soft = learn(problem, model, sites(model, self.embeddings), start, schedule, rng)
        return self._packed(model, problem, grids, soft)


def power_grid(weight: Tensor, bits: int) -> Grid:
    """The clipped power grid of least squared error on a sample of a weight's rows; its error is convex nearby."""
    rows = Grid(bits).groups(weight)
    rows = rows[:: max(1, rows.numel() // _SAMPLE)]

    def error(exponent: float) -> float:
        return Grid(bits, exponent=exponent).error(rows)

    low, high = _EXPONENTS
    inner = [high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)]
    errors = [error(x) for x in inner]
    for _ in range(_TRIES - 2):
        if errors[0] < errors[1]:
            high, inner[1], errors[1] = inner[1], inner[0], errors[0]
            inner[0] = high - _GOLDEN * (high - low)
            errors[0] = error(inner[0])
        else:
            low, inner[0], errors[0] = inner[0], inner[1], errors[1]
            inner[1] = low + _GOLDEN * (high - low)
            errors[1] = error(inner[1])
    best = min(zip([*errors, error(1.0)], [*inner, 1.0]))
    return Grid(bits, exponent=best[1])
