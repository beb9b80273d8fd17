"""Leave tokens out of a state space model while its state runs on over them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.cost import Meter
from isoflop.method.conditional.selective_ssm import SelectiveSsm, SsmBlock
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk, backward


class Pruned(nn.Module):
    """Blocks of a state space model, some of which pass on only the tokens that matter most, in their order.

    Args:
        blocks: of [B, T, D] to [B, T, D].
        kept: after which blocks tokens are left out, and how many of those that reach it stay (fraction).
        aligned: let the state run on over what is left out; else what is left is scanned as if it were all.
        by: what tokens stay by; "random" is the baseline.
    """

    def __init__(
        self, blocks: list[SsmBlock], kept: dict[int, float], aligned: bool = True, by: str = "output"
    ) -> None:
        super().__init__()
        self.blocks, self.kept, self.aligned, self.by = nn.ModuleList(blocks), kept, aligned, by

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T', D]."""
        left_out: Tensor | None = None
        place = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        for i, block in enumerate(self.blocks):
            x, matters = cast(SsmBlock, block).scored(x, left_out)
            if i in self.kept:
                stay = self._staying(matters, max(1, round(self.kept[i] * x.shape[1])))
                x = x.gather(1, stay.unsqueeze(2).expand(-1, -1, x.shape[2]))
                place = place.gather(1, stay)
                if self.aligned:
                    before = torch.cat([place.new_full((len(x), 1), -1), place[:, :-1]], 1)
                    left_out = (place - before - 1).to(x.dtype)
        return x

    def _staying(self, matters: Tensor, count: int) -> Tensor:
        """Places of the tokens that stay [B, count], in order."""
        if self.by == "random":  # the same places for all, drawn once for each count
            drawn = torch.randperm(matters.shape[1], generator=torch.Generator().manual_seed(count))
            matters = drawn.to(matters.dtype).expand_as(matters)
        return matters.topk(count, dim=1).indices.sort(dim=1).values


@final
@dataclass(frozen=True)
class SsmTokenPruning(ShrinkMethod):
    """Leave the tokens that matter least out of a state space model, at a few depths.

    A token matters as much as the scan's output is above zero there, on average over channels. What is left is scanned
    with the state running on over what was left out (h <- A h, no input), so that each token finds its neighbours as
    far away as they were; dropping tokens plainly, as one does for attention, moves them together. How far a token left
    out would have moved the state is not computed, for that would cost most of what is saved: each channel takes its
    mean step over the calibration data, which is ours to assume.

    Applies to a chain of `SsmBlock` (selective_ssm.py) in an `nn.Sequential`, whatever comes after it taking any number
    of tokens. Loses where every token matters, as in a text read for its last word.

    Cost: one pass over the calibration data, and `steps` training steps over `batch` examples for each point.
    Buys: FLOPs of later blocks in proportion to the tokens that stay; the answer is no longer the original's.
    Args:
        kept: tokens that stay at each of the depths (fraction), from dear to cheap; one point each.
        depths: after which share of the blocks tokens are left out.
        steps: of training after pruning (count); 0 for none.
        batch: examples in a step (count).
        rate: learning rate.
        aligned: see `Pruned`.
        by: "output" or "random"; see `Pruned`.
    """

    source = "ssm_token_pruning"
    cost = "a pass over the calibration data + points x steps x batch x (forward and backward)"
    buys = "FLOPs of blocks x tokens that stay; no law known of the quality"

    kept: tuple[float, ...] = (0.8, 0.7, 0.5)
    depths: tuple[float, ...] = (0.25, 0.5)
    steps: int = 100
    batch: int = 50
    rate: float = 5e-4
    aligned: bool = True
    by: str = "output"

    def __post_init__(self) -> None:
        if not all(0 < share <= 1 for share in self.kept) or not all(0 < depth < 1 for depth in self.depths):
            raise ValueError(f"kept={self.kept} must be within (0, 1], and depths={self.depths} within (0, 1)")
        if self.by not in ("output", "random"):
            raise ValueError(f"by={self.by!r} must be output or random")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a model for each share of tokens kept; see `ShrinkMethod.run`."""
        chains = _chains(problem.module)
        if not chains:
            raise Refused("no state space model: no nn.Sequential of two or more SsmBlock follow each other in it")
        measured = problem.copy()
        with problem.spending():
            _learn_usual_steps(measured, problem)
        draw = torch.Generator().manual_seed(int(rng.integers(2**31)))
        for share in sorted(self.kept, reverse=True):
            model = copy.deepcopy(measured)
            for name in chains:
                blocks = [cast(SsmBlock, b) for b in cast(nn.Sequential, model.get_submodule(name))]
                after = {max(0, round(depth * len(blocks)) - 1): share for depth in self.depths}
                pruned = Pruned(blocks, after, self.aligned, self.by)
                if name:
                    model.set_submodule(name, pruned)
                else:
                    model = pruned
            self._train(problem, model, draw)
            yield Shrunk(model.eval(), f"{share:.0%} of the tokens stay at each of {len(self.depths)} depths")

    def _train(self, problem: Original, model: nn.Module, draw: torch.Generator) -> None:
        """Towards the targets where the workload has a loss, else towards the original."""
        optimizer: Any = torch.optim.AdamW(model.parameters(), self.rate)
        data, work = problem.calibration, problem.workload
        for _ in problem.repeat(self.steps, "train"):
            part = data.rows(torch.randint(len(data), (min(self.batch, len(data)),), generator=draw))
            out = model(*part.inputs)
            if work.loss is not None and part.targets is not None:
                loss = work.loss(out, part.targets)
            else:
                with torch.no_grad():
                    wanted = problem.teacher(*part.inputs)
                loss = work.imitation(out, wanted)
            optimizer.zero_grad()
            backward(loss, model.parameters())
            optimizer.step()


def _chains(module: nn.Module) -> list[str]:
    """Names of the sequences of state space blocks."""
    modules = cast(Iterator[tuple[str, nn.Module]], module.named_modules())
    return [
        name
        for name, part in modules
        if isinstance(part, nn.Sequential) and len(part) > 1 and all(isinstance(block, SsmBlock) for block in part)
    ]


def _learn_usual_steps(model: nn.Module, problem: Original) -> None:
    """Set each channel's usual step to its mean over the calibration data."""
    layers = [part for part in model.modules() if isinstance(part, SelectiveSsm)]
    sums = [torch.zeros_like(cast(Tensor, layer.usual_step)) for layer in layers]
    counts = [0] * len(layers)

    def watcher(i: int) -> Any:
        def watch(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
            steps = nn.functional.softplus(out).flatten(0, 1)
            sums[i] += steps.sum(0)
            counts[i] += len(steps)

        return watch

    hooks = [layer.step.register_forward_hook(watcher(i)) for i, layer in enumerate(layers)]
    try:
        problem.outputs(model, problem.calibration)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, total, count in zip(layers, sums, counts):
        cast(Tensor, layer.usual_step).copy_(total / max(count, 1))
