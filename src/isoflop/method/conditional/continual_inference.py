"""Compute on a stream only what the newest sample changes: continual inference networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.cost import Meter
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk

State = list[Any]
"""What each layer keeps of the samples before; None before the first one."""

_TIME = 2  # the dimension of time in [B, C, T, ...], and of the first kernel size
_OVER_TIME = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d)
_POOLED = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
# Layers that treat each moment alone, in evaluation mode; others say so with an attribute `per_step = True`.
_ALONE = (
    nn.Identity, nn.Dropout, nn.Flatten, nn.Linear, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip


class Sliding(nn.Module):
    """A network on a stream as it is mostly used: at each step the last `window` samples are computed anew.

    Maps a stream [B, C, T, ...] to the network's outputs at all steps [B, S, ...], S = (T - window) // hop + 1.

    Args:
        network: takes a window [B, C, window, ...].
        window: samples it sees (count).
        hop: samples between two steps (count).
    """

    def __init__(self, network: nn.Module, window: int, hop: int = 1) -> None:
        super().__init__()
        self.network, self.window, self.hop = network, window, hop

    def forward(self, stream: Tensor) -> Tensor:
        """Each window from scratch."""
        seen = stream.unfold(_TIME, self.window, self.hop).movedim(_TIME, 1).movedim(-1, _TIME + 1)
        out: Any = self.network(seen.flatten(0, 1))
        return out.unflatten(0, seen.shape[:2])


class Latest(nn.Module):
    """Takes the last token of [B, T, D]: what a network that asks about the present ends its attention with."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, D]."""
        return x[:, -1]


class Alone(nn.Module):
    """A layer that treats each moment alone."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward_step(self, x: Tensor, state: Any) -> tuple[Tensor | None, Any]:
        """One moment through the layer."""
        return self.layer(x), state


class Windowed(nn.Module):
    """A convolution or pooling over `span` moments: keeps them, and computes one output each `stride` moments."""

    def __init__(self, layer: nn.Module, span: int, stride: int) -> None:
        super().__init__()
        self.layer, self.span, self.stride = layer, span, stride

    def forward_step(self, x: Tensor, state: Any) -> tuple[Tensor | None, Any]:
        """The output over the last `span` moments, or None where none is due."""
        held, until = (None, self.span) if state is None else state
        held = x if held is None else torch.cat([held[:, :, max(0, held.shape[_TIME] + 1 - self.span) :], x], _TIME)
        until -= 1
        if until:
            return None, (held, until)
        return self.layer(held), (held, self.stride)


class NewestToken(nn.Module):
    """A transformer layer whose newest token alone is wanted: keys and values of the last `span` tokens are kept."""

    def __init__(self, layer: nn.TransformerEncoderLayer, span: int) -> None:
        super().__init__()
        self.layer, self.span = layer, span

    def forward_step(self, x: Tensor, state: Any) -> tuple[Tensor | None, Any]:
        """The newest token [B, 1, D] after attention to the last `span`, or None before there are as many."""
        layer: Any = self.layer
        queried = layer.norm1(x) if layer.norm_first else x
        q, k, v = functional.linear(queried, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias).chunk(3, 2)
        if state is not None:
            k, v = (torch.cat([old[:, -(self.span - 1) :], new], 1) for old, new in zip(state, (k, v)))
        if k.shape[1] < self.span:
            return None, (k, v)
        count = layer.self_attn.num_heads
        heads: Any = [cast(Any, part).unflatten(2, (count, -1)).transpose(1, 2) for part in (q, k, v)]
        mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        mixed = layer.self_attn.out_proj(mixed)
        if layer.norm_first:
            x = x + mixed
            return x + layer._ff_block(layer.norm2(x)), (k, v)
        x = layer.norm1(x + mixed)
        return layer.norm2(x + layer._ff_block(x)), (k, v)


class Continual(nn.Module):
    """A network in step form; takes and returns what `Sliding` does, and a stream sample by sample.

    Args:
        steps: its layers in step form.
    """

    def __init__(self, steps: list[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward_step(self, sample: Tensor, state: State | None) -> tuple[Tensor | None, State]:
        """The next sample [B, C, ...] and what was kept, to the output [B, ...], if one is due, and what to keep."""
        kept: State = [None] * len(self.steps) if state is None else list(state)
        x: Tensor | None = sample.unsqueeze(_TIME)
        for i, layer in enumerate(self.steps):
            x, kept[i] = cast(Any, layer).forward_step(x, kept[i])
            if x is None:
                return None, kept
        return x, kept

    def forward(self, stream: Tensor) -> Tensor:
        """All steps of a stream [B, C, T, ...]: outputs [B, S, ...]."""
        outputs: list[Tensor] = []
        state: State | None = None
        for sample in stream.unbind(_TIME):
            out, state = self.forward_step(sample, state)
            if out is not None:
                outputs.append(out)
        return torch.stack(outputs, 1)


@final
@dataclass(frozen=True)
class ContinualInference(ShrinkMethod):
    """Give a network that slides over a stream its step form, with the same weights and the same answers.

    Neighbouring windows share all samples but one, and the plain network computes what they share again and again. In
    step form each layer keeps what it has seen and computes the one output that the newest sample completes. Said of
    `Sliding(network, window)`, which is what using a network on a stream costs without it. Convolutions and pooling
    over time, and a transformer layer of which the newest token is wanted, in any nesting of `nn.Sequential`. What pads
    over time is refused: there the edges of a window are not what the stream has there. So is what starts anew in each
    window (recurrent layers). Worth nothing where windows do not overlap.

    Cost: one forward pass of the step form over one calibration example, and one of the original, to compare them.
    Buys: FLOPs per step of one output a layer instead of all outputs in a window: L times fewer where a layer has L.
        Exact but for rounding.
    Args:
        tolerance: largest difference of the two that passes for rounding (fraction of the largest output).
    """

    source = "continual_inference"
    cost = "two passes over one example"
    buys = "FLOPs per step / (outputs of a layer in a window), at the same outputs"

    tolerance: float = 1e-4

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield the step form; see `ShrinkMethod.run`."""
        module = problem.copy()
        modules = cast(Iterator[tuple[str, nn.Module]], module.named_modules())
        places = [name for name, part in modules if isinstance(part, Sliding)]
        if not places:
            raise Refused(
                "no stream: wrap a network that slides over one in continual_inference.Sliding(network, window)"
            )
        example = tuple(x[:1] for x in problem.calibration.inputs)
        for name in places:
            continual = in_steps(cast(Sliding, module.get_submodule(name)), _shape_at(problem.module, name, example))
            module = _with(module, name, continual)
        with problem.spending("verify"), torch.no_grad():
            ours, theirs = module(*example), problem.module(*example)
        apart = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30))
        if not apart <= self.tolerance:
            raise Refused(
                f"in step form the outputs differ by {apart:.1e} of the largest: a layer mixes moments unseen"
            )
        yield Shrunk(module, f"step by step, the same to {apart:.0e} of the largest output")


