"""Linear layers whose weights are held in a byte or half of one, and which of them can bear it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from isoflop.method.compress.tuning import by_kind, swapped
from isoflop.method.shrink import Original

_MANY = 64  # rows of an example from which on it is faster to widen int8 weights first and to multiply in bf16
GROUP = 32  # columns that share a scale and a zero in int4
_STEP = 16  # columns that the kernel of int8 weights reads at once; with others it reads past the end (torch 2.13)
_ROWS = 16  # the kernel of int4 weights takes multiples of it
_FAST = ("AVX2", "AVX512")  # processors for which torch has that kernel; elsewhere it is a plain loop


class Typed(nn.Module):
    """A module that computes in one floating-point type and is called in another.

    Args:
        inner: computes in `computes`.
        computes: type that floating-point inputs are cast to.
        returns: type that floating-point outputs are cast to.
    """

    def __init__(self, inner: nn.Module, computes: torch.dtype, returns: torch.dtype) -> None:
        super().__init__()
        self.inner, self.computes, self.returns = inner, computes, returns

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module inside returns, in the type of the original."""
        args, kwargs = _in_type((args, kwargs), self.computes)
        return _in_type(self.inner(*args, **kwargs), self.returns)


def _in_type(values: Any, dtype: torch.dtype) -> Any:
    def one(x: object) -> object:
        return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x

    return tree_map(one, values)


class ByteWeights(nn.Module):
    """A linear layer whose weights are held in int8, a scale a row, and multiplied in bf16; called in any type.

    The kernel reads a byte a weight and turns it into bf16 in registers, so where reading weights is what takes time
    (few rows at once, as in decoding) it is about as fast as int8 products, and inputs keep their precision. Where
    one example has 64 rows or more the weights are widened first, into twice their bytes for that moment, as the
    kernel is slow then.

    Args:
        linear: the layer, its columns a multiple of 16.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        whole = linear.weight.detach().float()
        scale = (whole.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).eps).bfloat16()
        levels = (whole / scale.float()[:, None]).round().clamp(-127, 127)
        self.register_buffer("weight", levels.to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = cast(nn.Parameter | None, linear.bias)

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether the kernel takes a linear layer of its shape."""
        return cast(nn.Linear, layer).in_features % _STEP == 0

    def forward(self, x: Tensor) -> Tensor:
        """x [..., K] to [..., N]."""
        rows = as_type(x.reshape(-1, x.shape[-1]), torch.bfloat16)
        scale = as_type(self.scale, rows.dtype)
        each: Any = math.prod(x.shape[1:-1])  # by example, so that a batch changes no answer; a symbol in some graphs
        many = isinstance(each, int) and each >= _MANY
        if many or rows.requires_grad:  # the kernel has no derivative
            product = functional.linear(rows, self.weight.to(rows.dtype)) * scale
        else:
            product = cast(Tensor, torch.ops.aten._weight_int8pack_mm(rows, self.weight, scale))
        out = as_type(product, x.dtype).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + as_type(self.bias, x.dtype)


def with_byte_weights(model: nn.Module) -> nn.Module:
    """`model`, changed to hold the weights of its linear layers in int8 where the kernel takes their shape."""
    return swapped(model, {name: ByteWeights(m) for name, m in _linear(model).items() if ByteWeights.fits(m)})


