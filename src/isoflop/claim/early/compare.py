"""A conditional model beside its baselines at equal metered cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isoflop.cost import Meter
from isoflop.cost.ops import OpMeter
from isoflop.example import digits
from isoflop.method.conditional.budget import leaves_at
from isoflop.method.conditional.exits import EarlyExit
from isoflop.method.shrink import Data, Original, ShrinkMethod, Shrunk, Workload


@dataclass(frozen=True)
class Point:
    """A module on held-out examples.

    Args:
        quality: the workload's figure.
        flops: of an example on average (count).
    """

    quality: float
    flops: float


def made(method: ShrinkMethod, module: nn.Module, workload: Workload) -> tuple[list[Shrunk], float]:
    """What a method yields, and what that cost once (FLOPs)."""
    meter = Meter()
    found = list(method.run(Original(module, workload, meter, module), meter, np.random.default_rng(0)))
    return found, meter.spent.flops


def point(module: nn.Module, workload: Workload, data: Data, alone: int = 0) -> Point:
    """Quality on all examples, and FLOPs of the first `alone` ones, each computed by itself (0: of all)."""
    free = Original(module, workload, Meter(), module)
    spent: list[float] = []
    with torch.no_grad():
        for row in data.rows(slice(0, alone or len(data))).batches(1):
            with OpMeter() as ops:
                module(*row.inputs)
            spent.append(ops.flops)
    return Point(free.quality(module, data), float(np.mean(spent)))


def left_at(model: EarlyExit, workload: Workload, data: Data) -> tuple[Point, Point]:
    """A model with exits, and the same exits drawn by lot with the same shares: what the rule itself is worth.

    Costs are those of `EarlyExit.costs`, measured for each exit.
    """
    ruled, lot, _ = left_with(model, workload, data)
    return ruled, lot


def left_with(model: EarlyExit, workload: Workload, data: Data) -> tuple[Point, Point, NDArray[np.float64]]:
    """As `left_at`, and the share of examples that leaves at each exit and at the end [K + 1]."""
    with torch.no_grad():
        scores, exits, last = model.every(*data.inputs)
    costs = np.asarray(model.costs(data.rows(slice(0, 1)).inputs))
    at = leaves_at(scores.numpy(), model.thresholds.numpy())
    right = np.stack([workload.scores(out, data) for out in [*exits, last]], 1)
    flops = float(costs[at].mean())
    shares = np.bincount(at, minlength=len(costs)) / len(at)
    ruled = float(right[np.arange(len(at)), at].mean())
    return Point(ruled, flops), Point(float(right.mean(0) @ shares), flops), shares


def both(a: Data, b: Data) -> Data:
    """Examples with targets, and others after them."""
    assert a.targets is not None
    assert b.targets is not None
    inputs = tuple(torch.cat(pair) for pair in zip(a.inputs, b.inputs, strict=True))
    return Data(inputs, torch.cat([a.targets, b.targets]))


def digit_reader() -> tuple[nn.Module, Workload]:
    """The digits network and its workload.

    Raises:
        ModelError: the digits are not here.
    """
    return digits.build(), digits.workload()


def smaller_reader(width: float, data: Data, flops: float) -> nn.Module:
    """A network of digits with narrower blocks, trained from scratch for at most so many FLOPs (an epoch at least)."""
    channels = [max(2, round(c * width)) for c in digits.WIDTHS]
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, channels[0], 3, 2, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()),
        *(digits.Residual(a, b) for a, b in pairwise(channels)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], digits.CLASSES)),
    )
    with OpMeter() as ops, torch.no_grad():
        net.eval()(*data.rows(slice(0, 1)).inputs)
    epochs = max(1, round(flops / (3 * ops.flops * len(data))))  # backward is twice forward
    return digits.trained(net, data, min(epochs, 8))
