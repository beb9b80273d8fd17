"""LD-Pruner: drop the operators without which the distribution of the outputs changes least."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from isoflop.cost import Meter
from isoflop.cost.ops import OpMeter
from isoflop.method.compress.tuning import Tuning, refresh_norms, swapped, tune
from isoflop.method.shrink import Data, Original, Refused, ShrinkMethod, Shrunk


class Dropped(nn.Module):
    """What stands where an operator was: its input, or nothing (where it was added to its input)."""

    def __init__(self, zero: bool) -> None:
        super().__init__()
        self.zero = zero

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The input, or zeros of its shape."""
        return torch.zeros_like(x) if self.zero else x

    def extra_repr(self) -> str:
        """What is returned."""
        return "zeros" if self.zero else "its input"


@final
@dataclass(frozen=True)
class LdPruner(ShrinkMethod):
    """Drop whole operators: score each by how far the outputs' mean and spread move without it, drop the least first.

    An operator is any module that is called once with a tensor and returns one of its shape, be it a layer, a branch of
    a residual block or a block. In its place comes its input, or nothing, whichever moves the outputs less. The score
    asks for no labels and no task: the same inputs, the outputs' mean and standard deviation of each feature before and
    after. What is left keeps its weights and can be trained. Scores are of single operators and taken once, as in the
    paper; that they add up is assumed, so of many drops a greedy search by the task itself would be better and dearer.
    Departs from the paper: the order is by score for a FLOP that is saved, as operators here are of any size.

    Cost: 2 * operators * inference on `examples` calibration examples, then `steps` of training for each yield.
    Buys: FLOPs, bytes and time of what is dropped, on any machine; no law of the quality known.
    Args:
        drops: operators to drop at most, a model for each further one (count).
        operators: the ones with the most FLOPs are scored (count).
        examples: calibration examples that scores are taken on (count).
        steps: of training after each drop (count).
        rate: of the training, at the start.
        batch: examples in a step (count).
    """

    drops: int = 6
    operators: int = 48
    examples: int = 32
    steps: int = 0
    rate: float = 0.0003
    batch: int = 16

    source = "ld_pruner"
    cost = "2 * operators * inference on `examples` examples, and `steps` of training for each drop"
    buys = "FLOPs and bytes of what is dropped; no law of the quality known"

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield the model without one, two, ... operators.

        Raises:
            Refused: no module inside it returns the shape that it is given.
        """
        data = problem.calibration.rows(slice(self.examples))
        with problem.spending():
            spent = droppable(problem.module, data)
        if not spent:
            raise Refused("no module inside it returns the shape that it is given, so none can be dropped")
        largest = sorted(spent, key=lambda name: -spent[name])[: self.operators]
        scored = sorted(self.scores(problem, largest, data).items(), key=lambda item: item[1][0] / spent[item[0]])
        gone: dict[str, bool] = {}
        for name, (_, zero) in scored:
            if any(_inside(name, other) or _inside(other, name) for other in gone):
                continue
            gone[name] = zero
            smaller = swapped(problem.copy(), {name: Dropped(zero) for name, zero in gone.items()})
            with problem.spending():
                refresh_norms(problem, smaller)
            tune(problem, smaller, smaller.parameters(), Tuning(self.steps, self.rate, self.batch), rng)
            yield Shrunk(smaller, f"without {', '.join(gone)}")
            if len(gone) == self.drops:
                return

    def scores(self, problem: Original, names: list[str], data: Data) -> dict[str, tuple[float, bool]]:
        """For each operator how far the outputs move without it, and whether nothing in its place is better."""
        model = problem.copy()
        found: dict[str, tuple[float, bool]] = {}
        with problem.spending():
            mean, spread = _moments(problem, model, data)
            unit = _length(spread) + 1e-12
            for name in names:
                kept = model.get_submodule(name)
                both: list[tuple[float, bool]] = []
                for zero in (False, True):
                    model.set_submodule(name, Dropped(zero))
                    other, wider = _moments(problem, model, data)
                    moved = (_length(other - mean) + _length(wider - spread)) / unit
                    both.append((moved if np.isfinite(moved) else np.inf, zero))
                found[name] = min(both)
                model.set_submodule(name, kept)
        return found


def droppable(model: nn.Module, data: Data) -> dict[str, float]:
    """FLOPs of each module inside a model that is called once, with a tensor, and returns one of the same shape."""
    spent: dict[str, float] = {}
    calls: dict[str, int] = {}
    modules = cast(Iterator[tuple[str, nn.Module]], model.named_modules())

    with torch.no_grad(), OpMeter() as ops:

        def before(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
                calls[name] = calls.get(name, 0) + 1
                spent[name] = spent.get(name, 0.0) - ops.flops

            return hook

        def after(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], out: object) -> None:
                spent[name] += ops.flops
                if not (args and _alike(args[0], out)):
                    calls[name] = -1

            return hook

        hooks = [
            handle
            for name, m in modules
            if name
            for handle in (m.register_forward_pre_hook(before(name)), m.register_forward_hook(after(name)))
        ]
        try:
            model(*data.rows(slice(1)).inputs)
        finally:
            for hook in hooks:
                hook.remove()
    return {name: flops for name, flops in spent.items() if calls[name] == 1 and flops > 0}


def _alike(given: object, out: object) -> bool:
    if not (isinstance(given, Tensor) and isinstance(out, Tensor)):
        return False
    return given.shape == out.shape and given.dtype == out.dtype


def _length(x: Tensor) -> float:
    return x.square().sum().sqrt().item()


def _inside(name: str, other: str) -> bool:
    return name == other or name.startswith(f"{other}.")


def _moments(problem: Original, model: nn.Module, data: Data) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature (the last dimension) of all floating-point outputs."""
    sums: list[Tensor] = []
    count = 0
    with torch.no_grad():
        for part in data.batches(problem.workload.batch):
            leaves = [x for x in tree_leaves(model(*part.inputs)) if isinstance(x, Tensor) and x.is_floating_point()]
            rows = [x.float().reshape(len(part), -1, x.shape[-1]).flatten(0, 1) for x in leaves]
            parts = torch.cat([torch.stack([r.mean(0), r.square().mean(0)]) for r in rows], 1) * len(part)
            sums, count = [*sums, parts], count + len(part)
    mean, square = torch.stack(sums).sum(0) / count
    return mean, (square - mean**2).clamp_min(0).sqrt()
