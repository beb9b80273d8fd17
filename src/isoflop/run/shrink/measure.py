"""How good a module is, and what one use of it computes, example by example."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from isoflop.cost import FREE, Cost, Meter
from isoflop.cost.energy import EnergyMeter
from isoflop.cost.ops import OpMeter, stored_bytes
from isoflop.frontier.estimate import Array
from isoflop.method.shrink import Data, Output, Workload, WorkloadError, is_conditional

_COMPARED = 2
_SAME = 0.05
"""Share of the largest output by which an example's may differ in another batch; rounding to 8 bits moves it less."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A module on N examples, each computed alone.

    Args:
        scores: quality of each answer, higher is better (N).
        flops: of each example (N).
        bytes_moved: of each example (N).
        peak_bytes: weights held and the activations alive at the worst moment, of each example (N).
    """

    scores: Array = field(repr=False)
    flops: Array = field(repr=False)
    bytes_moved: Array = field(repr=False)
    peak_bytes: Array = field(repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    def cost(self, i: int) -> Cost:
        """What example `i` computes; time and energy are measured apart."""
        return Cost(
            flops=float(self.flops[i]),
            bytes_moved=float(self.bytes_moved[i]),
            peak_bytes=float(self.peak_bytes[i]),
            wall_s=float("nan"),
            joules=float("nan"),
        )

    def then(self, more: Measured) -> Measured:
        """This and further examples."""
        names = ("scores", "flops", "bytes_moved", "peak_bytes")
        return Measured(*(np.concatenate([getattr(self, name), getattr(more, name)]) for name in names))


NOT_MEASURED = Measured(*(np.empty(0) for _ in range(4)))


def measure(module: nn.Module, workload: Workload, data: Data, meter: Meter) -> Measured:
    """Answers to some examples, scored, and what each computed; charged to `meter` as `verify`.

    Answers are computed in batches, or alone where they depend on what else is in the batch. What is computed is
    counted on one example; on each, for itself, of a conditional module.

    Raises:
        WorkloadError: the score cannot be used.
        BudgetExhausted: from the operator that would exceed a budget.
    """
    conditional, use = is_conditional(module), data if workload.use is None else workload.use
    size = 1 if not conditional and _depends_on_batch(module, data, meter) else workload.batch
    scores: list[Array] = []
    with OpMeter(meter, "verify"), torch.no_grad():
        for part in data.batches(size):
            scores.append(workload.scores(module(*part.inputs), part))
    counted = _counted(module, use if conditional else use.rows(slice(0, 1)), meter)
    return Measured(np.concatenate(scores), *np.resize(counted, (len(data), 3)).T)


def _counted(module: nn.Module, data: Data, meter: Meter) -> Array:
    """FLOPs, bytes moved and peak memory of each example alone [N, 3], counted once for each way through the module:
    the same operators on the same shapes spend the same."""
    held, rows, known = stored_bytes(module), list[tuple[float, float, float]](), dict[int, Cost]()
    energy, busy, dearest = EnergyMeter(), time.process_time(), FREE
    for part in data.batches(1):
        way, plain = _Way(), FREE
        if known:
            meter.admit(dearest).release()
            started = time.perf_counter()
            with way, torch.no_grad():
                module(*part.inputs)
            joules = energy.since_last(time.process_time() - busy).mid
            plain = Cost(wall_s=time.perf_counter() - started, joules=joules)
        if way.taken not in known:
            way = _Way()
            with OpMeter(meter, "verify") as ops, way, torch.no_grad():
                module(*part.inputs)
            known[way.taken] = ops.cost
            dearest = max(known.values(), key=lambda cost: cost.flops)
            energy = EnergyMeter()
        busy, cost = time.process_time(), known[way.taken]
        if plain.wall_s:
            meter.charge(replace(cost, wall_s=plain.wall_s, joules=plain.joules), "verify")
        rows.append((cost.flops, cost.bytes_moved, held + cost.peak_bytes))
    return np.array(rows)


class _Way(TorchDispatchMode):
    """Tells ways through a module apart, by the operators that run and the shapes of what they return."""

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.taken = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.taken = hash((self.taken, func, getattr(out, "shape", None)))
        return out


def _depends_on_batch(module: nn.Module, data: Data, meter: Meter) -> bool:
    some = data.rows(slice(0, _COMPARED))
    with OpMeter(meter, "verify"), torch.no_grad():
        together = module(*some.inputs)
        alone = [module(*some.rows(slice(i, i + 1)).inputs) for i in range(len(some))]
    return not all(same(tree_map(_row(i), together), out, _SAME) for i, out in enumerate(alone))


def _row(i: int) -> Any:
    def of(value: object) -> object:
        return value[i : i + 1] if isinstance(value, torch.Tensor) and value.dim() else value

    return of


def same(a: Output, b: Output, within: float) -> bool:
    """Whether two outputs agree, relative to the largest value of each tensor."""
    pairs = [(x, y) for x, y in zip(tree_leaves(a), tree_leaves(b), strict=True) if isinstance(x, torch.Tensor)]
    return all(x.shape == y.shape and _close(x, y, within) for x, y in pairs)


def _close(x: torch.Tensor, y: torch.Tensor, within: float) -> bool:
    if not x.is_floating_point():
        return bool((x == y).all())
    scale = float(y.abs().max()) if y.numel() else 0.0
    return bool(torch.allclose(x.float(), y.float(), rtol=0, atol=within * scale + 1e-9, equal_nan=True))


def refuse_unusable(module: object, workload: Workload) -> nn.Module:
    """The module, in evaluation mode, if it can be called on the workload's data.

    Raises:
        WorkloadError: it is no module, has weights that are no numbers, or fails on its data; the message says what.
    """
    if not isinstance(module, nn.Module):
        raise WorkloadError(f"the model is a {type(module).__name__}; it must be a torch.nn.Module")
    for name, weight in module.named_parameters():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            bad = int((~torch.isfinite(weight)).sum())
            raise WorkloadError(f"weight {name} has {bad} values of {weight.numel()} that are NaN or infinite; mend it")
    module.eval()
    sets = {"calibration": workload.calibration, "dev": workload.dev, "test": workload.test}
    for split, data in (sets if workload.use is None else {**sets, "use": workload.use}).items():
        some = data.rows(slice(0, 2))
        shapes = ", ".join(f"{list(x.shape)} {x.dtype}".replace("torch.", "") for x in some.inputs)
        try:
            with torch.no_grad():
                out = module(*some.inputs)
        except Exception as error:
            raise WorkloadError(
                f"{workload.name}: the model cannot be called on its {split} data ({shapes}): "
                f"{type(error).__name__}: {error}"
            ) from error
        if split in ("calibration", "use"):
            continue
        if not np.isfinite(workload.scores(out, some)).all():
            raise WorkloadError(f"{workload.name}: the original's scores on {split} data are not all finite numbers")
    return module
