"""Weights in few bits, on a grid that is even in a power of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from isoflop.claim.base import Finding, Size, Value
from isoflop.claim.nupes import LEAST
from isoflop.cost import Meter
from isoflop.cost.ops import stored_bytes
from isoflop.example import sentences
from isoflop.method.compress.clip import Clip
from isoflop.method.compress.nupes import Nupes as Method
from isoflop.method.shrink import Original, Workload

_WIDTHS = {"quick": (3,), "full": (4, 3)}  # bits
_LAYERS = {"quick": 1, "full": 6}
_STEPS = {"quick": 20, "full": 100}
_SENTENCES = {"quick": 32, "full": 128}


def findings(size: Size) -> list[Finding]:
    """Each arm at both widths."""
    work, model = sentences.workload(_SENTENCES[size]), sentences.build()
    model.layers = model.layers[: _LAYERS[size]]
    widths, steps = _WIDTHS[size], _STEPS[size]
    arms: dict[str, Clip | Method] = {
        "even": Clip(bits=widths, embeddings=False, clip=False),
        "even, clipped": Clip(bits=widths, embeddings=False),
        "power, clipped": Method(bits=widths, embeddings=False, steps=0),
        "even, learned": Method(bits=widths, embeddings=False, power=False, steps=steps),
        "power, learned": Method(bits=widths, embeddings=False, steps=steps),
    }
    found = {name: _played(method, model, work) for name, method in arms.items()}
    return [finding for bits in widths for finding in _compare(bits, {n: f[bits] for n, f in found.items()}, size)]


@dataclass(frozen=True)
class _Arm:
    """Mean cosine on the test sentences, bytes stored, and what was spent to get there (FLOPs, seconds)."""

    cosine: float
    stored: int
    once_flops: float
    once_s: float


def _played(method: Clip | Method, model: nn.Module, work: Workload) -> dict[int, _Arm]:
    """What a method makes of the model at each width; each is charged what was spent on it alone."""
    meter = Meter()
    problem, found, before = Original(model, work, meter, model), dict[int, _Arm](), meter.spent
    made = method.run(problem, meter, np.random.default_rng(0))
    for bits, shrunk in zip(method.bits, made):
        spent = meter.spent
        with torch.no_grad():
            cosine = sentences.closeness(shrunk.module(*work.test.inputs), model(*work.test.inputs)).mean().item()
        flops, wall_s = spent.flops - before.flops, spent.wall_s - before.wall_s
        found[bits] = _Arm(round(cosine, 4), stored_bytes(shrunk.module), flops, round(wall_s, 1))
        before = meter.spent
    return found


def _compare(bits: int, arms: dict[str, _Arm], size: Size) -> list[Finding]:
    cosine = {name: arm.cosine for name, arm in arms.items()}
    measured: dict[str, Value] = {f"cosine, {name}": x for name, x in cosine.items()}
    cost: dict[str, Value] = {f"once TFLOP, {name}": round(arm.once_flops / 1e12, 2) for name, arm in arms.items()}
    cost |= {f"stored MB, {name}": round(arm.stored / 1e6, 3) for name, arm in arms.items()}
    free = cosine["power, clipped"]
    enough = size == "quick" or free >= LEAST[bits]
    return [
        Finding(
            f"{bits} bits without data: the power grid is above the clipped even grid"
            + (f", and at least {LEAST[bits]}" if size == "full" else ""),
            enough and free > cosine["even, clipped"] > cosine["even"],
            measured,
        ),
        Finding(
            f"{bits} bits: learned on {_STEPS[size]} steps a layer the power grid is above the one without data",
            cosine["power, learned"] > free,
            cost,
        ),
        Finding(
            f"{bits} bits: learned for as long, the power grid is above the even grid",
            cosine["power, learned"] > cosine["even, learned"],
            {name: cosine[name] for name in ("even, learned", "power, learned")},
        ),
    ]
