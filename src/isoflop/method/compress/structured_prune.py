"""Structured pruning: fewer channels, neurons and heads, in modules that get smaller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from isoflop.cost import Meter
from isoflop.method.compress.channels import flops, prunable, pruned
from isoflop.method.compress.tuning import Tuning, tune
from isoflop.method.shrink import Original, ShrinkMethod, Shrunk


@final
@dataclass(frozen=True)
class StructuredPrune(ShrinkMethod):
    """Remove the channels that matter least to the outputs, with all that depends on them, and train what is left.

    What depends on what is found by torch-pruning (DepGraph); importance is first-order Taylor of the loss, or of
    random sums of the outputs where there is none. Layers that write the model's outputs, and projections of attention
    other than `nn.MultiheadAttention`, keep their sizes: each kind of layer is first halved on a copy that has to run.
    The FLOPs of what is yielded have fallen, or it is refused. It loses to quantising where bytes are what counts, and
    at strong cuts to a smaller model trained for as long.

    Cost: one trial a kind of layer, then for each fraction one backward pass over the calibration data and `steps` of
        training (3 inferences each, 1 of the teacher).
    Buys: FLOPs and bytes fall as kept_fraction^2 between two pruned layers, and linearly beside one that is not.
    Args:
        kept_fraction: of the channels of each prunable layer, a model each, the greatest first.
        steps: of training after each cut (count).
        rate: of the training, at the start.
        batch: examples in a step (count).
    """

    kept_fraction: tuple[float, ...] = (0.85, 0.7, 0.5, 0.35, 0.25)
    steps: int = 100
    rate: float = 0.001
    batch: int = 32

    source = "Fang et al. 2023, DepGraph: Towards Any Structural Pruning (arXiv 2301.12900)"
    cost = "a trial a kind of layer; for each fraction a backward pass over the data and `steps` of training"
    buys = "FLOPs by kept_fraction^2 where both sides are pruned; no law of the quality known"

    def __post_init__(self) -> None:
        if not all(0 < f < 1 for f in self.kept_fraction):
            raise ValueError(f"kept_fraction={self.kept_fraction} must lie between 0 and 1")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a smaller model for each fraction.

        Raises:
            Refused: nothing can be removed.
        """
        with problem.spending():
            names = prunable(problem)
        whole = flops(problem.module, problem.calibration)
        for fraction in self.kept_fraction:
            with problem.spending():
                smaller = pruned(problem, names, fraction)
            tune(problem, smaller, smaller.parameters(), Tuning(self.steps, self.rate, self.batch), rng)
            left = flops(smaller, problem.calibration) / whole
            yield Shrunk(smaller, f"{fraction:g} of the channels of {len(names)} layers, {left:.3f}x FLOPs")
