"""Swap between a little and a big model along a stream, by what the last answers say of the next frame."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final, get_args

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.cost import Meter
from isoflop.method.conditional.exit_training import Descent, batches
from isoflop.method.conditional.exits import Standard, distance, one_tensor
from isoflop.method.conditional.pair import Pair, find_pair
from isoflop.method.shrink import Conditional, Data, Original, Output, Refused, ShrinkMethod, Shrunk

Policy = Literal["consistency", "auxiliary"]
_LEVELS = 40  # thresholds tried for a budget
_HIDDEN = 32  # units of the auxiliary network


class OverFrames(nn.Module):
    """A model of single frames, applied to each frame of clips: [B, T, ...] to [B, T, ...].

    Args:
        frame: takes [B, ...].
    """

    def __init__(self, frame: nn.Module) -> None:
        super().__init__()
        self.frame = frame

    def forward(self, *clips: Tensor) -> Output:
        """All frames at once."""
        answers = one_tensor(self.frame(*(x.flatten(0, 1) for x in clips)))
        return answers.reshape(*clips[0].shape[:2], *answers.shape[1:])


class Change(nn.Module):
    """How much the answer changed over the last two frames."""

    def forward(self, last: Tensor, before: Tensor) -> Tensor:
        """Two answers [B, ...], to the root mean square of their difference [B]."""
        return distance(last, before)


class Foresight(nn.Module):
    """A small network that foretells how far the little model's next answer will be from the big one's.

    Args:
        answers: of some frames [N, F], for their scale.
    """

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.norm = Standard(answers)
        self.first, self.second = nn.Linear(2 * answers.shape[1], _HIDDEN), nn.Linear(_HIDDEN, 1)

    def forward(self, last: Tensor, before: Tensor) -> Tensor:
        """Two answers [B, ...], to the log of the distance [B]."""
        a, b = self.norm(last.flatten(1)), self.norm(before.flatten(1))
        return self.second(self.first(torch.cat([a, (a - b).abs()], 1)).relu()).squeeze(1)


class Swapping(Conditional):
    """Clips [B, T, ...], frame by frame: the big model where the policy says so, else the little one.

    The policy sees only answers to frames that have passed, so that one of the two is computed for each frame and never
    both. The first two frames of a clip have no such past and are the big model's.

    Args:
        little: the cheaper one, of clips.
        big: the better one, of clips.
        policy: the last two answers to how much the big model is wanted.
        threshold: above which it is used.
    """

    def __init__(self, little: nn.Module, big: nn.Module, policy: nn.Module, threshold: float) -> None:
        super().__init__()
        self.little, self.big, self.policy, self.threshold = little, big, policy, threshold

    def forward(self, *clips: Tensor) -> Output:
        """What either takes, to what either returns."""
        answers: list[Tensor] = []
        for t in range(clips[0].shape[1]):
            frames = [x[:, t : t + 1] for x in clips]
            wanted = wants_big(self.policy, answers, self.threshold, len(clips[0]))
            if wanted.all():
                answers.append(self.big(*frames)[:, 0])
            elif not wanted.any():
                answers.append(self.little(*frames)[:, 0])
            else:
                some = self.big(*(x[wanted] for x in frames))[:, 0]
                answer = some.new_empty(len(wanted), *some.shape[1:])
                answer[wanted], answer[~wanted] = some, self.little(*(x[~wanted] for x in frames))[:, 0]
                answers.append(answer)
        return torch.stack(answers, 1)


def wants_big(policy: nn.Module, answers: list[Tensor], threshold: float, clips: int) -> Tensor:
    """For which of B clips the next frame is the big model's [B], given the answers so far."""
    if len(answers) < 2:
        return torch.ones(clips, dtype=torch.bool)
    return policy(answers[-1], answers[-2]) > threshold


