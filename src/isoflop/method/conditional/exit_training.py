"""Training a model's exits, alone or together with the model, and what is held back from them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from isoflop.method.conditional.blocks import Chain, find_chain, walk
from isoflop.method.conditional.exits import EarlyExit, Head, Never, Rule, build_heads, one_tensor
from isoflop.method.shrink import Data, Original, Output, Refused, backward

_LOOKED = 64  # examples that shapes and scales are taken from (count)
_Kind = TypeVar("_Kind", bound=Hashable)


Objective = Callable[[Output, Data, Output], Tensor]
"""What to train by: outputs, the examples, and the teacher's outputs, to a scalar."""


def objective(problem: Original) -> Objective:
    """The workload's loss where there are targets for it, else likeness to the teacher."""
    loss = problem.workload.loss
    if loss is not None and problem.calibration.targets is not None:
        return lambda out, data, _: loss(out, _targets(data))
    return lambda out, _, taught: problem.workload.imitation(out, taught)


def _targets(data: Data) -> Tensor:
    assert data.targets is not None
    return data.targets


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of `count` examples in random order, `size` at a time and always as many, for ever."""
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


def train_heads(problem: Original, model: EarlyExit, data: Data, steps: int, generator: torch.Generator) -> None:
    """Train the heads on hidden states that are computed once; the trunk stays as it is.

    Args:
        problem: who pays, and what to train by.
        model: its heads are trained in place.
        data: to train on.
        steps: of Adam, a batch each (count).
        generator: for the order of examples.
    """
    goal = objective(problem)
    with problem.spending("tune"), torch.no_grad():
        parts = [_features(model, part) for part in data.batches(problem.workload.batch)]
        taught = torch.cat([one_tensor(problem.teacher(*p.inputs)) for p in data.batches(problem.workload.batch)])
    features = [torch.cat(part) for part in zip(*parts, strict=True)]
    descent = Descent([p for name, p in model.heads.named_parameters() if ".tail." not in name], 3e-3, steps)
    order = batches(len(data), problem.workload.batch, generator)
    for _ in problem.repeat(steps, "train"):
        rows = next(order)
        part = data.rows(rows)
        losses = [goal(head(f[rows]), part, taught[rows]) for head, f in zip(model.heads, features, strict=True)]
        descent.step(torch.stack(losses).sum())


def _features(model: EarlyExit, part: Data) -> list[Tensor]:
    """What the head of each exit answers from."""
    kept: list[Tensor] = []

    def visit(_: Tensor, hidden: Tensor) -> bool:
        head = model.heads[len(kept)]
        assert isinstance(head, Head)
        kept.append(head.features(hidden).clone())
        return len(kept) == len(model.heads)

    walk(model.trunk, model.places, part.inputs, visit)
    return kept


class Descent:
    """Adam whose rate falls to zero along a half cosine; it changes nothing but what it is given.

    Args:
        learnt: what to train.
        rate: at the start.
        steps: until zero (count).
    """

    def __init__(self, learnt: Sequence[Tensor], rate: float, steps: int) -> None:
        self._learnt = list(learnt)
        self._optimiser = torch.optim.Adam(self._learnt, lr=rate, fused=True)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimiser, max(steps, 1))

    def step(self, loss: Tensor) -> None:
        """Go down `loss` a little."""
        self._optimiser.zero_grad()
        backward(loss, self._learnt)
        self._optimiser.step()  # pyright: ignore[reportUnknownMemberType]
        self._schedule.step()


def train_answers(
    problem: Original,
    learnt: Iterable[Tensor],
    kinds: Sequence[_Kind],
    answers: Callable[[_Kind, Data], Sequence[tuple[float, Tensor]]],
    data: Data,
    generator: torch.Generator,
) -> None:
    """Train a model, or parts of it, on what it answers when it is left early.

    Args:
        problem: who pays, and what to train by.
        learnt: what is trained, in place.
        kinds: of each step of Adam, such as where the model is left; steps of one kind cost the same.
        answers: of such a step for some examples, each with the weight of its loss.
        data: to train on.
        generator: for the order of examples.
    """
    goal = objective(problem)
    descent = Descent([p.requires_grad_(True) for p in learnt], 1e-3, len(kinds))
    order = batches(len(data), problem.workload.batch, generator)
    for i in problem.repeat(len(kinds), "train", kinds=kinds):
        part = data.rows(next(order))
        with torch.no_grad():
            taught = problem.teacher(*part.inputs)
        losses = [weight * goal(answer, part, taught) for weight, answer in answers(kinds[i], part)]
        descent.step(torch.stack(losses).sum())


def train_trunk(
    problem: Original, model: EarlyExit, data: Data, steps: int, generator: torch.Generator, growth: float
) -> None:
    """Train trunk and heads together on the losses of every exit and of the model's end.

    Papers draw an exit for each step (stochastic depth) or add a loss at each of them. The sum is what draws come to on
    average; it costs the heads more, and trained better here.

    Args:
        problem: who pays, and what to train by.
        model: trained in place.
        data: to train on.
        steps: of Adam, a batch each (count).
        generator: for the order of examples.
        growth: exit k of 1, 2, ... weighs k^growth; 0: all weigh the same.
    """
    weights = [k**growth for k in range(1, len(model.places) + 2)]

    def answers(_: None, part: Data) -> Sequence[tuple[float, Tensor]]:
        path = model.watched(*part.inputs)
        return list(zip(weights, [*(path.output(k) for k in range(len(model.places))), path.last], strict=True))

    train_answers(problem, model.parameters(), [None] * steps, answers, data, generator)


@dataclass(frozen=True)
class Plan:
    """How a method wants its exits.

    Args:
        exits: at most how many (count).
        steps: of training (count).
        trained_trunk: whether the model's own weights are trained with the exits, for as many steps before.
        blocks: names of the blocks, with spaces between them, or of the list they are in; found if empty.
        held: share of the calibration data that is not trained on.
        growth: see `train_trunk`.
    """

    exits: int
    steps: int
    trained_trunk: bool
    blocks: str
    held: float
    growth: float = 0.0


@dataclass(frozen=True)
class Exits:
    """A model with trained exits.

    Args:
        model: whose thresholds are still to be set.
        chain: the blocks that it leaves after.
        held: examples that it was not trained on.
        generator: for what is drawn after.
    """

    model: EarlyExit
    chain: Chain
    held: Data
    generator: torch.Generator


def trained_exits(
    problem: Original, plan: Plan, rng: np.random.Generator, rule: Callable[[Tensor], Rule] | None = None
) -> Exits:
    """A copy of the model with exits, trained once for all budgets and prices.

    Args:
        problem: who pays, and what to train by.
        plan: of the exits.
        rng: for the split and the order of examples.
        rule: makes one for a model that gives such outputs [B, ...]; `Never` unless given.

    Raises:
        Refused: there is no place for an exit, or the rule cannot work on the model's outputs.
    """
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    fit, held = split(problem.calibration, plan.held, rng)
    with problem.spending("tune"):
        chain = find_chain(problem.module, held.rows(slice(0, 1)).inputs, plan.blocks)
        model = with_exits(problem, chain, plan.exits, fit, rule)
    if plan.trained_trunk:
        train_trunk(problem, model, fit, plan.steps, generator, plan.growth)
    train_heads(problem, model, fit, plan.steps, generator)
    return Exits(model, chain, held, generator)


def with_exits(
    problem: Original, chain: Chain, exits: int, fit: Data, rule: Callable[[Tensor], Rule] | None = None
) -> EarlyExit:
    """A copy of the model with untrained exits; see `trained_exits`.

    Raises:
        Refused: it has no place for one, or the rule cannot work on its outputs.
    """
    places = chain.places(exits)
    if not places:
        raise Refused("one block does all the work, so that leaving after another saves nothing")
    inputs = fit.rows(slice(0, _LOOKED)).inputs
    trunk = problem.copy()
    heads = build_heads(trunk, chain, places, inputs)
    with torch.no_grad():
        outputs = one_tensor(problem.teacher(*inputs))
    return EarlyExit(trunk, [chain.blocks[i] for i in places], heads, rule(outputs) if rule else Never())


def split(data: Data, share: float, rng: np.random.Generator) -> tuple[Data, Data]:
    """Examples to train on, and a share of them held back; drawn at random.

    Raises:
        Refused: there are too few to hold any back.
    """
    held = int(len(data) * share)
    if held < 1:
        raise Refused(f"{len(data)} calibration examples are too few to train exits and to solve thresholds on others")
    order = rng.permutation(len(data)).tolist()
    return data.rows(order[held:]), data.rows(order[:held])
