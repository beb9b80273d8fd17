"""Training a changed model back towards the original: what methods that remove parts share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.method.shrink import Data, Original, backward

_REFRESHED = 1024
"""Examples that statistics of norms are measured on, at most (count)."""


@dataclass(frozen=True)
class Tuning:
    """How long to train, and how.

    Args:
        steps: of Adam (count); the rate falls to 0 along a cosine.
        rate: at the start.
        batch: examples in a step (count).
    """

    steps: int
    rate: float
    batch: int


def objective(problem: Original, module: nn.Module, part: Data) -> Tensor:
    """What is minimised: distance to the teacher's outputs, and the workload's loss where it has one."""
    made = module(*part.inputs)
    with torch.no_grad():
        wanted = problem.teacher(*part.inputs)
    apart = problem.workload.imitation(made, wanted)
    loss = problem.workload.loss
    return apart if loss is None or part.targets is None else apart + loss(made, part.targets)


def tune(
    problem: Original, module: nn.Module, parameters: Iterable[nn.Parameter], tuning: Tuning, rng: np.random.Generator
) -> None:
    """Train some parameters of a module on calibration data; statistics of norms stay as they are."""
    learned = list(parameters)
    optimiser = torch.optim.Adam(learned, lr=tuning.rate)
    for i in problem.repeat(tuning.steps, "train"):
        optimiser.param_groups[0]["lr"] = tuning.rate * (1 + np.cos(np.pi * i / tuning.steps)) / 2
        part = problem.calibration.rows(rng.integers(len(problem.calibration), size=tuning.batch).tolist())
        optimiser.zero_grad()
        with torch.enable_grad():
            backward(objective(problem, module, part), learned)
        nn.utils.clip_grad_norm_(learned, 1.0)
        step(optimiser)
    for p in learned:
        p.grad = None


def seed_of(rng: np.random.Generator) -> int:
    """A seed for a generator of torch."""
    return int(rng.integers(2**31))


def step(optimiser: torch.optim.Optimizer) -> None:
    """One step of an optimiser."""
    cast(Any, optimiser).step()


def tune_with_norms(problem: Original, module: nn.Module, tuning: Tuning, rng: np.random.Generator) -> None:
    """Train all parameters with batch norms that see each batch, as training from scratch does; then measure them."""
    norms = _norms(module)
    for m in norms:
        m.train()
    tune(problem, module, module.parameters(), tuning, rng)
    for m in norms:
        m.eval()
    with problem.spending():
        refresh_norms(problem, module)


def _norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:  # pyright: ignore[reportPrivateUsage]
    kind = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
    return [m for m in module.modules() if isinstance(m, kind) and m.track_running_stats]


def refresh_norms(problem: Original, module: nn.Module) -> None:
    """Measure the statistics of batch norms anew, on some calibration data: the original's are of other inputs."""
    norms = _norms(module)
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the mean over all batches
        m.train()
    problem.outputs(module, problem.calibration.spread(_REFRESHED))
    for m, momentum in zip(norms, momenta):
        m.momentum = momentum
        m.eval()


def by_kind(names: Iterable[str], few: int) -> dict[str, list[str]]:
    """Names that differ in numbers only, together under one name; each on its own where there are few.

    >>> by_kind(["h.0.up", "h.1.up", "h.0.down", "h.1.down"], few=3)
    {'h.*.up': ['h.0.up', 'h.1.up'], 'h.*.down': ['h.0.down', 'h.1.down']}
    """
    names, kinds = list(names), cast(dict[str, list[str]], {})
    for name in names:
        kinds.setdefault(name if len(names) <= few else re.sub(r"\b\d+\b", "*", name), []).append(name)
    return kinds


def swapped(model: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """`model`, changed to have other layers at some names; the layer itself if the model is one."""
    for name, layer in layers.items():
        if not name:
            return layer
        model.set_submodule(name, layer)
    for module in model.modules():
        # Their fused path reads float weights of linear layers instead of calling them.
        if isinstance(module, nn.TransformerEncoderLayer) and not all(
            type(m) is nn.Linear for m in (module.linear1, module.linear2)
        ):
            module.activation_relu_or_gelu = 0
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    return model
