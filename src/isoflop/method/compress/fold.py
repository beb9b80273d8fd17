"""Folding batch norms into the layers before them: the same function in fewer operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.utils._pytree import tree_leaves

from isoflop.cost import Meter
from isoflop.method.compress.tuning import swapped
from isoflop.method.shrink import Data, Original, Refused, ShrinkMethod, Shrunk

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_EXAMPLES = 2
_SAME = 1e-3
"""Share of the largest output by which it may move; rounding moves it by less, a norm that was misplaced by more."""


@final
@dataclass(frozen=True)
class Fold(ShrinkMethod):
    """Multiply the scale and shift of each batch norm into the convolution or linear layer whose output it reads.

    In use a batch norm is a line for each channel, and so is a part of the layer before it. Which norm reads which
    layer is seen by watching one call, and each fold must leave the outputs as they were. Nothing is lost and nothing
    is trained, so it is worth its little gain wherever it applies: small layers, where an operator costs about as much
    as what it computes. Norms behind an activation stay, and so do layers that are called twice or read by others too.

    Cost: two inferences of two examples, and one for each norm.
    Buys: the time of the norms and the bytes that they move; as FLOPs they are not counted.
    """

    source = "textbook; here by PyTorch's `torch.nn.utils.fusion`"
    cost = "an inference for each norm"
    buys = "the norms' operators; the function stays as it was"

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield one model.

        Raises:
            Refused: no batch norm reads a convolution or linear layer directly.
        """
        some = problem.calibration.rows(slice(_EXAMPLES))
        net, folded = problem.copy(), 0
        with problem.spending(), torch.no_grad():
            pairs = read_by_norms(net, some)
            wanted = net(*some.inputs)
            for norm_name, name in pairs.items():
                layer, norm = net.get_submodule(name), net.get_submodule(norm_name)
                swapped(net, {name: _fused(layer, norm), norm_name: nn.Identity()})
                if _agree(net(*some.inputs), wanted):
                    folded += 1
                else:
                    swapped(net, {name: layer, norm_name: norm})
        if not folded:
            raise Refused("no batch norm that alone reads the output of a convolution or linear layer")
        yield Shrunk(net, f"{folded} batch norms folded into the layers before them")


def read_by_norms(net: nn.Module, data: Data) -> dict[str, str]:
    """Names of batch norms, each with the layer whose output it was given, where both were called once."""
    wrote: dict[int, str] = {}
    alive: list[object] = []  # so that no address is used again
    calls: dict[str, int] = {}
    pairs: dict[str, str] = {}

    def watched(name: str) -> Any:
        def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            alive.append(output)
            calls[name] = calls.get(name, 0) + 1
            if type(module) in _NORMS:
                if (layer := wrote.get(id(inputs[0]))) is not None:
                    pairs[name] = layer
            else:
                wrote[id(output)] = name

        return see

    modules = [(n, m) for n, m in cast(Iterator[tuple[str, nn.Module]], net.named_modules()) if _foldable(m)]
    hooks = [module.register_forward_hook(watched(name)) for name, module in modules]
    try:
        net(*data.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {norm: layer for norm, layer in pairs.items() if calls[norm] == calls[layer] == 1}


def _foldable(module: nn.Module) -> bool:
    if type(module) in _NORMS:
        return cast(Any, module).running_mean is not None
    return type(module) in (*_CONVOLUTIONS, nn.Linear) and cast(Any, module).weight is not None  # packed elsewhere


def _fused(layer: nn.Module, norm: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, cast(Any, norm))
    return fuse_conv_bn_eval(cast(Any, layer), cast(Any, norm), isinstance(layer, _CONVOLUTIONS[3:]))


def _agree(a: object, b: object) -> bool:
    pairs = [(x, y) for x, y in zip(tree_leaves(a), tree_leaves(b), strict=True) if isinstance(y, Tensor)]
    return all(torch.allclose(x, y, rtol=0, atol=_SAME * float(y.abs().max()) + 1e-9) for x, y in pairs)
