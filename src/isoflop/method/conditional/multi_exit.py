"""Answer from inside the model as soon as an input needs no more of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final, get_args

import numpy as np
import torch

from isoflop.cost import Meter
from isoflop.cost.ops import stored_bytes
from isoflop.method.conditional.blocks import Chain
from isoflop.method.conditional.budget import Floats, Shares, leaves_at, solve_thresholds
from isoflop.method.conditional.exit_training import Plan, trained_exits
from isoflop.method.conditional.exits import Confidence, Consistency, EarlyExit, Rule, Similarity, dropped_after
from isoflop.method.shrink import Data, Original, Refused, ShrinkMethod, Shrunk

ExitRule = Literal["confidence", "consistency", "similarity"]
_HELD = 0.3  # of the calibration data: thresholds are solved on examples that the heads were not trained on


@final
@dataclass(frozen=True)
class MultiExit(ShrinkMethod):
    """Exits with trained heads on any sequence of blocks, and a rule for when to leave.

    Blocks are found by watching the model run, a head is put after some of them and trained on the workload's loss (or
    to imitate the teacher), and thresholds are solved on held calibration data so that the mean over inputs costs what
    was asked. `confidence` is for classes: an input leaves when the likeliest one is likely enough. `consistency` is
    for regression and actions: it leaves when the answer has stopped changing. `similarity` looks at the hidden states
    only and so pays for no head before it leaves. It loses where all inputs are equally hard, and where a head costs
    as much as a block (large vocabularies).

    Cost: one forward pass of the calibration data; `steps` batches of the heads alone, or of everything if the trunk is
    trained too; one pass of the held examples.
    Buys: no law known. The mean cost is the budget's, within the sampling error of the held examples.
    Args:
        rule: when to leave.
        exits: at most how many (count).
        budgets: mean FLOPs of an input, each as a fraction of the model's.
        shares: how inputs are spread over exits; see `budget.Shares`.
        peak: FLOPs of the dearest input, as a fraction of the model's; below 1 the deepest exits are cut off.
        memory: bytes of the weights, as a fraction of the model's; what lies behind the deepest exit left is dropped.
        steps: of training (count).
        trained_trunk: whether the model's own weights are trained with the heads; else they are as they were.
        blocks: names of the blocks, with spaces between them, or of the list they are in; found if empty.
    """

    rule: ExitRule = "confidence"
    exits: int = 6
    budgets: tuple[float, ...] = (0.9, 0.75, 0.6, 0.5, 0.4, 0.33, 0.25, 0.2, 0.15, 0.1)
    shares: Shares = "level"
    peak: float = 1.0
    memory: float = 1.0
    steps: int = 600
    trained_trunk: bool = False
    blocks: str = ""

    source = "BranchyNet (Teerapittayanon et al. 2016); Kaya et al. 2019 (shallow-deep networks)"
    cost = "a pass over the calibration data + steps * batch * heads"
    buys = "no law known; the mean cost is what was asked for"

    def __post_init__(self) -> None:
        if self.rule not in get_args(ExitRule):
            raise ValueError(f"rule={self.rule!r} is none of {', '.join(get_args(ExitRule))}")
        if self.exits < 1 or not all(0 < b <= 1 for b in (*self.budgets, self.peak, self.memory)):
            raise ValueError("exits must be at least 1, and budgets, peak and memory fractions above 0 and at most 1")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Train exits once, then yield a model for each budget that they can meet."""
        plan = Plan(self.exits, self.steps, self.trained_trunk, self.blocks, _HELD)
        made = trained_exits(problem, plan, rng, lambda outputs: make_rule(self.rule, outputs))
        model, held = made.model, made.held
        with problem.spending("tune"):
            scores = scores_of(problem, model, held)
            costs = model.costs(held.rows(slice(0, 1)).inputs)
        yield from self._points(model, made.chain, scores, costs)

    def _points(self, model: EarlyExit, chain: Chain, scores: Floats, costs: list[float]) -> Iterator[Shrunk]:
        whole, deepest = chain.total, self._deepest(model, chain, costs)
        yielded = False
        exits = min(deepest + 1, len(costs))
        asked = sorted((b * whole for b in self.budgets), reverse=True)
        within = [b for b in asked if b < costs[exits - 1]]
        if deepest < len(model.places) and len(within) < len(asked):
            within.insert(0, costs[deepest])  # the deepest exit left takes less than the largest budget
        for budget in within:
            try:
                thresholds = solve_thresholds(self.shares, scores[:, : exits - 1], costs[:exits], budget)
            except ValueError:
                continue
            found = copy.deepcopy(model)
            found.thresholds[:] = torch.inf
            found.thresholds[: exits - 1] = torch.tensor(thresholds)
            if deepest < len(model.places):
                found.thresholds[deepest] = -torch.inf
                dropped_after(found, chain, deepest)
            at = leaves_at(scores[:, : exits - 1], thresholds)
            spent = np.asarray(costs)[at].mean() / whole
            shares = " ".join(f"{share:.0%}" for share in np.bincount(at, minlength=exits) / len(at))
            yielded = True
            yield Shrunk(
                found, f"{self.rule} exits, mean FLOPs {spent:.3f}x of {budget / whole:.3g}x asked; leaving {shares}"
            )
        if not yielded:
            raise Refused(
                f"leaving at the first usable exit costs {costs[0] / whole:.3f}x and at the last "
                f"{costs[deepest] / whole:.3f}x: no budget of {self.budgets} lies between"
            )

    def _deepest(self, model: EarlyExit, chain: Chain, costs: list[float]) -> int:
        """The deepest exit that peak and memory allow; as many as there are exits is the model's own end."""
        if self.peak == 1 and self.memory == 1:
            return len(model.places)
        total, fits = stored_bytes(model.trunk), list[int]()
        for k in range(len(model.places)):
            cut = copy.deepcopy(model)
            dropped_after(cut, chain, k)
            if costs[k] <= self.peak * chain.total and stored_bytes(cut) <= self.memory * total:
                fits.append(k)
        if not fits:
            raise Refused(
                f"the first exit takes {costs[0] / chain.total:.2f}x the FLOPs, and no exit keeps within "
                f"peak={self.peak} and memory={self.memory}"
            )
        return fits[-1]


def make_rule(rule: ExitRule, outputs: torch.Tensor) -> Rule:
    """A rule for a model that gives such outputs [B, ...].

    Raises:
        Refused: one number has no confidence.
    """
    if rule == "similarity":
        return Similarity()
    if rule == "consistency":
        return Consistency(float(outputs.std()) + 1e-9)
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise Refused("outputs are single numbers, which have no confidence; use rule=consistency")
    return Confidence(bool(((outputs >= 0) & (outputs <= 1)).all()))


def scores_of(problem: Original, model: EarlyExit, data: Data) -> Floats:
    """How ready each example is at each exit [N, K]."""
    with torch.no_grad():
        parts = [model.every(*part.inputs)[0] for part in data.batches(problem.workload.batch)]
    return torch.cat(parts).numpy()
