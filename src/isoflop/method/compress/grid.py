"""Grids of few levels laid over a weight, with the range that is clipped chosen by the squared error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isoflop.method.compress.packed import Coded, PackedTensor, Site

Granularity = str | int
"""`tensor`, `channel` (a row of the weight), or so many columns of a row (count)."""
_COARSE = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # of the range is kept
_CELLS = 4096
_FINE = (-0.06, -0.04, -0.02, 0.02, 0.04, 0.06)  # around the best coarse one


@dataclass(frozen=True)
class Grid:
    """How values are spread over the codes of a group.

    Symmetric: 2^(bits-1) - 1 levels on each side of 0, at scale * (k / K)^(1 / exponent). Asymmetric: 2^bits levels
    evenly from the least to the greatest value, 0 among them.

    Args:
        bits: of a code (count), 2 to 8.
        granularity: what shares a scale.
        symmetric: around 0.
        exponent: 1 for even spacing; below 1 levels are denser near 0.
        clip: search the range, else it is that of the weights.
    """

    bits: int
    granularity: Granularity = "channel"
    symmetric: bool = True
    exponent: float = 1.0
    clip: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits={self.bits} must be 2 to 8")
        named = self.granularity in ("tensor", "channel")
        if not (named or (isinstance(self.granularity, int) and self.granularity > 0)):
            raise ValueError(f"granularity={self.granularity!r} must be tensor, channel or a number of columns")
        if not self.symmetric and self.exponent != 1:
            raise ValueError("an asymmetric grid has no exponent; use symmetric=True")

    @property
    def top(self) -> int:
        """The greatest code of one side, or of all."""
        return 2 ** (self.bits - 1) - 1 if self.symmetric else 2**self.bits - 1

    def levels(self) -> Tensor:
        """Values of the codes of a symmetric grid at scale 1 [2^bits]; the last code is not used."""
        k = torch.arange(2**self.bits, dtype=torch.float32) - self.top
        return k.sign() * (k.abs() / self.top) ** (1 / self.exponent)

    def groups(self, weight: Tensor) -> Tensor:
        """A weight as one row for each scale [groups, columns of a group]."""
        if self.granularity == "tensor":
            return weight.reshape(1, -1).float()
        rows = weight.reshape(len(weight), -1).float()
        if self.granularity == "channel":
            return rows
        size = min(int(self.granularity), rows.shape[1])
        while rows.shape[1] % size:  # the largest size that divides a row
            size -= 1
        return rows.reshape(-1, size)

    def of(self, site: Site) -> PackedTensor:
        """A site's weight on this grid, packed."""
        return self.pack(site.weight)

    def pack(self, weight: Tensor) -> PackedTensor:
        """The weight on this grid, packed."""
        groups = self.groups(weight)
        codes, scale, zero = self.quantise(groups)
        shape = (1, 1) if len(groups) == 1 else (len(weight), -1)
        if self.exponent != 1:
            coded = Coded(codes.view(len(weight), -1), scale.view(shape), levels=self.levels()[None, :-1].clone())
        else:
            coded = Coded(
                codes.view(len(weight), -1), scale.view(shape), zero.view(-1, 1) if self.symmetric else zero.view(shape)
            )
        return PackedTensor(coded, self.bits, weight)

    def quantise(self, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (uint8) of each value, the scale of each group [groups, 1], and the code of 0, one for all or as it."""
        low, high = _range(groups, self.symmetric)
        if self.clip:
            kept = self._kept(groups, low, high)
            low, high = low * kept, high * kept
        return self._codes(groups, low, high)

    def _kept(self, groups: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """What fraction of each group's range to keep [groups, 1]: first roughly, then around the best."""
        kept, least, nearest = torch.ones_like(high), torch.full_like(high, torch.inf), self._nearest()
        for centre, steps in ((0.0, _COARSE), (1.0, _FINE)):
            around = centre * kept
            for step in steps:
                tried = (around + step).clamp(0.05, 1.0)
                error = self._error(groups, low * tried, high * tried, nearest)
                better = error < least
                kept, least = torch.where(better, tried, kept), torch.where(better, error, least)
        return kept

    def error(self, groups: Tensor) -> float:
        """Sum of squared errors of groups on this grid."""
        return float(((self.values(*self.quantise(groups)) - groups) ** 2).sum())

    def _codes(self, groups: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.exponent != 1:
            scale, levels = _bf16(high), self.levels()[:-1]
            codes = torch.bucketize(groups / scale, (levels[1:] + levels[:-1]) / 2)
            return codes.to(torch.uint8), scale, torch.tensor(self.top, dtype=torch.uint8)
        scale = _bf16((high if self.symmetric else high - low) / self.top)
        zero = torch.tensor(self.top) if self.symmetric else (-low / scale).round().clamp(0, self.top)
        codes = (groups / scale + zero).round().clamp(0, 2 * self.top if self.symmetric else self.top)
        return codes.to(torch.uint8), scale, zero.to(torch.uint8)

    def values(self, codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """What codes stand for."""
        if self.exponent != 1:
            return self.levels()[codes.int()] * scale
        return (codes.float() - zero) * scale

    def _error(self, groups: Tensor, low: Tensor, high: Tensor, nearest: Tensor) -> Tensor:
        """Squared error of each group [groups, 1] if its range is from `low` to `high`."""
        if self.exponent == 1:
            values = self.values(*self._codes(groups, low, high))
        else:
            scale = _bf16(high)
            cell = (groups * (_CELLS / 2 / scale) + _CELLS / 2).clamp(0, _CELLS - 1).int()
            values = nearest.index_select(0, cell.flatten()).view_as(groups) * scale
        return ((values - groups) ** 2).sum(1, keepdim=True)

    def _nearest(self) -> Tensor:
        """The level nearest to the middle of each of many cells of the range: looked up, where a search is slow."""
        middle, levels = (torch.arange(_CELLS) + 0.5) / (_CELLS / 2) - 1, self.levels()[:-1]
        return levels[torch.bucketize(middle, (levels[1:] + levels[:-1]) / 2)]


def _range(groups: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    if symmetric:
        high = groups.abs().amax(1, keepdim=True)
        return -high, _positive(high)
    low, high = groups.amin(1, keepdim=True).clamp(max=0), groups.amax(1, keepdim=True).clamp(min=0)
    return low, low + _positive(high - low)


def _positive(span: Tensor) -> Tensor:
    """A group of zeros has no range; any scale serves it."""
    return torch.where(span > 0, span, torch.ones_like(span))


def _bf16(scale: Tensor) -> Tensor:
    """Rounded as it will be stored, so that codes are chosen for the scale that they will meet."""
    return scale.to(torch.bfloat16).float()