class NibbleWeights(nn.Module):
    """A linear layer whose weights are held in int4, a scale and a zero for each 32 columns; multiplied in bf16.

    A quarter of bf16's bytes and 4 bits a group for scale and zero, so 5 bits a weight. It is called in any type. The
    order of the weights in memory is that of this kind of processor: a pickled layer refuses to load on another, and
    it is not exported to a graph, as no graph would refuse.

    Args:
        linear: the layer, its columns a multiple of 32 and its rows of 16.
    """

    weight: Tensor
    scale_and_zero: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        codes, scale, zero = _in_groups(linear.weight.detach())
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.to(torch.int32), 2)
        self.register_buffer("weight", cast(Tensor, packed))
        self.register_buffer("scale_and_zero", torch.stack([scale, zero], -1).transpose(0, 1).contiguous())
        self.bias = cast(nn.Parameter | None, linear.bias)
        self.order = torch.backends.cpu.get_cpu_capability()

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether the kernel takes a layer of its shape."""
        linear = cast(nn.Linear, layer)
        return linear.in_features % GROUP == 0 and linear.out_features % _ROWS == 0

    @staticmethod
    def is_fast() -> bool:
        """Whether torch has the kernel for this processor."""
        return torch.backends.cpu.get_cpu_capability() in _FAST

    @staticmethod
    def rounded(linear: nn.Linear) -> nn.Linear:
        """A plain layer with the weights that int4 leaves: the same model, faster where rows are many."""
        codes, scale, zero = _in_groups(linear.weight.detach())
        steps = (codes - 8).view(*scale.shape, GROUP) * scale.float()[..., None]
        plain = nn.Linear(linear.in_features, linear.out_features, device="meta")
        values = (steps + zero.float()[..., None]).flatten(1).to(linear.weight.dtype)
        plain.weight, plain.bias = nn.Parameter(values, requires_grad=False), linear.bias
        return plain

    def forward(self, x: Tensor) -> Tensor:
        """x [..., K] to [..., N]."""
        if torch.compiler.is_exporting():
            raise RuntimeError("int4 weights lie in the order of this processor; a graph would not refuse another")
        rows = as_type(x.reshape(-1, x.shape[-1]), torch.bfloat16)
        steps = as_type(self.scale_and_zero, rows.dtype)  # in another after `.float()` on the whole model
        if rows.requires_grad:  # the kernel has no derivative: what it makes of the identity is the weight
            plain = torch.eye(rows.shape[1], dtype=rows.dtype)
            product = rows @ torch.ops.aten._weight_int4pack_mm_for_cpu(plain, self.weight, GROUP, steps)
        else:
            product = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.weight, GROUP, steps)
        out = as_type(cast(Tensor, product), x.dtype).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + as_type(self.bias, x.dtype)

    def __setstate__(self, state: dict[str, Any]) -> None:
        here = torch.backends.cpu.get_cpu_capability()
        if state["order"] != here:
            raise RuntimeError(
                f"this model's int4 weights lie in the order of a processor with {state['order']}, and this one has "
                f"{here}: make the model again here"
            )
        cast(Any, super()).__setstate__(state)


def _in_groups(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes 0 to 15 [N, K], and scale and zero of each 32 columns in bf16 [N, K / 32]: (code - 8) * scale + zero."""
    groups = weight.float().view(len(weight), -1, GROUP)
    low, high = groups.amin(2), groups.amax(2)
    scale = ((high - low) / 15).clamp(min=torch.finfo(torch.float32).eps).bfloat16()
    zero = (low + 8 * scale.float()).bfloat16()
    codes = ((groups - zero.float()[..., None]) / scale.float()[..., None]).round() + 8
    return codes.clamp(0, 15).flatten(1), scale, zero


def as_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`, and no step in an exported graph where there is nothing to do."""
    return x if x.dtype == dtype else x.to(dtype)


def called_in(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A model in float32, called and answering in `dtype`."""
    return model if dtype is None or dtype == torch.float32 else Typed(model, torch.float32, dtype)


def type_of(module: nn.Module) -> torch.dtype | None:
    """The type of a module's first floating-point weight."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def linear_kinds(module: nn.Module, few: int) -> dict[str, list[str]]:
    """Names of linear layers by kind: those that differ in numbers only, or each layer alone up to `few`."""
    return by_kind([*_linear(module)], few)


def _linear(module: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers by name; not those inside a packed one, whose weights it holds in another form."""
    modules = cast(Iterator[tuple[str, nn.Module]], module.named_modules())
    return {name: m for name, m in modules if type(m) is nn.Linear and cast(Tensor | None, m.weight) is not None}


def by_loss(
    problem: Original,
    model: nn.Module,
    kinds: Mapping[str, list[str]],
    other: Callable[[str], nn.Module],
    examples: int,
    dtype: torch.dtype | None = None,
) -> list[str]:
    """Kinds by the quality that each alone costs for a weight, the least first.

    Args:
        problem: its calibration data are asked.
        model: whose layers are changed; as it was when this is done.
        kinds: names of layers.
        other: what a layer becomes, by its name.
        examples: to ask (count).
        dtype: what a model in float32 is called in; None to call it as it is.
    """
    some = problem.calibration.rows(slice(examples))
    loss: dict[str, float] = {}
    whole = problem.merit(called_in(model, dtype), some)
    for kind, names in kinds.items():
        kept = {name: model.get_submodule(name) for name in names}
        weights = sum(cast(Tensor, layer.weight).numel() for layer in kept.values())
        model = swapped(model, {name: other(name) for name in names})
        fall = whole - problem.merit(called_in(model, dtype), some)
        loss[kind] = math.inf if math.isnan(fall) else fall / weights
        model = swapped(model, kept)
    return sorted(kinds, key=lambda kind: loss[kind])
