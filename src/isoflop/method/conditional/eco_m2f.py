"""A gate looks at the first features of an input and decides how deep the model goes for it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.cost import Meter
from isoflop.method.conditional.exit_training import Descent, Plan, batches, trained_exits
from isoflop.method.conditional.exits import EarlyExit, Path, PooledHead, Rule, distance, one_tensor
from isoflop.method.shrink import Data, Original, ShrinkMethod, Shrunk

_HELD = 0.5  # of the calibration data: the gate learns from examples that the heads have not seen


class Gate(Rule):
    """Chooses the exit once, from what the first block with an exit passes on.

    Args:
        hidden: what that is for some examples [B, ...].
        depths: exits, and the end of the model (count).
        channels_first: see `PooledHead`.
    """

    def __init__(self, hidden: Tensor, depths: int, channels_first: bool) -> None:
        super().__init__()
        self.net = PooledHead(hidden, hidden.new_zeros(len(hidden), depths), channels_first, nn.Identity())

    def forward(self, path: Path) -> Tensor:
        """1 for those of B examples whose exit has been reached, else 0 [B]."""
        chosen = path.chosen
        if chosen is None:
            chosen = path.chosen = torch.argmax(self.net(self.net.features(path.hidden[0])), 1)
        return torch.where(chosen <= path.here, 1.0, 0.0)


@final
@dataclass(frozen=True)
class EcoM2f(ShrinkMethod):
    """Depth chosen for each input by a gate, which alone is trained anew for another trade-off.

    Exits are trained once. The paper trains the whole model with them by stochastic depth, deeper exits more often;
    `trained_trunk` does so on the sum of all losses, with weights that grow with depth. Then, for each price `beta` of
    compute, every calibration example gets the depth that is best for it, the largest of quality - beta * cost, and the
    gate learns to foretell that depth. Unlike exit rules nothing is computed at the exits that are passed by. It loses
    where the best depth cannot be told from first features.

    Cost: as `multi_exit`, once; a pass through all exits; and `gate_steps` batches of the gate for each beta.
    Buys: no law known. A larger beta never asks for more depth on the examples that the gate learns from.
    Args:
        betas: quality given for the cost of the whole model (in units of the score, or without targets of the spread
            of outputs).
        exits: at most how many (count).
        steps: of training the exits (count).
        gate_steps: of training the gate (count).
        trained_trunk: whether the model's own weights are trained with the exits.
        blocks: names of the blocks, with spaces between them, or of the list they are in; found if empty.
    """

    betas: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.5)
    exits: int = 6
    steps: int = 600
    gate_steps: int = 400
    trained_trunk: bool = False
    blocks: str = ""

    source = "eco_m2f"
    cost = "a pass over the calibration data + steps * batch * heads, then gate_steps * batch * gate for each beta"
    buys = "no law known; another trade-off costs a gate and leaves the model as it is"

    def __post_init__(self) -> None:
        if not all(beta > 0 for beta in self.betas):
            raise ValueError("every beta must be above 0: compute that is free is used up to the end")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Train exits once, then yield the same model with a gate for each beta, from dear to cheap."""
        plan = Plan(self.exits, self.steps, self.trained_trunk, self.blocks, _HELD, growth=1.0)
        made = trained_exits(problem, plan, rng)
        model, held = made.model, made.held
        first = model.heads[0]
        with problem.spending("tune"), torch.no_grad():
            seen = Seen.of(problem, model, held)
            model.rule = Gate(seen.first, len(model.places) + 1, bool(getattr(first, "channels_first", False)))
            costs = np.asarray(model.costs(held.rows(slice(0, 1)).inputs)) / made.chain.total
        model.thresholds.fill_(0.5)
        for beta in sorted(self.betas):
            best, stake = best_depths(seen.qualities, costs, beta), stakes(seen.qualities, costs, beta)
            found = copy.deepcopy(model)
            gate = found.rule
            assert isinstance(gate, Gate)
            labels = Data((seen.first, torch.tensor(stake)), torch.tensor(best))
            chosen = _train(problem, gate, labels, self.gate_steps, made.generator)
            asked, chose = costs[best].mean(), costs[chosen].mean()
            yield Shrunk(found, f"beta {beta:g}: best depths cost {asked:.3f}x, the gate's {chose:.3f}x")


@dataclass(frozen=True)
class Seen:
    """What all exits make of some examples.

    Args:
        first: hidden states at the first exit [N, ...].
        qualities: of the answer at each exit and at the end [N, K + 1], higher is better.
    """

    first: Tensor
    qualities: np.ndarray

    @staticmethod
    def of(problem: Original, model: EarlyExit, data: Data) -> Seen:
        """Run through every exit."""
        first: list[Tensor] = []
        found: list[np.ndarray] = []
        for part in data.batches(problem.workload.batch):
            path = model.watched(*part.inputs)
            first.append(path.hidden[0])
            answers = [*(path.output(k) for k in range(len(model.places))), path.last]
            found.append(np.stack([_quality(problem, answer, part) for answer in answers], 1))
        return Seen(torch.cat(first), np.concatenate(found))


def _quality(problem: Original, answer: Tensor, data: Data) -> np.ndarray:
    if data.targets is not None:
        return problem.workload.scores(answer, data)
    taught = one_tensor(problem.teacher(*data.inputs))
    return -(distance(answer, taught) / (taught.std() + 1e-9)).double().numpy()


def best_depths(qualities: np.ndarray, costs: np.ndarray, beta: float) -> np.ndarray:
    """The exit with the largest quality - beta * cost for each example [N]; the earliest of equals.

    Args:
        qualities: at each exit [N, K].
        costs: of each exit, as fractions of the model's [K].
        beta: quality given for the cost of the whole model.
    """
    return (qualities - beta * costs).argmax(1)


def stakes(qualities: np.ndarray, costs: np.ndarray, beta: float) -> np.ndarray:
    """What the worst depth would lose against the best one for each example [N], in units of quality."""
    worth = qualities - beta * costs
    return worth.max(1) - worth.min(1)


def _train(problem: Original, gate: Gate, labels: Data, steps: int, generator: torch.Generator) -> Sequence[int]:
    """Train a gate to foretell the best depths, each example with the weight of what is at stake.

    Without weights a gate says what is best for most, the first exit, to all: the paper's images differ more.

    Args:
        problem: who pays.
        gate: trained in place.
        labels: hidden states and stakes, and the best depth of each example.
        steps: of Adam (count).
        generator: for the order of examples.

    Returns:
        The depths that it chooses.
    """
    (hidden, stake), best = labels.inputs, labels.targets
    assert best is not None
    with problem.spending("tune"), torch.no_grad():
        features = gate.net.features(hidden)
    learnt = list(gate.net.map.parameters())
    descent = Descent(learnt, 1e-2, steps)
    order = batches(len(best), problem.workload.batch, generator)
    scale = float(stake.mean()) + 1e-9
    for _ in problem.repeat(steps, "train"):
        rows = next(order)
        losses = functional.cross_entropy(gate.net(features[rows]), best[rows], reduction="none")
        descent.step((losses * stake[rows] / scale).mean() + 1e-3 * sum((p**2).sum() for p in learnt))
    with problem.spending("tune"), torch.no_grad():
        return [int(k) for k in gate.net(features).argmax(1)]
