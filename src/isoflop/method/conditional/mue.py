"""Leave encoder and decoder, each by itself, once a block no longer changes the tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_unflatten

from isoflop.cost import Meter
from isoflop.method.conditional.blocks import Chain, find_chains, hidden_of, walk
from isoflop.method.conditional.exit_training import split, train_answers
from isoflop.method.conditional.exits import one_tensor, token_similarity
from isoflop.method.shrink import Conditional, Data, Original, Output, Refused, ShrinkMethod, Shrunk

Compared = Literal["tokens", "flattened"]
_HELD = 0.3  # of the calibration data: thresholds are solved on examples that the exits were not trained on
_HALVINGS = 10
_BROKEN = 1.0  # squared error in units of the answers' variance: a constant answer has as much
_NINES = (-0.3, 8.0)  # thresholds tried, from -1 to 1 - 1e-8: most of the room is close to 1
_MISSED = 0.05  # of a budget: further off, no threshold meets it
_SINKS = 8.0  # a token with this many times the median norm carries massive activations


class Stage(nn.Module):
    """The exits of one chain of blocks.

    Args:
        blocks: names of the blocks.
        width: of the hidden state.
    """

    def __init__(self, blocks: Sequence[str], width: int) -> None:
        super().__init__()
        self.blocks = list(blocks)
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in self.blocks[:-1])
        for layer in self.maps:
            for p in layer.parameters():
                nn.init.zeros_(p)

    def leave(self, k: int, hidden: Tensor) -> Tensor:
        """What stands for the output of the last block, after block `k` [B, T, D]."""
        return hidden + self.maps[k](hidden)


class SimilarityExit(Conditional):
    """A model whose chains of blocks are each left once tokens no longer change; what comes after a chain still runs.

    A batch is computed until the last of its examples is ready; the others wait with the hidden state they left with.

    Args:
        trunk: the model.
        stages: its chains of blocks.
        threshold: the similarity to leave at.
        compared: `tokens`: the mean cosine of tokens that are no sinks; `flattened`: the cosine of the whole example.
    """

    def __init__(self, trunk: nn.Module, stages: Sequence[Stage], threshold: float, compared: Compared) -> None:
        super().__init__()
        self.trunk, self.stages = trunk, nn.ModuleList(stages)
        self.threshold, self.compared = threshold, compared

    def similarity(self, before: Tensor, after: Tensor) -> Tensor:
        """How alike two hidden states of B examples are [B]."""
        if self.compared == "flattened":
            return functional.cosine_similarity(before.flatten(1), after.flatten(1), dim=1)
        return token_similarity(before, after, _SINKS)

    def forward(self, *inputs: Tensor) -> Output:
        """What the trunk takes, to what it returns."""
        return self._run(inputs, lambda stage, k, before, after: self.similarity(before, after) >= self.threshold)[0]

    def depths(self, inputs: Sequence[Tensor]) -> tuple[Output, Tensor]:
        """The answers, and how many blocks of each chain each example ran through [B, chains]."""
        return self._run(inputs, lambda stage, k, before, after: self.similarity(before, after) >= self.threshold)

    def at(self, inputs: Sequence[Tensor], exits: Sequence[int]) -> Output:
        """The answers when each chain is left after the block with this index (the last one: not early)."""
        return self._run(inputs, lambda stage, k, before, after: torch.full((len(after),), exits[stage] == k))[0]

    def _run(
        self, inputs: Sequence[Tensor], ready: Callable[[int, int, Tensor, Tensor], Tensor]
    ) -> tuple[Output, Tensor]:
        ran: list[Tensor] = []
        with ExitStack() as patches:
            for n, stage in enumerate(self.stages):
                assert isinstance(stage, Stage)
                ran.append(torch.full((len(inputs[0]),), len(stage.blocks)))
                patches.enter_context(_bypassed(self.trunk, stage, ran[n], _of_stage(ready, n)))
            return self.trunk(*inputs), torch.stack(ran, 1)


Ready = Callable[[int, Tensor, Tensor], Tensor]


def _of_stage(ready: Callable[[int, int, Tensor, Tensor], Tensor], n: int) -> Ready:
    return lambda k, before, after: ready(n, k, before, after)


@contextmanager
def _bypassed(trunk: nn.Module, stage: Stage, ran: Tensor, ready: Ready) -> Generator[None]:
    """For one pass, let examples that have left go through each block unchanged, and uncomputed once all have."""
    gone = torch.zeros(len(ran), dtype=torch.bool)
    form: list[Any] = []  # of what a block returns

    def gated(k: int, plain: Callable[..., Output]) -> Callable[..., Output]:
        def forward(*args: Any, **kwargs: Any) -> Output:
            before = hidden_of((args, kwargs))
            if form and gone.all():
                return _with_hidden(form[0], before)
            out = plain(*args, **kwargs)
            form[:] = [out]
            after = hidden_of(out)
            if k < len(stage.maps):
                leaving = ~gone & ready(k, before, after)
                if leaving.any():
                    after = torch.where(_rows(leaving, after), stage.leave(k, after), after)
                    ran[leaving] = k + 1
                    still = gone.clone()
                    gone.logical_or_(leaving)
                else:
                    still = gone
            else:
                still = gone
            return _with_hidden(out, torch.where(_rows(still, after), before, after) if still.any() else after)

        return forward

    modules = [trunk.get_submodule(name) for name in stage.blocks]
    try:
        for k, module in enumerate(modules):
            module.forward = gated(k, module.forward)
        yield
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)


def _rows(which: Tensor, like: Tensor) -> Tensor:
    return which.reshape(-1, *[1] * (like.ndim - 1))


def _with_hidden(output: Output, hidden: Tensor) -> Output:
    """What a block returned, with another hidden state in it."""
    old = hidden_of(output)
    leaves, spec = tree_flatten(output)
    return tree_unflatten([hidden if leaf is old else leaf for leaf in leaves], spec)


@final
@dataclass(frozen=True)
class Mue(ShrinkMethod):
    """Exits by similarity between layers, in encoder and decoder alike, since it needs no answer to look at.

    After each block the hidden state is compared with the one before; once they are alike enough, the rest of that
    chain is left out, a learnt linear map stands for it, and the model goes on behind the chain. The maps are trained
    on the workload's loss (or to imitate the teacher) with an exit drawn for each chain: the paper's layer-wise task
    loss. The paper trains the model with it, too (`trained_trunk`): only then do blocks come to agree on what they hand
    on, and where a model was not trained so, leaving by similarity is seldom worth it. The paper compares whole inputs;
    tokens with massive activations (sinks) then hide that all others still change, so tokens are compared one by one
    and without them. A rule that breaks the model all the same is refused and named: where leaving moves answers
    further than a constant answer would be off.

    Cost: `steps` passes with gradients; then 10 passes over the held examples for each budget.
    Buys: the paper: half the time at 99 % of the quality; no law known.
    Args:
        budgets: mean FLOPs of an input, each as a fraction of the model's.
        compared: `tokens`, or `flattened` as in the paper's code.
        steps: of training (count).
        trained_trunk: whether the model's own weights are trained with the maps; else they are as they were.
        blocks: names of the lists of blocks, with spaces between them; found if empty.
    """

    budgets: tuple[float, ...] = (0.9, 0.8, 0.7, 0.6, 0.5)
    compared: Compared = "tokens"
    steps: int = 200
    trained_trunk: bool = False
    blocks: str = ""

    source = "mue"
    cost = "steps * batch * model, then 10 passes over the held examples for each budget"
    buys = "no law known; a rule that would break the model is refused"

    def __post_init__(self) -> None:
        if self.compared not in get_args(Compared):
            raise ValueError(f"compared={self.compared!r} is none of {', '.join(get_args(Compared))}")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Train the maps once, then yield a model for each budget that does not break it, from dear to cheap."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        fit, held = split(problem.calibration, _HELD, rng)
        example = fit.rows(slice(0, 1)).inputs
        with problem.spending("tune"), torch.no_grad():
            chains = find_chains(problem.module, example, self.blocks)
            one_tensor(problem.teacher(*example))
            model = SimilarityExit(problem.copy(), _stages(problem.module, chains, example), 2.0, self.compared)
        self._train(problem, model, fit, generator)
        broken, yielded = "", False
        for budget in sorted(self.budgets, reverse=True):
            with problem.spending("tune"), torch.no_grad():
                model.threshold, spent = _solve(problem, model, chains, held, budget)
                broken = _break(problem, model, held)
            if broken:
                break
            if abs(spent - budget) > _MISSED * budget:
                continue
            yielded = True
            note = f"similarity {model.threshold:.4f} of {self.compared}, mean FLOPs {spent:.3f}x of {budget:g}x asked"
            yield Shrunk(copy.deepcopy(model), note)
        if not yielded:
            reason = f"would break the model: {broken}" if broken else f"meets none of the budgets {self.budgets}"
            raise Refused(f"the rule compared={self.compared} {reason}")

    def _train(self, problem: Original, model: SimilarityExit, data: Data, generator: torch.Generator) -> None:
        depths = [len(stage.maps) + self.trained_trunk for stage in model.stages if isinstance(stage, Stage)]
        draws = [
            tuple(int(torch.randint(depth, (1,), generator=generator)) for depth in depths) for _ in range(self.steps)
        ]
        learning = model if self.trained_trunk else model.stages

        def answers(exits: tuple[int, ...], part: Data) -> Sequence[tuple[float, Tensor]]:
            return [(1.0, one_tensor(model.at(part.inputs, exits)))]

        train_answers(problem, learning.parameters(), draws, answers, data, generator)


def _stages(module: nn.Module, chains: Sequence[Chain], example: Sequence[Tensor]) -> list[Stage]:
    """Exits for each chain, whose blocks must hand on states of one shape."""
    return [_stage(module, chain, example) for chain in chains]


def _stage(module: nn.Module, chain: Chain, example: Sequence[Tensor]) -> Stage:
    shapes: list[tuple[int, ...]] = []

    def look(before: Tensor, after: Tensor) -> bool:
        shapes.extend((tuple(before.shape), tuple(after.shape)))
        return False

    walk(module, chain.blocks, example, look)
    if len(set(shapes)) > 1:
        raise Refused(
            f"the blocks from {chain.blocks[0]} on change shape ({shapes[0]} to {shapes[-1]}), so none can be left out"
        )
    return Stage(chain.blocks, shapes[0][-1])


def _solve(
    problem: Original, model: SimilarityExit, chains: Sequence[Chain], data: Data, budget: float
) -> tuple[float, float]:
    """The threshold at which examples cost `budget` on average, and what they do cost, as fractions of the model.

    What leaves later chains depends on where earlier ones were left, so the model is run for each threshold tried.
    """
    low, high = _NINES
    best = (1 + 1e-6, 1.0)
    for _ in range(_HALVINGS):
        nines = (low + high) / 2
        model.threshold = 1 - 10**-nines
        spent = mean_flops(model, chains, data, problem.workload.batch)
        if abs(spent - budget) < abs(best[1] - budget):
            best = (model.threshold, spent)
        low, high = (nines, high) if spent < budget else (low, nines)
    return best


def mean_flops(model: SimilarityExit, chains: Sequence[Chain], data: Data, batch: int) -> float:
    """FLOPs of an example on average, as a fraction of the model's, from how deep each one goes."""
    saved = 0.0
    for part in data.batches(batch):
        _, ran = model.depths(part.inputs)
        for n, chain in enumerate(chains):
            left = np.cumsum([0.0, *chain.flops[::-1]])[::-1]  # after each number of blocks
            saved += float(left[ran[:, n].numpy()].sum())
    return 1 - saved / len(data) / chains[0].total


def _break(problem: Original, model: SimilarityExit, data: Data) -> str:
    """In words how the model breaks where examples leave early; empty if it does not."""
    missed, spread, early = 0.0, 0.0, list[float]()
    for part in data.batches(problem.workload.batch):
        taught = one_tensor(problem.teacher(*part.inputs))
        answers, ran = model.depths(part.inputs)
        ends = torch.tensor([len(stage.blocks) for stage in model.stages if isinstance(stage, Stage)])
        left = (ran < ends).any(1)
        missed += float(((one_tensor(answers) - taught)[left] ** 2).sum())
        spread += float(((taught - taught.mean()) ** 2)[left].sum())
        early += [float(n) for n in ran[left, 0]]
    if missed <= _BROKEN * spread or not early:
        return ""
    return (
        f"it reads at least {model.threshold:.4f} after {np.mean(early):.1f} blocks on average; leaving there moves "
        f"the answers by {missed / spread:.3g} times their variance, more than a constant answer would be off"
    )
