"""Learning which level of a grid each weight takes, layer by layer, together with the levels themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType] - torch gives it no types
from torch.nn.functional import mse_loss

from isoflop.method.compress.packed import Coded, PackedTensor, Site
from isoflop.method.compress.tuning import step
from isoflop.method.shrink import Data, Original, backward

_CELLS = 4096
_SOFT = (1.0, 0.05)  # width of the step between two levels, in units of their distance, at the start and at the end
_ROWS = 4096  # of a layer's inputs are kept, at most (count)


class SoftLevels(nn.Module):
    """A weight whose entries lie between two levels of a grid and are drawn to one of them as `soft` falls.

    Entry u between the levels a < b stands for a + (b - a) * sigmoid((u - middle) / (soft * (b - a) / 4)): nearly u
    itself while soft, the nearest level in the end. An entry may cross to any level, one after the other; the levels
    and the scale of each row are learned with it.

    Args:
        weight: to start from, as a matrix [R, C].
        scale: of each row [R, 1]; entries are in its units.
        levels: gives the levels, ascending, a row for each table [tables, K].
        table: which table a row uses [R]; None where there is one.
    """

    def __init__(self, weight: Tensor, scale: Tensor, levels: nn.Module, table: Tensor | None = None) -> None:
        super().__init__()
        self.entries = nn.Parameter(weight / scale)
        self.log_scale = nn.Parameter(scale.log())
        self.levels = levels
        self.register_buffer("table", table)

    def forward(self, soft: float) -> Tensor:
        """The weight while it is learned [R, C]."""
        levels = cast(Tensor, self.levels())
        below = self._below(levels.detach())
        flat = levels.flatten()
        low, high = flat[below], flat[below + 1]
        gap = (high - low).detach()
        step = (self.entries - (high + low).detach() / 2) / (gap * (soft / 4)).clamp_min(1e-8)
        return (low + (high - low) * torch.sigmoid(step)) * self.log_scale.exp()

    def coded(self) -> Coded:
        """The weight with every entry at its nearest level."""
        levels = cast(Tensor, self.levels()).detach()
        below = self._below(levels)
        flat = levels.flatten()
        nearest = below + (self.entries.detach() > (flat[below] + flat[below + 1]) / 2).int()
        nearest -= self._offset(levels.shape[1])
        table = cast(Tensor | None, self.table)
        scale = self.log_scale.detach().exp()
        return Coded(nearest.to(torch.uint8), scale, None, levels, None if table is None else table.to(torch.uint8))

    def _offset(self, count: int) -> Tensor:
        table = cast(Tensor | None, self.table)
        return torch.zeros(1, 1, dtype=torch.int32) if table is None else table.int()[:, None] * count

    def _below(self, levels: Tensor) -> Tensor:
        """For each entry where the level below it lies among all tables' levels, by a table of cells (int32) [R, C]."""
        least, span = levels.amin(), (levels.amax() - levels.amin()).clamp_min(1e-8)
        middle = (torch.arange(_CELLS) + 0.5) * (span / _CELLS) + least
        cells = torch.searchsorted(levels.contiguous(), middle.expand(len(levels), -1).contiguous(), right=True) - 1
        cells = cells.clamp(0, levels.shape[1] - 2).int()
        index = ((self.entries.detach() - least) * (_CELLS / span)).clamp(0, _CELLS - 1).int()
        index += self._offset(_CELLS)
        return cells.flatten().index_select(0, index.flatten()).view_as(index) + self._offset(levels.shape[1])


@dataclass(frozen=True)
class Schedule:
    """How a layer is learned.

    Args:
        steps: of Adam on each layer (count).
        rate: of entries, scales and levels, in units of the scale; it falls to 0.
        batch: rows of a linear layer's inputs, or examples of another's, in a step (count).
        examples: calibration examples that are used (count).
    """

    steps: int
    rate: float
    batch: int
    examples: int


class _ReachedError(Exception):
    """The layer that was waited for has been called."""


