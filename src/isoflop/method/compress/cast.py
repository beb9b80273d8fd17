"""Cast to bf16, or to int8 all but the layers that cannot bear it."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from isoflop.cost import Meter
from isoflop.method.compress.tuning import by_kind, swapped
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk

_STEP = 16  # columns that the kernel of int8 weights reads at once; with others it reads past the end (torch 2.13)
Kernels = Literal["torch_ao", "torchao", "torchao_weights"]


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
    (few rows at once, as in decoding) it is about as fast as int8 products, and inputs keep their precision.

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

    def forward(self, x: Tensor) -> Tensor:
        """x [..., K] to [..., N]."""
        rows = _as(x.reshape(-1, x.shape[-1]), torch.bfloat16)
        product = cast(Tensor, torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scale))
        out = _as(product, x.dtype).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + _as(self.bias, x.dtype)


def _as(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`, and no step in an exported graph where there is nothing to do."""
    return x if x.dtype == dtype else x.to(dtype)


@final
@dataclass(frozen=True)
class Cast(ShrinkMethod):
    """Compute in bf16, there with weights in int8, or in int8 with the layers skipped that lose most, found by trying.

    bf16 halves the bytes and keeps the quality; where a processor multiplies it, it is also faster. Weights alone in
    int8 halve them once more at little loss: the choice where few rows are computed at once. int8 products of every
    linear layer is faster still and often ruins a model, because of a few layers. So each kind of linear layer (all
    layers whose names differ in numbers only; each layer where there are few) is tried alone on calibration data, and
    int8 is then yielded for growing sets, those with the least loss for a weight first: whoever stops at a floor has
    the skip list. It is greedy: that losses add up is assumed, and each set is measured by the study.

    Cost: (kinds + 1) * inference on `examples` calibration examples.
    Buys: bytes by 2 (bf16) and up to 4 (int8); time depends on the machine and has to be measured; no law known.
    Args:
        kernels: int8 products by `torch_ao` (dynamic, fastest on CPUs, a scale a channel), by `torchao` (dynamic), or
            `torchao_weights` (weights only; products in the original's type).
        groups: each linear layer alone up to so many, else by kind (count).
        examples: calibration examples that sensitivity is measured on (count).
    """

    kernels: Kernels = "torch_ao"
    groups: int = 12
    examples: int = 64

    source = "baseline"
    cost = "(kinds of linear layers + 1) * inference on `examples` examples"
    buys = "bytes by 2 in bf16 and up to 4 in int8; speed by the machine's kernels; no law known"

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield bf16, then that with the linear layers' weights in int8, then int8 of growing sets of layers.

        Raises:
            Refused: nothing to cast, or the kernels are not installed.
        """
        if self.kernels != "torch_ao" and find_spec("torchao") is None:
            raise Refused(f"kernels={self.kernels!r} need torchao; install isoflop[shrink], or use torch_ao")
        dtype = _dtype(problem.module)
        kinds = _kinds(problem.module, self.groups)
        if dtype is None or (dtype.itemsize <= 2 and not kinds):
            raise Refused("no weights in float32 for bf16, and no linear layers for int8")
        if dtype.itemsize > 2:
            with problem.spending():
                half = Typed(problem.copy().to(torch.bfloat16), torch.bfloat16, dtype)
            yield Shrunk(half, "bf16")
        whole = ((n, problem.module.get_submodule(n)) for names in kinds.values() for n in names)
        bytewise = [n for n, layer in whole if cast(nn.Linear, layer).in_features % _STEP == 0]
        if bytewise:
            with problem.spending():
                light = problem.copy().to(torch.bfloat16)
                light = swapped(light, {n: ByteWeights(cast(nn.Linear, light.get_submodule(n))) for n in bytewise})
            yield Shrunk(Typed(light, torch.bfloat16, dtype or torch.float32), "bf16, weights in int8")
            yield from self._int8(problem, kinds, dtype)

    def _int8(self, problem: Original, kinds: dict[str, list[str]], dtype: torch.dtype) -> Iterator[Shrunk]:
        model = problem.copy().float()
        with problem.spending():
            small = {
                name: _in_int8(model.get_submodule(name), self.kernels) for names in kinds.values() for name in names
            }
            order = self._by_loss(problem, model, kinds, small)
        done: list[str] = []
        for kind in order:
            done.append(kind)
            shrunk = swapped(problem.copy().float(), {name: small[name] for k in done for name in kinds[k]})
            skipped = [k for k in kinds if k not in done]
            note = "int8" + (f" without {', '.join(skipped)}" if skipped else "")
            yield Shrunk(_called_in(shrunk, dtype), note)

    def _by_loss(
        self, problem: Original, model: nn.Module, kinds: dict[str, list[str]], small: dict[str, nn.Module]
    ) -> list[str]:
        """Kinds by the quality that each alone costs for a weight, the least first."""
        some, dtype = problem.calibration.rows(slice(self.examples)), _dtype(problem.module)
        loss: dict[str, float] = {}
        whole = problem.merit(_called_in(model, dtype), some)
        for kind, names in kinds.items():
            kept = {name: model.get_submodule(name) for name in names}
            weights = sum(cast(Tensor, layer.weight).numel() for layer in kept.values())
            model = swapped(model, {name: small[name] for name in names})
            fall = whole - problem.merit(_called_in(model, dtype), some)
            loss[kind] = math.inf if math.isnan(fall) else fall / weights
            model = swapped(model, kept)
        return sorted(kinds, key=lambda kind: loss[kind])


def _called_in(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A model in float32, called and answering in `dtype`."""
    return model if dtype is None or dtype == torch.float32 else Typed(model, torch.float32, dtype)


def _dtype(module: nn.Module) -> torch.dtype | None:
    """The type of a module's first floating-point weight."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def _kinds(module: nn.Module, few: int) -> dict[str, list[str]]:
    """Names of linear layers by kind."""
    modules = cast(Iterator[tuple[str, nn.Module]], module.named_modules())
    return by_kind([name for name, m in modules if type(m) is nn.Linear], few)


def _in_int8(layer: nn.Module, kernels: Kernels) -> nn.Module:
    """A linear layer in int8, each row of its weight with a scale."""
    linear = cast(nn.Linear, layer)
    shape, bias = (linear.in_features, linear.out_features), cast(Tensor | None, linear.bias)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both packages announce moves of their own
        if kernels == "torch_ao":
            ao: Any = importlib.import_module("torch.ao.nn.quantized.dynamic")
            weight = linear.weight.detach()
            scale = (weight.abs().amax(1) / 127.5).clamp(min=torch.finfo(torch.float32).eps)
            small = ao.Linear(*shape, bias is not None, dtype=torch.qint8)
            whole = torch.quantize_per_channel(weight, scale, torch.zeros(len(scale), dtype=torch.long), 0, torch.qint8)
            small.set_weight_bias(whole, None if bias is None else bias.detach())
            return small.eval()
        torchao: Any = importlib.import_module("torchao.quantization")
        made = nn.Sequential(nn.Linear(*shape, bias is not None))
        made[0].load_state_dict(linear.state_dict())
        name = "Int8DynamicActivationInt8WeightConfig" if kernels == "torchao" else "Int8WeightOnlyConfig"
        torchao.quantize_(made.eval(), getattr(torchao, name)())
        made[0].__dict__.pop("extra_repr", None)  # a partial, which cannot be saved
        return made[0]
