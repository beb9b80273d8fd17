"""Trainings and figures that claims about cheaper networks share: all metered, all on `example.digits`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.claim.base import Finding
from isoflop.cost import Meter
from isoflop.method.shrink import Array, Data, Original, ShrinkMethod, Workload
from isoflop.run.shrink.measure import measure

TRAIN = 3000  # digits trained on
_LEARNT = 0.8
_RATE, _BATCH = 3e-3, 50


@dataclass(frozen=True, eq=False)
class Result:
    """What a contestant brought.

    Args:
        scores: of each test example (N).
        flops: of one use, on average.
        once: FLOPs spent before the first use.
    """

    scores: Array
    flops: float
    once: float

    def figures(self) -> list[float]:
        """Quality, and FLOPs a use and once in millions."""
        return [round(float(self.scores.mean()), 4), round(self.flops / 1e6, 4), round(self.once / 1e6)]

    def above(self, other: Result) -> list[float]:
        """The gain in mean score over another one, with its paired 95 % interval: lowest, mean, highest."""
        gain = self.scores - other.scores
        half = 1.96 * float(gain.std(ddof=1)) / math.sqrt(len(gain))
        return [round(float(gain.mean()) + sign * half, 4) for sign in (-1, 0, 1)]


def has_learnt(whole: Result) -> Finding:
    """Without which nothing that follows would mean anything."""
    accuracy = float(whole.scores.mean())
    return Finding(
        f"the whole model has learnt: at least {_LEARNT:.0%} right", accuracy >= _LEARNT, {"right": accuracy}
    )


def trained(module: nn.Module, work: Workload, steps: int, seed: int = 0) -> float:
    """Train a module in place towards the targets under one cycle of the learning rate: FLOPs spent."""
    meter = Meter()
    problem = Original(module, work, meter, module)
    draw = torch.Generator().manual_seed(seed)
    optimizer: Any = torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    data, loss_of = work.calibration, work.loss
    assert loss_of is not None
    module.train()
    for _ in problem.repeat(steps, "train"):
        part = data.rows(torch.randint(len(data), (_BATCH,), generator=draw))
        optimizer.zero_grad()
        loss = loss_of(module(*part.inputs), part.targets)  # pyright: ignore[reportArgumentType] - the digits have labels
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        optimizer.step()
        cycle.step()
    module.eval()
    return meter.spent.flops


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module whose fresh weights depend on the seed only."""
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.default_generator.manual_seed(seed)
        return build()


def as_good_as(build: Callable[[], nn.Module], work: Workload, once: float, seed: int = 0) -> Result:
    """A fresh module trained for as many steps as `once` FLOPs afford, and tested."""
    step = trained(seeded(build, seed), work, 2, seed) / 2
    module = seeded(build, seed)
    spent = trained(module, work, max(2, int(once / step)), seed)
    return tested(module, work, spent)


def shrunk_by(method: ShrinkMethod, module: nn.Module, work: Workload, before: float) -> list[Result]:
    """What a method yields, tested; `before` is what the module has cost."""
    return [tested(made, work, before + spent) for made, spent in made_by(method, module, work)]


def made_by(method: ShrinkMethod, module: nn.Module, work: Workload) -> list[tuple[nn.Module, float]]:
    """What a method yields, each with the FLOPs spent up to it."""
    meter = Meter()
    problem = Original(module, work, meter, module)
    return [(s.module, meter.spent.flops) for s in method.run(problem, meter, np.random.default_rng(0))]


def tested(module: nn.Module, work: Workload, once: float) -> Result:
    """A module on the test split, metered."""
    found = measure(module, work, work.test, Meter())
    return Result(found.scores, float(found.flops.mean()), once)


def with_inputs(work: Workload, change: Callable[[Tensor], Tensor], train: int, test: int) -> Workload:
    """The digits with their images changed, `train` and `test` of them."""
    parts = [
        Data((change(data.inputs[0]),), data.targets)
        for data in (
            work.calibration.rows(slice(0, train)),
            work.dev.rows(slice(0, test)),
            work.test.rows(slice(0, test)),
        )
    ]
    return Workload(work.name, *parts, score=work.score, loss=work.loss, batch=work.batch)
