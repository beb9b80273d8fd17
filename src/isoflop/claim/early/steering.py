"""A hand that is steered past a disc to a goal: demonstrations to imitate, and episodes to succeed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isoflop.cost.ops import OpMeter
from isoflop.method.conditional.budget import leaves_at
from isoflop.method.conditional.exit_training import Descent, batches
from isoflop.method.conditional.exits import EarlyExit
from isoflop.method.shrink import Data, Workload

_WIDTH = 32  # of the state that blocks hand on
EQUAL = 0.01
"""Of success: two standard errors, and more, of the difference of two policies in the same 2000 episodes."""
_BATCH = 200  # demonstrated steps at a time (count)
_ROOM = 1.2  # radius of what the expert goes around, in units of the disc's
_STRIDE, _REACH = 0.15, 0.15  # length of a step; how near to the goal is there
_STEPS = 30  # of an episode at most
_NOISE = 0.3  # of the angle at which a demonstrator steps, so that there is something to come back from (radians)
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Block(nn.Module):
    """A residual step of a state [B, D]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH)
        self.net = nn.Sequential(nn.Linear(_WIDTH, 4 * _WIDTH), nn.ReLU(), nn.Linear(4 * _WIDTH, _WIDTH))

    def forward(self, state: Tensor) -> Tensor:
        """[B, D] to [B, D]."""
        return state + self.net(self.norm(state))


def policy(blocks: int) -> nn.Module:
    """Observations [B, 5] to actions [B, 2], untrained."""
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.default_generator.manual_seed(0)
        chain = nn.Sequential(*(Block() for _ in range(blocks)))
        return nn.Sequential(nn.Linear(5, _WIDTH), chain, nn.Linear(_WIDTH, 2)).eval()


def scenes(count: int, seed: int) -> Floats:
    """Where a hand is, its goal, and a disc about between (centre and radius) [N, 7]."""
    rng = np.random.default_rng(seed)
    many = 4 * count
    hand, goal = rng.uniform(-1, 1, (2, many, 2))
    centre = hand + rng.uniform(0, 1, (many, 1)) * (goal - hand) + rng.normal(0, 0.3, (many, 2))
    found = np.concatenate([hand, goal, centre, rng.uniform(0.2, 0.5, (many, 1))], 1)
    free = [np.linalg.norm(p - centre, axis=1) > _ROOM * found[:, 6] for p in (hand, goal)]
    return found[free[0] & free[1]][:count]


def observed(scene: Floats) -> Tensor:
    """What a policy sees [N, 5]: goal and disc from where the hand is."""
    hand = scene[:, :2]
    return torch.tensor(np.concatenate([scene[:, 2:4] - hand, scene[:, 4:6] - hand, scene[:, 6:]], 1)).float()


def expert(scene: Floats) -> Floats:
    """Unit steps straight to the goal, or along the nearer tangent of a ring about the disc if that is in between."""
    goal, disc, ring = scene[:, 2:4] - scene[:, :2], scene[:, 4:6] - scene[:, :2], _ROOM * scene[:, 6]
    along = ((disc * goal).sum(1) / ((goal**2).sum(1) + 1e-12)).clip(0, 1)
    blocked = np.linalg.norm(along[:, None] * goal - disc, axis=1) < ring
    side = np.where(disc[:, 0] * goal[:, 1] > disc[:, 1] * goal[:, 0], 1, -1)
    near = ring / np.linalg.norm(disc, axis=1)
    turn = side * (np.arcsin(near.clip(max=1)) + (near.clip(min=1) - 1))  # outwards where it is inside the ring
    angle = np.where(blocked, np.arctan2(disc[:, 1], disc[:, 0]) + turn, np.arctan2(goal[:, 1], goal[:, 0]))
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def episodes(start: Floats, act: Callable[[Floats], Floats]) -> Bools:
    """Whether each of N hands comes to its goal without touching the disc; `act` is asked for those under way only."""
    scene, on, there = start.copy(), np.ones(len(start), bool), np.zeros(len(start), bool)
    for _ in range(_STEPS):
        if not on.any():
            break
        move = act(scene[on])
        scene[on, :2] += _STRIDE * move / (np.linalg.norm(move, axis=1, keepdims=True) + 1e-9)
        touched = np.linalg.norm(scene[:, :2] - scene[:, 4:6], axis=1) < scene[:, 6]
        there |= on & ~touched & (np.linalg.norm(scene[:, 2:4] - scene[:, :2], axis=1) < _REACH)
        on &= ~touched & ~there
    return there


