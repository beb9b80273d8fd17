"""Structured pruning adapters: a pruned model is brought back by low-rank updates that are folded into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType] - torch gives it no types

from isoflop.cost import Meter
from isoflop.method.compress.channels import ever_thinner
from isoflop.method.compress.tuning import Tuning, seed_of, swapped, tune
from isoflop.method.shrink import Original, ShrinkMethod, Shrunk

_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Adapted(nn.Module):
    """A layer whose weight is W + B A with W fixed; the product can be folded into it at no cost of use.

    Args:
        layer: linear or convolution.
        rank: of the update, cut to what the layer has (count).
        generator: A starts random and B at 0, so that nothing changes at first.
    """

    def __init__(self, layer: nn.Module, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = cast(Tensor, layer.weight).flatten(1).shape
        rank = min(rank, rows, columns)
        self.layer = layer.requires_grad_(False)
        self.b = nn.Parameter(torch.zeros(rows, rank))
        self.a = nn.Parameter(torch.randn(rank, columns, generator=generator) / columns**0.5)

    @property
    def weight(self) -> Tensor:
        """The weight with its update."""
        whole = cast(Tensor, self.layer.weight)
        return whole + (self.b @ self.a).view_as(whole)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The layer with its update."""
        call = cast(Callable[..., Tensor], functional_call)
        return call(self.layer, {"weight": self.weight}, args, kwargs)

    def folded(self) -> nn.Module:
        """The layer alone, its weight updated."""
        cast(Tensor, self.layer.weight).data = self.weight.detach()
        return self.layer.requires_grad_(True)


@final
@dataclass(frozen=True)
class StructuredPruningAdapter(ShrinkMethod):
    """Prune channels and learn low-rank updates of what is left instead of all of it (SPLoRA), folded in afterwards.

    As `structured_prune`, but training touches rank * (rows + columns) numbers a layer and no others: less memory for
    the optimiser, smaller deltas to store for each of many tasks, and less overfitting on few examples. A folded model
    costs what a pruned one costs. With data and memory enough, training everything is at least as good: compare both.

    Cost: as `structured_prune`; a training step's FLOPs are about those of full training.
    Buys: learned weights by rank * (rows + columns) / (rows * columns) of full training's; no law of the quality known.
    Args:
        ratio: of the channels that a cut leaves, of those that it found.
        rank: of the updates (count).
        steps: of training after each cut (count).
        rate: of the training, at the start.
        batch: examples in a step (count).
    """

    ratio: float = 0.8
    rank: int = 8
    steps: int = 100
    rate: float = 0.005
    batch: int = 32

    continues = True
    source = "Hedegaard et al. 2022, Structured Pruning Adapters (arXiv 2211.10155)"
    cost = "a trial a kind of layer; for each cut a backward pass over the data and `steps` of training"
    buys = "learned weights by rank * (rows + columns) / (rows * columns); no law of the quality known"

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1 or self.rank < 1:
            raise ValueError(f"ratio={self.ratio} must lie between 0 and 1, and rank={self.rank} be at least 1")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a smaller model for each cut.

        Raises:
            Refused: nothing can be removed.
        """

        def tuned(model: nn.Module) -> tuple[nn.Module, str]:
            generator = torch.Generator().manual_seed(seed_of(rng))
            modules = list(cast(Iterator[tuple[str, nn.Module]], model.named_modules()))
            adapted = {n: Adapted(m, self.rank, generator) for n, m in modules if type(m) in _KINDS}
            model = swapped(model, adapted)
            learned = [p for m in adapted.values() for p in (m.a, m.b)]
            tune(problem, model, learned, Tuning(self.steps, self.rate, self.batch), rng)
            every = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in learned)
            share = sum(p.numel() for p in learned) / every
            folded = {name: m.folded() for name, m in adapted.items()}
            return swapped(model, folded), f", {share:.1%} as many weights learned"

        return ever_thinner(problem, self.ratio, tuned)
