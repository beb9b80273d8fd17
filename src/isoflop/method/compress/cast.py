"""Cast to bf16, or to int8 all but the layers that cannot bear it."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.cost import Meter
from isoflop.method.compress.linears import (
    ByteWeights,
    Typed,
    by_loss,
    called_in,
    linear_kinds,
    type_of,
    with_byte_weights,
)
from isoflop.method.compress.tuning import swapped
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk

Kernels = Literal["torch_ao", "torchao", "torchao_weights"]


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
        dtype = type_of(problem.module)
        kinds = linear_kinds(problem.module, self.groups)
        if dtype is None or (dtype.itemsize <= 2 and not kinds):
            raise Refused("no weights in float32 for bf16, and no linear layers for int8")
        if dtype.itemsize > 2:
            with problem.spending():
                half = Typed(problem.copy().to(torch.bfloat16), torch.bfloat16, dtype)
            yield Shrunk(half, "bf16")
        if any(ByteWeights.fits(problem.module.get_submodule(n)) for names in kinds.values() for n in names):
            with problem.spending():
                light = with_byte_weights(problem.copy().to(torch.bfloat16))
            yield Shrunk(Typed(light, torch.bfloat16, dtype), "bf16, weights in int8")
        if kinds:
            yield from self._int8(problem, kinds, dtype)

    def _int8(self, problem: Original, kinds: dict[str, list[str]], dtype: torch.dtype) -> Iterator[Shrunk]:
        model = problem.copy().float()
        with problem.spending():
            small = {
                name: _in_int8(model.get_submodule(name), self.kernels) for names in kinds.values() for name in names
            }
            order = by_loss(problem, model, kinds, small.__getitem__, self.examples, dtype)
        done: list[str] = []
        for kind in order:
            done.append(kind)
            shrunk = swapped(problem.copy().float(), {name: small[name] for k in done for name in kinds[k]})
            skipped = [k for k in kinds if k not in done]
            note = "int8" + (f" without {', '.join(skipped)}" if skipped else "")
            yield Shrunk(called_in(shrunk, dtype), note)


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