def demonstrations(count: int, seed: int) -> Data:
    """What an expert sees and does on its way, with a hand that is not quite steady."""
    rng = np.random.default_rng(seed)
    seen: list[Floats] = []

    def unsteady(scene: Floats) -> Floats:
        seen.append(scene.copy())
        x, y = expert(scene).T
        angle = np.arctan2(y, x) + rng.normal(0, _NOISE, len(scene))
        return np.stack([np.cos(angle), np.sin(angle)], 1)

    episodes(scenes(max(1, count // 5), seed), unsteady)
    steps = np.concatenate(seen)
    steps = steps[rng.permutation(len(steps))[:count]]
    return Data((observed(steps),), torch.tensor(expert(steps)).float())


def workload(count: int) -> Workload:
    """Imitate `count` demonstrated steps; the score is minus the squared error of the action."""
    parts = [demonstrations(n, seed) for n, seed in ((count, 1), (500, 2), (4000, 3))]
    return Workload("steering", *parts, score=lambda out, told: -_error(out, told), loss=_loss, batch=_BATCH)


def _error(out: Tensor, told: Tensor) -> Tensor:
    return ((out - told) ** 2).sum(1)


def _loss(out: Tensor, told: Tensor) -> Tensor:
    return _error(out, told).mean()


def trained(blocks: int, data: Data, flops: float) -> nn.Module:
    """A policy trained from scratch for so many FLOPs."""
    net = policy(blocks)
    steps = round(flops / (3 * _BATCH * forward_flops(net)))  # backward is twice forward
    descent = Descent(list(net.parameters()), 2e-3, steps)
    order = batches(len(data), _BATCH, torch.Generator().manual_seed(1))
    for _ in range(steps):
        part = data.rows(next(order))
        assert part.targets is not None
        descent.step(_loss(net(*part.inputs), part.targets))
    return net


def forward_flops(net: nn.Module) -> float:
    """FLOPs of an action."""
    with OpMeter() as ops, torch.no_grad():
        net(torch.zeros(1, 5))
    return ops.flops


def training_flops(blocks: int, steps: int) -> float:
    """FLOPs of a training of so many steps."""
    return 3 * _BATCH * steps * forward_flops(policy(blocks))


@dataclass(frozen=True)
class Driven:
    """How a policy did.

    Args:
        there: which episodes succeeded [N].
        flops: of an action on average (count).
    """

    there: Bools
    flops: float

    @property
    def success(self) -> float:
        """The share of episodes that succeeded."""
        return round(float(self.there.mean()), 4)

    def as_good_as(self, other: Driven) -> bool:
        """Whether it succeeds as often as another, within noise."""
        return bool(self.there.mean() >= other.there.mean() - EQUAL)


def driven(net: nn.Module, start: Floats) -> Driven:
    """Let a policy act in episodes."""

    def act(scene: Floats) -> Floats:
        with torch.no_grad():
            return net(observed(scene)).double().numpy()

    return Driven(episodes(start, act), forward_flops(net))


def driven_early(model: EarlyExit, start: Floats, shares: Floats | None = None) -> Driven:
    """Let a policy act that leaves where its rule says, or by lot at exits [K + 1] with given shares."""
    costs, rng, spent = np.asarray(model.costs((torch.zeros(1, 5),))), np.random.default_rng(7), list[Floats]()

    def act(scene: Floats) -> Floats:
        with torch.no_grad():
            scores, exits, last = model.every(observed(scene))
        ruled = leaves_at(scores.numpy(), model.thresholds.numpy())
        at = ruled if shares is None else rng.choice(len(costs), len(scene), p=shares)
        spent.append(costs[at])
        return torch.stack([*exits, last], 1)[torch.arange(len(at)), torch.as_tensor(at)].double().numpy()

    there = episodes(start, act)
    return Driven(there, float(np.concatenate(spent).mean()))
