"""Leave once the action has stopped changing, at thresholds solved for average, peak and memory budgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from isoflop.cost import Meter
from isoflop.method.conditional.budget import Shares
from isoflop.method.conditional.multi_exit import MultiExit
from isoflop.method.shrink import Original, ShrinkMethod, Shrunk


@final
@dataclass(frozen=True)
class DeerVla(ShrinkMethod):
    """Exits for actions and other numbers: leave when two exits in a row say the same.

    A regressor has no confidence, so readiness is how little its answer changed from one exit to the next; thresholds
    follow from the share of inputs that is to leave at each exit, and those from the budgets. In the paper one action
    head serves all exits of a language model and is trained with it on successive frames; here each exit has a head of
    its own on a trunk that is trained with them if `trained_trunk` says so. For classes the rule
    `confidence` of `multi_exit` is better at every cost we measured. It loses what the second opinion costs: nobody
    can leave at the first exit.

    Cost: as `multi_exit`.
    Buys: the paper: 5.2 to 6.5 times less compute in the language model at equal success; no law known.
    Args:
        budgets: mean FLOPs of an input, each as a fraction of the model's.
        shares: how inputs are spread over exits; see `budget.Shares`.
        peak: FLOPs of the dearest input, as a fraction of the model's.
        memory: bytes of the weights, as a fraction of the model's.
        exits: at most how many (count).
        steps: of training (count).
        trained_trunk: whether the model's own weights are trained with the heads; else they are as they were.
        blocks: names of the blocks, with spaces between them, or of the list they are in; found if empty.
    """

    budgets: tuple[float, ...] = (0.9, 0.75, 0.6, 0.5, 0.4, 0.33, 0.25, 0.2)
    shares: Shares = "exponential"
    peak: float = 1.0
    memory: float = 1.0
    exits: int = 6
    steps: int = 600
    trained_trunk: bool = False
    blocks: str = ""

    source = "deer_vla"
    cost = "a pass over the calibration data + steps * batch * heads"
    buys = "no law known; mean, peak and memory are what was asked for"

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a model for each budget, from dear to cheap; see `MultiExit`."""
        exits = MultiExit(
            rule="consistency",
            exits=self.exits,
            budgets=self.budgets,
            shares=self.shares,
            peak=self.peak,
            memory=self.memory,
            steps=self.steps,
            trained_trunk=self.trained_trunk,
            blocks=self.blocks,
        )
        yield from exits.run(problem, meter, rng)
