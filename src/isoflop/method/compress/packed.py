"""Weights held as packed integers, and modules that compute with them: what the quantisers of this folder share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType] - torch gives it no types

from isoflop.cost.ops import stored_bytes
from isoflop.method.shrink import Original, Refused, Shrunk

_PLANES = (4, 2, 1)  # widths that divide a byte
_ROWS = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)  # pyright: ignore[reportPrivateUsage]
_LEAST = 64  # weights; below that tables and scales take what the codes save
_BLOCK, _FEW = 32, 16  # a block of so many weights with no more distinct values than this lies on a 4-bit grid


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes below 2^bits (uint8) as the bytes that hold them: bits / 8 bytes a code, each plane padded to whole bytes.

    A width that does not divide a byte is split into planes that do: 3 bits are a plane of 2 and one of 1.

    >>> pack(torch.tensor([1, 2, 3, 0, 5], dtype=torch.uint8), 3).tolist()
    [57, 1, 16]
    """
    flat, parts, low = codes.flatten(), list[Tensor](), 0
    for width in _widths(bits):
        plane, per_byte = (flat >> low) & ((1 << width) - 1), 8 // width
        plane = torch.cat([plane, plane.new_zeros(-len(plane) % per_byte)]).view(-1, per_byte)
        packed = plane[:, 0].clone()
        for i in range(1, per_byte):
            packed |= plane[:, i] << (i * width)
        parts.append(packed)
        low += width
    return torch.cat(parts)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The `count` codes (uint8) that `pack` made `packed` of."""
    codes, low, at = packed.new_zeros(count), 0, 0
    for width in _widths(bits):
        per_byte = 8 // width
        size = math.ceil(count / per_byte)
        plane = packed[at : at + size]
        shifted = torch.stack([(plane >> (i * width)) & ((1 << width) - 1) for i in range(per_byte)], 1)
        codes |= shifted.view(-1)[:count] << low
        low, at = low + width, at + size
    return codes


def _widths(bits: int) -> list[int]:
    if bits == 8:
        return [8]
    widths: list[int] = []
    for width in _PLANES:
        if bits & width:
            widths.append(width)
    return widths


@dataclass(frozen=True)
class Coded:
    """A matrix [R, C] as codes, and how to read them: value = (levels[row][code] - zero) * scale.

    Args:
        codes: below 2^bits, uint8 [R, C].
        scale: of each group of columns [R, C / group], or one for all [1, 1]; kept in bfloat16.
        zero: the code of the value 0, uint8, as `scale` or one for all; None for 0.
        levels: value of each code, a table each for some rows [tables, 2^bits]; None for the code itself.
        table: which table a row uses, uint8 [R]; None where there is one.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None = None
    levels: Tensor | None = None
    table: Tensor | None = None


class PackedTensor(nn.Module):
    """A weight in as few bytes as its codes take; calling it gives the weight back.

    Args:
        coded: the weight as a matrix, first dimension by the rest.
        bits: width of a code.
        like: the weight it stands for; its shape, and its type unless the module is cast later.
    """

    def __init__(self, coded: Coded, bits: int, like: Tensor) -> None:
        super().__init__()
        self.shape, self.bits = tuple(like.shape), bits
        self.register_buffer("codes", pack(coded.codes, bits))
        self.register_buffer("scale", coded.scale.to(torch.bfloat16))
        self.register_buffer("zero", coded.zero)
        self.register_buffer("levels", coded.levels)
        self.register_buffer("table", coded.table)
        self.register_buffer("like", torch.empty(0, dtype=like.dtype, device=like.device))

    def forward(self) -> Tensor:
        """The weight."""
        dtype = cast(Tensor, self.like).dtype
        scale, zero = cast(Tensor, self.scale), cast(Tensor | None, self.zero)
        levels, table = cast(Tensor | None, self.levels), cast(Tensor | None, self.table)
        codes = unpack(cast(Tensor, self.codes), self.bits, math.prod(self.shape)).view(self.shape[0], -1)
        if levels is None:
            values = codes.to(dtype)
        else:
            index = codes.int()
            if table is not None:
                index += (table.int() * levels.shape[1])[:, None]
            values = levels.flatten().index_select(0, index.flatten()).to(dtype)
        grouped = values.view(*scale.shape, -1)
        if zero is not None:
            grouped -= zero[..., None]
        grouped *= scale[..., None].to(dtype)
        return values.view(self.shape)

    def extra_repr(self) -> str:
        """Shape and width."""
        return f"{'x'.join(map(str, self.shape))} in {self.bits} bits"