def in_steps(sliding: Sliding, stream: torch.Size) -> Continual:
    """The step form of a network that slides over streams of some shape [B, C, T, ...].

    Raises:
        Refused: a layer has no step form; the message names it and says why.
    """
    window = torch.empty(1, *stream[1:_TIME], sliding.window, *stream[_TIME + 1 :], device="meta")
    steps, strides = _converted(sliding.network, "network", window)
    if math.prod(strides) != sliding.hop:
        raise Refused(
            f"layers stride over {math.prod(strides)} samples and the window over {sliding.hop}: "
            "windows in between see other samples"
        )
    return Continual(steps)


def _converted(layer: nn.Module, name: str, x: Tensor) -> tuple[list[nn.Module], list[int]]:
    """Step forms of a layer on a window x (meta), and by how much they stride over time."""
    if isinstance(layer, nn.Sequential):
        steps: list[nn.Module] = []
        strides: list[int] = []
        for inner, part in layer.named_children():
            more, strided = _converted(part, f"{name}.{inner}", x)
            steps, strides = steps + more, strides + strided
            x = _on_meta(part, x)
        return steps, strides
    what = f"{name} ({type(layer).__name__})"
    if isinstance(layer, _OVER_TIME):
        shape = ("kernel_size", "stride", "padding", "dilation")
        kernel, stride, padding, dilation = (_first(getattr(layer, field, 1)) for field in shape)
        if padding:
            raise Refused(f"{what} pads over time: at its edges a window is not what the stream has there")
        return [Windowed(layer, (kernel - 1) * dilation + 1, stride)], [stride]
    if isinstance(layer, _POOLED):
        if _first(layer.output_size) != 1:
            raise Refused(f"{what} pools to {layer.output_size}; only one output over time has a step form")
        return [Windowed(layer, x.shape[_TIME], 1)], []
    if isinstance(layer, nn.TransformerEncoderLayer):
        if not cast(Any, layer).self_attn.batch_first:
            raise Refused(f"{what} has time first; give it batch_first=True")
        return [NewestToken(layer, x.shape[1])], []
    if isinstance(layer, nn.Flatten) and x.ndim > _TIME and x.shape[_TIME] > 1:
        raise Refused(f"{what} puts the {x.shape[_TIME]} moments of a window beside each other; pool over them instead")
    if isinstance(layer, (Latest, *_ALONE)) or getattr(layer, "per_step", False):
        return [Alone(layer)], []
    if isinstance(layer, _RECURRENT):
        raise Refused(
            f"{what} starts anew in each window; run it on the stream itself, where it keeps its state anyway"
        )
    raise Refused(f"{what} is not known to treat each moment alone; if it does, give it an attribute per_step = True")


def _first(size: Any) -> int:
    """The size over time of what PyTorch gives as a number, a tuple or a word."""
    if isinstance(size, str):
        return 0 if size == "valid" else 1
    return int(cast(tuple[int, ...], size)[0] if isinstance(size, tuple) else size)


def _on_meta(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(layer).to("meta")(x)


class _Seen(Exception):  # noqa: N818 - carries a shape out of a forward pass
    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape


def _shape_at(module: nn.Module, name: str, example: tuple[Tensor, ...]) -> torch.Size:
    """The shape of what reaches a submodule, worked out without computing."""

    def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _Seen(inputs[0].shape)

    ghost = copy.deepcopy(module).to("meta")
    ghost.get_submodule(name).register_forward_pre_hook(stop)
    try:
        with torch.no_grad():
            ghost(*(x.to("meta") for x in example))
    except _Seen as seen:
        return seen.shape
    raise Refused(f"the stream {name} is not used")


def _with(module: nn.Module, name: str, part: nn.Module) -> nn.Module:
    """The module with a submodule replaced; the empty name is the module itself."""
    if not name:
        return part.eval()
    module.set_submodule(name, part)
    return module.eval()