@final
@dataclass(frozen=True)
class NanoDrone(ShrinkMethod):
    """Two models on a stream: the big one where answers jump about, the little one where they flow.

    An example is a clip of frames that follow each other. Which model computes a frame is decided before it is
    computed, from the last two answers: `consistency` by how much they differ, `auxiliary` by a small network that is
    trained to foretell from them how far the little model will be off the big one. It loses where what is hard comes
    and goes within a frame, and against a cascade where the little model's own confidence says more than the past.
    The paper's auxiliary task locates the head in a grid of cells; ours is general and learnt from the pair itself.

    Cost: one pass of both models over the calibration data; `steps` batches of the small network.
    Buys: the paper: 28 % less latency at equal error; no law known.
    Args:
        policy: `consistency` or `auxiliary`.
        little: where it is built, `package.module:function:word`; empty where another method made the model cheaper.
        budgets: mean FLOPs of a clip, each as a fraction of the big model's.
        steps: of training the auxiliary network (count).
    """

    policy: Policy = "consistency"
    little: str = ""
    budgets: tuple[float, ...] = (0.9, 0.75, 0.6, 0.5, 0.4, 0.3)
    steps: int = 400

    source = "nano_drone"
    cost = "a pass of both models over the calibration data + steps * batch of a small network"
    buys = "no law known; the mean cost is what was asked for"

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise ValueError(f"policy={self.policy!r} is none of {', '.join(get_args(Policy))}")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a pair with a threshold for each budget, from dear to cheap."""
        with problem.spending("tune"), torch.no_grad():
            _check_framewise(problem.module, problem.calibration)
        pair = find_pair(problem, self.little)
        little, big = (
            torch.cat([one_tensor(out) for out in problem.outputs(module, problem.calibration)])
            for module in (pair.little, pair.big)
        )
        policy: nn.Module = Change()
        if self.policy == "auxiliary":
            policy = self._foresight(problem, little, big, torch.Generator().manual_seed(int(rng.integers(2**31))))
        with problem.spending("tune"), torch.no_grad():
            levels = _levels(policy, little, big)
            costs = [_simulated(policy, little, big, level, pair) for level in levels]
        budgets = [b for b in sorted(self.budgets, reverse=True) if min(costs) <= b]
        if not budgets:
            raise Refused(f"the cheapest threshold costs {min(costs):.3f}x the big model, more than any budget")
        for budget in budgets:
            best = min(range(len(levels)), key=lambda i: abs(costs[i] - budget))
            module = Swapping(pair.little, pair.big, copy.deepcopy(policy), levels[best])
            yield Shrunk(
                module, f"{self.policy} of the last answers, mean FLOPs {costs[best]:.3f}x of {budget:g}x asked"
            )

    def _foresight(self, problem: Original, little: Tensor, big: Tensor, generator: torch.Generator) -> nn.Module:
        """Train on answers of either model, as they will come mixed."""
        apart = distance(little[:, 2:].flatten(0, 1), big[:, 2:].flatten(0, 1)).clamp(min=1e-9).log()
        past = [(a[:, 1:-1].flatten(0, 1), b[:, :-2].flatten(0, 1)) for a in (little, big) for b in (little, big)]
        last, before = (torch.cat(side) for side in zip(*past, strict=True))
        wanted = apart.repeat(len(past))
        net = Foresight(last.flatten(1))
        with torch.no_grad():
            for p in net.parameters():
                p.zero_() if p.ndim == 1 else p.normal_(0, p.shape[1] ** -0.5, generator=generator)
        descent = Descent(list(net.parameters()), 3e-3, self.steps)
        order = batches(len(wanted), 4 * problem.workload.batch, generator)
        for _ in problem.repeat(self.steps, "train"):
            rows = next(order)
            descent.step(((net(last[rows], before[rows]) - wanted[rows]) ** 2).mean())
        return net.eval()


def _check_framewise(module: nn.Module, data: Data) -> None:
    """Raise unless each frame of a clip is answered by itself."""
    clips = data.rows(slice(0, 1)).inputs
    if not all(x.ndim > 1 and x.shape[1] == clips[0].shape[1] > 2 for x in clips):
        raise Refused("an example must be a clip of three or more frames in order, [N, T, ...] in every input")
    whole = one_tensor(module(*clips))
    if whole.ndim < 2 or whole.shape[1] != clips[0].shape[1]:
        raise Refused(f"clips of {clips[0].shape[1]} frames must get as many answers, [N, T, ...]; see OverFrames")
    alone = one_tensor(module(*(x[:, 1:2] for x in clips)))
    if not torch.allclose(alone[:, 0], whole[:, 1], rtol=1e-3, atol=1e-4):
        raise Refused(
            "the answer to a frame depends on the other frames of its clip, so they cannot be swapped one by one"
        )


def _levels(policy: nn.Module, little: Tensor, big: Tensor) -> list[float]:
    """Thresholds worth trying: quantiles of what the policy says of either model's answers."""
    seen = torch.cat([policy(a[:, 1:].flatten(0, 1), a[:, :-1].flatten(0, 1)) for a in (little, big)]).double()
    found: list[float] = np.quantile(seen.numpy(), np.linspace(0, 1, _LEVELS)).tolist()
    return [float("-inf"), *found]


def _simulated(policy: nn.Module, little: Tensor, big: Tensor, threshold: float, pair: Pair) -> float:
    """The mean cost of a clip as a fraction of the big model's, from the answers of both to every frame."""
    answers: list[Tensor] = []
    share = 0.0
    for t in range(big.shape[1]):
        wanted = wants_big(policy, answers, threshold, len(big))
        share += float(wanted.double().mean()) / big.shape[1]
        answers.append(torch.where(wanted.reshape(-1, *[1] * (big.ndim - 2)), big[:, t], little[:, t]))
    return share + (1 - share) * pair.little_flops / pair.big_flops
