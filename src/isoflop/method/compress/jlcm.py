"""JLCM: weights as indices into codebooks that groups of similar neurons share, learned together."""

from __future__ import annotations

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

_SAMPLE = 32768  # weights of a group that its codebook is fitted to
_ROUNDS = 10  # of Lloyd's algorithm
_REFITS = 2  # of codebooks, and scales to them in turn


class Codebooks(nn.Module):
    """Free levels, a row for each group of neurons, kept in ascending order [groups, K]."""

    def __init__(self, levels: Tensor) -> None:
        super().__init__()
        self.free = nn.Parameter(levels)

    def forward(self) -> Tensor:
        """The levels, ascending."""
        return self.free.sort(1).values


@dataclass(frozen=True)
class _Start:
    """Where learning starts: rows [R, C], their scales [R, 1], codebooks [groups, K], and which one a row uses [R]."""

    rows: Tensor
    scale: Tensor
    levels: Tensor
    table: Tensor


@final
@dataclass(frozen=True)
class Jlcm(ShrinkMethod):
    """Give similarly distributed neurons a codebook of their own, then learn codebooks and the indices into them.

    Neurons (rows) are sorted by the shape of their weights' distribution and cut into groups; each has a codebook of
    2^bits values, each row a scale. They start from the better of two by the calibration task, never by weight error:
    k-means, and the clipped even grid. Then, layer by layer, codebooks, scales and indices are learned so that the
    layer gives the original's outputs: a weight is drawn to the nearer of the two codewords around it and so moves to
    neighbours first (the paper's proximal search). It is worth most at 2 and 3 bits, where an even grid has few levels.

    Departs from the paper (known from its abstract; no code was published): rows keep their order, since the order of a
    residual stream is not free, and a byte a row says which codebook is its own.

    Cost: for each width and start, k-means over a sample of each group, inference over the calibration data, and
        learning: for each layer two inferences up to it and `steps` forward and backward passes of it on 256 rows.
    Buys: weight error at most that of the best grid of 2^bits levels; stored bits + 24 / columns bits a weight.
    Args:
        bits: widths to yield (count).
        groups: of neurons, with a codebook each (count).
        embeddings: pack tables of embeddings too; those and attention's joint projections are not learned.
        steps: of learning a layer (count); 0 stops after the start.
        rate: of learning, in units of the scale.
        examples: calibration examples that are learned from (count).
    """

    bits: tuple[int, ...] = (4, 3, 2)
    groups: int = 8
    embeddings: bool = True
    steps: int = 200
    rate: float = 0.003
    examples: int = 128

    source = "jlcm"
    cost = "k-means on samples, then steps * forward and backward of each layer on 256 rows, a width"
    buys = "squared error of weights at most that of the best grid of as many levels, before learning"

    def __post_init__(self) -> None:
        for bits in self.bits:
            Grid(bits)
        if not 1 <= self.groups <= 256:
            raise ValueError(f"groups={self.groups} must be 1 to 256")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield the model at each width.

        Raises:
            Refused: no layer has weights that can be packed.
        """
        packable = sites_to_pack(problem, self.embeddings)
        for bits in self.bits:
            begun: list[tuple[float, nn.Module, dict[tuple[str, str], _Start], str]] = []
            for how in ("k-means", "grid"):
                model = problem.copy()
                with problem.spending():
                    starts = {(s.owner, s.name): self._start(s.weight, bits, how == "k-means") for s in packable}
                model = self._packed(problem, model, starts, bits, {})
                begun.append((problem.merit(model), model, starts, how))
            merit, model, starts, how = max(begun, key=lambda start: start[0])
            if self.steps:
                better = self._learned(problem, starts, bits, rng)
                if problem.merit(better) > merit:
                    model, how = better, f"learned from {how}"
            yield at_width(bits, problem, model, packable, f", {self.groups} codebooks a layer, {how}")

    def _start(self, weight: Tensor, bits: int, means: bool) -> _Start:
        rows = weight.reshape(len(weight), -1).float()
        grid = Grid(bits)
        _, scale, _ = grid.quantise(rows)
        scale = scale * grid.top
        table = _sorted_groups(rows / scale, min(self.groups, len(rows)))
        levels = grid.levels().expand(int(table.max()) + 1, -1).clone()
        levels[:, -1] = levels[:, -2] + 1 / grid.top  # a symmetric grid leaves its last code unused
        for _ in range(_REFITS if means else 0):
            levels = torch.stack([_k_means((rows / scale)[table == g], levels[g]) for g in range(len(levels))])
            scale = _rescaled(rows, scale, levels, table)
        return _Start(rows, scale, levels, table)

    def _packed(
        self,
        problem: Original,
        model: nn.Module,
        starts: dict[tuple[str, str], _Start],
        bits: int,
        soft: dict[tuple[str, str], SoftLevels],
    ) -> nn.Module:
        def pack(site: Site) -> PackedTensor:
            key = site.owner, site.name
            return PackedTensor((soft.get(key) or _soft(starts[key])).coded(), bits, site.weight)

        with problem.spending():
            packed = pack_all(sites(model, self.embeddings), pack)
        return with_packed(model, packed)

    def _learned(
        self, problem: Original, starts: dict[tuple[str, str], _Start], bits: int, rng: np.random.Generator
    ) -> nn.Module:
        model = problem.copy()
        schedule = Schedule(self.steps, self.rate, 256, self.examples)
        found = sites(model, self.embeddings)
        soft = learn(problem, model, found, lambda site: _soft(starts[site.owner, site.name]), schedule, rng)
        return self._packed(problem, model, starts, bits, soft)


def _soft(start: _Start) -> SoftLevels:
    return SoftLevels(start.rows, start.scale, Codebooks(start.levels.clone()), start.table)


def _sorted_groups(unit: Tensor, groups: int) -> Tensor:
    """The group of each row [R]: rows sorted by how peaked their weights are, cut into equal parts."""
    peaked = unit.abs().mean(1) / (unit.square().mean(1).sqrt() + 1e-12)
    rank = torch.empty(len(unit), dtype=torch.long)
    rank[peaked.argsort(stable=True)] = torch.arange(len(unit))
    return rank * groups // len(unit)


def _rescaled(rows: Tensor, scale: Tensor, levels: Tensor, table: Tensor) -> Tensor:
    """The scale of each row [R, 1] that brings its nearest codewords closest to it."""
    fitted = torch.empty_like(scale)
    for g, book in enumerate(levels):
        own = rows[table == g]
        near = book[torch.bucketize(own / scale[table == g], (book[1:] + book[:-1]) / 2)]
        fitted[table == g] = (own * near).sum(1, keepdim=True) / near.square().sum(1, keepdim=True).clamp_min(1e-12)
    return torch.where(fitted > 0, fitted, scale)


def _k_means(values: Tensor, start: Tensor) -> Tensor:
    """Lloyd's algorithm on the line: the codewords [K] of less squared error, from a start and from the quantiles."""
    flat = values.flatten()
    flat = flat[:: max(1, len(flat) // _SAMPLE)].sort().values
    spread = flat[((torch.arange(len(start)) + 0.5) * len(flat) / len(start)).long()]
    found = [_lloyd(flat, begin) for begin in (start, spread)]
    errors = [(book[torch.bucketize(flat, (book[1:] + book[:-1]) / 2)] - flat).square().sum() for book in found]
    return found[int(errors[1] < errors[0])]


def _lloyd(flat: Tensor, levels: Tensor) -> Tensor:
    for _ in range(_ROUNDS):
        nearest = torch.bucketize(flat, (levels[1:] + levels[:-1]) / 2)
        count = torch.zeros_like(levels).index_add_(0, nearest, torch.ones_like(flat))
        total = torch.zeros_like(levels).index_add_(0, nearest, flat)
        levels = torch.where(count > 0, total / count.clamp_min(1), levels).sort().values
    return levels
