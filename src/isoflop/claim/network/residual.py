"""A residual convolutional network of any depth, width and resolution, and what it spends on one image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.cost.ops import OpMeter

_STAGES = 3
_BLOCKS, _CHANNELS, _PIXELS = 3, 16, 32  # of each stage, of the first stage, of an image's side, before scaling


class Spent(NamedTuple):
    """What a network spends on one image.

    Args:
        flops: 2 a multiply-add (FLOP).
        activations: elements that its convolutions put out (count), as Dollar et al. count them.
        seconds: processor time on one thread.
    """

    flops: float
    activations: float
    seconds: float


@final
class Residual(nn.Module):
    """Stages of two-convolution residual blocks; each stage halves the image and doubles the channels.

    Shortcuts are averaged and padded with zeros where a stage begins, so that every convolution is in a block.

    Args:
        depth: blocks in a stage, relative to 3.
        width: channels, relative to 16 in the first stage.
    """

    def __init__(self, depth: float, width: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage in range(_STAGES):
            channels = max(round(_CHANNELS * width), 1) * 2**stage
            for block in range(max(round(_BLOCKS * depth), 1)):
                layers.append(_Block(before, channels, 2 if stage and not block else 1))
                before = channels
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Features of images (B, 3, P, P)."""
        return self.layers(x).mean(dim=(2, 3))


@final
class _Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, channels, 3, stride, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        self.added, self.stride = channels - before, stride

    def forward(self, x: Tensor) -> Tensor:
        changed = self.second(torch.relu(self.first(x)))
        if self.stride > 1:
            x = functional.avg_pool2d(x, self.stride)
        if self.added:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.added))
        return torch.relu(x + changed)


def as_built(depth: float, width: float, resolution: float) -> tuple[float, float, float]:
    """The scale that whole blocks, channels and pixels come to.

    >>> as_built(1.1, 1.03, 1.0)
    (1.0, 1.0, 1.0)
    """
    return (
        max(round(_BLOCKS * depth), 1) / _BLOCKS,
        max(round(_CHANNELS * width), 1) / _CHANNELS,
        round(_PIXELS * resolution / 4) * 4 / _PIXELS,
    )


def measure(scales: Sequence[tuple[float, float, float]], rounds: int = 5) -> list[Spent]:
    """What networks scaled in (depth, width, resolution) spend, timed in turn; the least of the rounds' times counts.

    Args:
        scales: relative to the network of (1, 1, 1).
        rounds: how often each is timed (count).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            built = [_built(scale) for scale in scales]
            counted = [_counted(net, x) for net, x in built]
            seconds = np.full(len(built), np.inf)
            for _ in range(rounds):
                for i, (net, x) in enumerate(built):
                    begun = time.process_time()
                    net(x)
                    seconds[i] = min(seconds[i], time.process_time() - begun)
    finally:
        torch.set_num_threads(threads)
    return [Spent(flops, activations, float(s)) for (flops, activations), s in zip(counted, seconds)]


def _built(scale: tuple[float, float, float]) -> tuple[Residual, Tensor]:
    side = round(_PIXELS * scale[2] / 4) * 4
    return Residual(scale[0], scale[1]).eval(), torch.randn(1, 3, side, side)


def _counted(net: Residual, x: Tensor) -> tuple[float, float]:
    outputs: list[int] = []

    def note(_: nn.Module, __: object, out: Tensor) -> None:
        outputs.append(out.numel())

    hooks = [part.register_forward_hook(note) for part in net.modules() if isinstance(part, nn.Conv2d)]
    with OpMeter() as meter:
        net(x)
    for hook in hooks:
        hook.remove()
    return meter.cost.flops, float(sum(outputs))
