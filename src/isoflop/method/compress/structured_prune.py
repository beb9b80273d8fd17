"""Structured pruning: fewer channels, neurons and heads, in modules that get smaller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from torch import nn

from isoflop.cost import Meter
from isoflop.method.compress.channels import ever_thinner
from isoflop.method.compress.tuning import Tuning, tune_with_norms
from isoflop.method.shrink import Original, ShrinkMethod, Shrunk


@final
@dataclass(frozen=True)
class StructuredPrune(ShrinkMethod):
    """Remove the channels that matter least to the outputs, with all that depends on them, train what is left, repeat.

    What depends on what is found by torch-pruning (DepGraph); importance is first-order Taylor of the loss, or of
    random sums of the outputs where there is none. Each cut starts from what the one before and its training have left,
    so that thin models have been trained for longest, until no layer has channels to spare; whoever asks leaves the
    curve where it falls below what is wanted. Batch norms see each batch of the training and are measured anew after
    it: with the statistics of before, thin models are won back worse. Layers that write the model's outputs, and
    projections of attention other than `nn.MultiheadAttention`, keep their sizes: each kind of layer is first halved on
    a copy that has to run.
    The FLOPs of what is yielded have fallen, or it is refused. It loses to quantising where bytes are what counts, and
    at strong cuts to a smaller model trained for as long.

    Cost: one trial a kind of layer, then for each cut one backward pass over 512 calibration examples and `steps` of
        training (3 inferences each, 1 of the teacher).
    Buys: FLOPs and bytes fall as the square of the channels kept between two pruned layers, and linearly beside one
        that is not.
    Args:
        ratio: of the channels that a cut leaves, of those that it found.
        steps: of training after each cut (count).
        rate: of the training, at the start.
        batch: examples in a step (count).
    """

    ratio: float = 0.8
    steps: int = 100
    rate: float = 0.001
    batch: int = 32

    continues = True
    source = "Fang et al. 2023, DepGraph: Towards Any Structural Pruning (arXiv 2301.12900)"
    cost = "a trial a kind of layer; for each cut a backward pass over the data and `steps` of training"
    buys = "FLOPs by ratio^2 a cut where both sides are pruned; no law of the quality known"

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} must lie between 0 and 1")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a smaller model for each cut.

        Raises:
            Refused: nothing can be removed.
        """

        def tuned(model: nn.Module) -> tuple[nn.Module, str]:
            tune_with_norms(problem, model, Tuning(self.steps, self.rate, self.batch), rng)
            return model, ""

        return ever_thinner(problem, self.ratio, tuned)