class Packed(nn.Module):
    """A module some of whose weights are packed; they are unpacked for each call and given back after it.

    So a model takes the packed bytes and, while it runs, one layer's weights on top. It computes as much as before and
    somewhat longer. Weights that others read, as attention reads its output projection's, are there under their names.
    """

    def __init__(self, inner: nn.Module, weights: dict[str, PackedTensor]) -> None:
        super().__init__()
        for name in weights:
            inner.register_parameter(name, None)
        self.inner, self.weights = inner, nn.ModuleDict(weights)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes with the weights unpacked."""
        call = cast(Callable[..., Any], functional_call)
        return call(self.inner, {name: weight() for name, weight in self.weights.items()}, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__["_modules"]
        if name in own:
            return own[name]
        return own["weights"][name]() if name in own["weights"] else getattr(own["inner"], name)


@dataclass(frozen=True)
class Site:
    """A weight that can be packed.

    Args:
        owner: the module that has it, by its name in the model; "" is the model itself.
        name: the parameter's name in its owner.
        weight: its values.
    """

    owner: str
    name: str
    weight: Tensor


def sites(model: nn.Module, embeddings: bool = True) -> list[Site]:
    """The weights of a model that can be packed: matrices of linear, convolution, attention and recurrent layers.

    Args:
        model: in any state; layers that are packed already are passed by.
        embeddings: those of embeddings too.
    """
    kinds = (*_ROWS, nn.Embedding, nn.EmbeddingBag) if embeddings else _ROWS
    found: list[Site] = []
    for owner, module in _unpacked(model):
        if isinstance(module, kinds):
            found += [
                Site(owner, name, p.detach())
                for name, p in module.named_parameters(recurse=False)
                if p.ndim > 1 and p.is_floating_point() and p.numel() >= _LEAST
            ]
    return found


def _unpacked(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A module and those inside it, each once a name, without what is packed."""
    if isinstance(module, Packed):
        return
    yield prefix, module
    for name, child in module.named_children():
        yield from _unpacked(child, f"{prefix}.{name}" if prefix else name)


def with_packed(model: nn.Module, packed: dict[tuple[str, str], PackedTensor]) -> nn.Module:
    """`model`, changed to compute with packed weights, given by owner and name.

    A weight that several layers share, such as an embedding and the last layer of a language model, stays shared if
    each of its sites is given.
    """
    owners: dict[str, dict[str, PackedTensor]] = {}
    for (owner, name), weight in packed.items():
        owners.setdefault(owner, {})[name] = weight
    for owner in sorted(owners, key=len, reverse=True):  # those inside others first
        wrapped = Packed(model.get_submodule(owner), owners[owner])
        if not owner:
            return wrapped
        model.set_submodule(owner, wrapped)
    return model


def pack_all(found: list[Site], make: Callable[[Site], PackedTensor]) -> dict[tuple[str, str], PackedTensor]:
    """Each weight packed by `make`, once for weights that are shared."""
    made: dict[int, PackedTensor] = {}
    packed: dict[tuple[str, str], PackedTensor] = {}
    for site in found:
        key = site.weight.data_ptr()
        if key not in made:
            made[key] = make(site)
        packed[site.owner, site.name] = made[key]
    return packed


def on_a_grid(found: list[Site]) -> bool:
    """Whether most weights lie on a grid of at most 16 levels already, in blocks of 32 as 4-bit files have them.

    To quantise such weights again to as many bits costs nothing and says nothing: a model must not pass for having
    survived 4 bits because it was at 4 bits before.
    """
    few = every = 0
    for site in found:
        flat = site.weight.flatten()
        blocks = flat[: len(flat) // _BLOCK * _BLOCK].view(-1, _BLOCK)
        blocks = blocks[:: max(1, len(blocks) // 256)].sort(1).values
        few += int(((blocks.diff(dim=1) != 0).sum(1) < _FEW).sum())
        every += len(blocks)
    return few > 0.9 * every > 0


def sites_to_pack(problem: Original, embeddings: bool) -> list[Site]:
    """The original's sites.

    Raises:
        Refused: it has none.
    """
    found = sites(problem.module, embeddings)
    if not found:
        raise Refused("no linear, convolution, attention, recurrent or embedding layer whose weights are not packed")
    return found


def at_width(bits: int, problem: Original, model: nn.Module, packable: list[Site], how: str = "") -> Shrunk:
    """A packed model with a note of its width, how it came about, and its share of the original's bytes.

    Args:
        bits: a weight (count).
        problem: of the original.
        model: packed.
        packable: the original's sites; that they were on a grid as coarse before is noted.
        how: words for the note.
    """
    note = f"{bits} bits{how}, {stored_bytes(model) / stored_bytes(problem.module):.3f}x bytes"
    with problem.spending():
        already = bits <= 4 and on_a_grid(packable)
    if already:
        note += "; the weights were on a grid of at most 16 levels before, so this says nothing about 4 bits"
    return Shrunk(model, note)