def learn(
    problem: Original,
    model: nn.Module,
    found: Sequence[Site],
    start: Callable[[Site], SoftLevels],
    schedule: Schedule,
    rng: np.random.Generator,
) -> dict[tuple[str, str], SoftLevels]:
    """Learn layers in the order they are called, each to give what the original's layer gives although those before it
    are quantised already.

    Args:
        problem: who is imitated, and on what.
        model: a copy of the original; its weights are replaced by the learned ones, at their levels, and its biases by
            those learned with them.
        found: weights to learn; those not of a linear or convolution layer, shared, or never reached, are left.
        start: gives what a weight starts from.
        schedule: how long, and on what.
        rng: which rows are in a step.
    """
    data = problem.calibration.rows(slice(schedule.examples))
    learned: dict[tuple[str, str], SoftLevels] = {}
    with problem.spending():
        order = _called(problem.module, [s.owner for s in found if s.name == "weight"], data)
    by_owner = {s.owner: s for s in found if s.name == "weight"}
    for done, owner in enumerate(order):
        with problem.spending():
            target = _seen(problem, problem.module, owner, data, outputs=True)
            inputs = _seen(problem, model, owner, data, outputs=False)
            layer, weight = model.get_submodule(owner), by_owner[owner].weight
            soft = start(by_owner[owner])
        if isinstance(layer, nn.Linear):
            inputs, target = inputs.reshape(-1, inputs.shape[-1]), target.reshape(-1, target.shape[-1])
            some = torch.tensor(rng.permutation(len(inputs))[:_ROWS])
            inputs, target = inputs[some], target[some]
        steps = problem.repeat(schedule.steps, "train", loops=len(order) - done)
        _fit(layer, soft, (inputs, target), steps, schedule, rng)
        with problem.spending(), torch.no_grad():
            weight.copy_(PackedTensor(soft.coded(), 8, weight)())
        learned[owner, "weight"] = soft
    return learned


def _fit(
    layer: nn.Module,
    soft: SoftLevels,
    pairs: tuple[Tensor, Tensor],
    steps: Iterator[int],
    schedule: Schedule,
    rng: np.random.Generator,
) -> None:
    inputs, target = pairs
    call = cast(Callable[..., Tensor], functional_call)
    weight = cast(Tensor, layer.weight)
    bias = getattr(layer, "bias", None)
    others = {} if bias is None else {"bias": bias.detach().clone().requires_grad_()}
    learned = [p for p in (*soft.parameters(), *others.values()) if p.requires_grad]
    optimiser = torch.optim.Adam(learned, lr=schedule.rate)
    spread = target.var() + 1e-12
    for i in steps:
        done = i / schedule.steps
        optimiser.param_groups[0]["lr"] = schedule.rate * (1 - done)
        some = torch.tensor(rng.integers(len(inputs), size=schedule.batch))
        made = soft(_SOFT[0] * (_SOFT[1] / _SOFT[0]) ** done).view_as(weight)
        loss = mse_loss(call(layer, {"weight": made, **others}, (inputs[some],)), target[some]) / spread
        optimiser.zero_grad()
        backward(loss, learned)
        step(optimiser)
    if bias is not None:
        bias.data.copy_(others["bias"].detach())


def _called(model: nn.Module, names: list[str], data: Data) -> list[str]:
    """Those linear and convolution layers that are called with one tensor, in the order of their first calls."""
    order: list[str] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if name not in order and len(args) == 1 and isinstance(args[0], Tensor):
                order.append(name)

        return hook

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layers = {name: model.get_submodule(name) for name in names}
    hooks = [m.register_forward_pre_hook(note(name)) for name, m in layers.items() if isinstance(m, kinds)]
    try:
        with torch.no_grad():
            model(*data.rows(slice(1)).inputs)
    finally:
        for hook in hooks:
            hook.remove()
    shared = [cast(Tensor, layers[name].weight).data_ptr() for name in names]
    return [name for name in order if shared.count(cast(Tensor, layers[name].weight).data_ptr()) == 1]


def _seen(problem: Original, model: nn.Module, name: str, data: Data, outputs: bool) -> Tensor:
    """What a layer is called with, or returns, over some examples [N, ...]; what comes after it is not computed."""
    seen: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        seen.append((out if outputs else args[0]).detach())
        raise _ReachedError

    handle = model.get_submodule(name).register_forward_hook(hook)
    try:
        with torch.no_grad():
            for part in data.batches(problem.workload.batch):
                try:
                    model(*part.inputs)
                except _ReachedError:
                    continue
    finally:
        handle.remove()
    return torch.cat(seen)
