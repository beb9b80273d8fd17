"""A model whose redundancy is known, its data, and methods of known effect; also read by processes of their own."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import nn

from isoflop.cost import Meter
from isoflop.method.shrink import Conditional, Data, Original, Refused, ShrinkMethod, Shrunk, Workload

D, H, CLASSES = 16, 64, 4
RANK = D  # of the wide layer, as nothing more can come through its input
MIDDLE = 2 * H * H
WHOLE = 2 * D * H + 2 * MIDDLE + 2 * H * CLASSES
"""FLOPs of one example."""


def build() -> nn.Module:
    """Four linear layers: up, a wide one of rank 16, one that changes nothing, down."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(*(nn.Linear(i, o, bias=False) for i, o in ((D, H), (H, H), (H, H), (H, CLASSES))))
    with torch.no_grad():
        for layer in net:
            layer.weight.normal_(generator=generator)
        up = torch.linalg.qr(net[0].weight).Q
        net[0].weight.copy_(up)
        net[1].weight.copy_(net[1].weight @ up @ up.T)
        net[2].weight.copy_(torch.eye(H))
    return net.eval()


def data(n: int, seed: int) -> Data:
    """Inputs, and what the model says of most of them: one in ten has another class."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, D, generator=generator)
    with torch.no_grad():
        said = build()(x).argmax(1)
    wrong = torch.rand(n, generator=generator) < 0.1
    return Data((x,), torch.where(wrong, (said + 1) % CLASSES, said))


def right(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (out.argmax(1) == target).float()


def task() -> Workload:
    return Workload("toy", data(64, 1), data(256, 2), data(256, 3), right)


def log(words: str) -> None:
    """Tells tests what was computed, in which process ever."""
    if path := os.environ.get("TOY_LOG"):
        with Path(path).open("a") as file:
            file.write(words + "\n")


class Factors(nn.Module):
    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        u, s, v = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        self.down.weight.data = v[:rank].clone()
        self.up.weight.data = (u[:, :rank] * s[:rank]).contiguous()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(x))


class Toy(ShrinkMethod):
    """A method of the tests."""

    source, cost, buys = "here", "little", "known"


@final
@dataclass(frozen=True)
class Factor(Toy):
    """Factor the wide layer; exact down to rank 16."""

    killed_at: int = -1

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        wide = [n for n, m in problem.module.named_children() if isinstance(m, nn.Linear) and rank_of(m) == RANK]
        wide = [n for n in wide if problem.module.get_submodule(n).weight.shape == (H, H)]
        if not wide:
            raise Refused("no wide layer of low rank")
        for step, rank in enumerate((24, 16, 2)):
            log(f"factor {rank}")
            net = problem.copy()
            with problem.spending():
                problem.module(problem.calibration.inputs[0])
                net.set_submodule(wide[0], Factors(net.get_submodule(wide[0]), rank))
            mark = os.environ.get("TOY_KILL")
            if step == self.killed_at and mark and Path(mark).exists():
                Path(mark).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            yield Shrunk(net, f"rank {rank}")


def rank_of(layer: nn.Linear) -> int:
    return int(torch.linalg.matrix_rank(layer.weight.detach(), rtol=1e-4))


@final
@dataclass(frozen=True)
class Skip(Toy):
    """Leave out layers that change nothing."""

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        log("skip")
        net = problem.copy()
        with problem.spending("train"):
            problem.module(problem.calibration.inputs[0])
        for name, m in net.named_children():
            if isinstance(m, nn.Linear) and m.weight.shape == (H, H) and torch.equal(m.weight, torch.eye(H)):
                net.set_submodule(name, nn.Identity())
        yield Shrunk(net, "without the layer that changes nothing")


@final
@dataclass(frozen=True)
class Ruin(Toy):
    """Forget everything: always say class 0."""

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        for cut in (1, 2, 3):
            log(f"ruin {cut}")
            net = problem.copy()
            net[-1].weight.data.zero_()
            net.set_submodule("1", nn.Identity())
            net.set_submodule("2", nn.Identity())
            yield Shrunk(net, f"cut {cut}")


@final
@dataclass(frozen=True)
class Blind(Toy):
    """Leave out the layer that changes nothing, and take class 3 for what it is least like."""

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        net = problem.copy()
        net[-1].weight.data[3] *= -1
        net.set_submodule("2", nn.Identity())
        yield Shrunk(net, "without class 3")


@final
@dataclass(frozen=True)
class Deaf(Toy):
    """Factor the wide layer, and take class 1 for what it is least like."""

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        net = problem.copy()
        net[-1].weight.data[1] *= -1
        net.set_submodule("1", Factors(net[1], RANK))
        yield Shrunk(net, "without class 1")


@final
@dataclass(frozen=True)
class Fail(Toy):
    """Raise what it is told to."""

    what: str = "crash"

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        log("fail")
        yield Shrunk(problem.copy(), "nothing yet")
        if self.what == "memory":
            raise MemoryError
        if self.what == "torch":
            torch.empty(2**55)
        raise TypeError("layer of a kind never seen")


@final
@dataclass(frozen=True)
class Misfit(Toy):
    """Yield a module that cannot be called."""

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        yield Shrunk(nn.Linear(D + 1, CLASSES), "of another shape")


@final
@dataclass(frozen=True)
class No(Toy):
    """Refuse."""

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        raise Refused("there is nothing here that it handles")
        yield


@final
@dataclass(frozen=True)
class Train(Toy):
    """Train for long, then skip the layer that changes nothing."""

    steps: int = 1000

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        log("train")
        for _ in problem.repeat(self.steps, "train"):
            problem.module(problem.calibration.inputs[0])
        net = problem.copy()
        net.set_submodule("2", nn.Identity())
        yield Shrunk(net, "trained")


@final
@dataclass(frozen=True)
class Ladder(Toy):
    """Factor the wide layer to ever smaller ranks, after a training each and from the model before."""

    steps: int = 500

    continues = True

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        net = problem.copy() if problem.begun is None else problem.begun
        reached = H if isinstance(net[1], nn.Linear) else net[1].up.in_features
        for rank in (rank for rank in (24, 20, 16) if rank < reached):
            log(f"rung {rank}")
            for _ in problem.repeat(self.steps, "train"):
                problem.module(problem.calibration.inputs[0])
            net = copy.deepcopy(net)
            net.set_submodule("1", Factors(problem.module[1], rank))
            yield Shrunk(net, f"rank {rank}")


class Gate(Conditional):
    """Skips the layer that changes nothing for inputs whose first value is positive."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = []
        for row in x.split(1):
            hidden = self.net[1](self.net[0](row))
            out.append(self.net[3](hidden if row[0, 0] > 0 else self.net[2](hidden)))
        return torch.cat(out)


@final
@dataclass(frozen=True)
class Gated(Toy):
    """Skip a layer, input by input."""

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        if not isinstance(problem.module, nn.Sequential) or len(problem.module) != 4:
            raise Refused("not four layers")
        yield Shrunk(Gate(problem.copy()), "by the sign of the first value")
