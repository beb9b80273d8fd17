"""What tests of compression share: a net with its own outputs as targets, and a method run on it to its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from isoflop.cost import Meter
from isoflop.cost.ops import OpMeter
from isoflop.method.shrink import Data, Shrinking, ShrinkMethod, Shrunk, Workload


def imitating(net: nn.Module, inputs: torch.Tensor, dev: torch.Tensor | None = None, **facts: Any) -> Shrinking:
    """A net to make cheaper; the score is minus the squared distance to what it says itself."""
    with torch.no_grad():
        data, other = (Data((x,), net.eval()(x)) for x in (inputs, inputs if dev is None else dev))
    return Shrinking(net, Workload("toy", data, other, other, distance, **facts))


def distance(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return -((out - target) ** 2).flatten(1).mean(1)


def run(method: ShrinkMethod, task: Shrinking) -> Sequence[Shrunk]:
    """All that a method yields, without a budget."""
    return list(_running(method, task))


def first(method: ShrinkMethod, task: Shrinking) -> Shrunk:
    """What a method yields first; the rest of its curve is not computed."""
    return next(_running(method, task))


def _running(method: ShrinkMethod, task: Shrinking) -> Iterator[Shrunk]:
    meter = Meter()
    return iter(method.run(task.open("toy", meter, None, 0), meter, np.random.default_rng(0)))


def flops(net: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad(), OpMeter() as ops:
        net(x)
    return ops.flops


def error(net: nn.Module, task: Shrinking) -> float:
    """Mean squared distance to the targets of dev."""
    dev = task.workload.dev
    with torch.no_grad():
        return -distance(net(*dev.inputs), dev.targets).mean().item()
