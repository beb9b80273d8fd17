"""Weights as indices into codebooks of groups of neurons, learned together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from isoflop.claim.base import Finding, Size, Value
from isoflop.cost import Meter
from isoflop.cost.ops import stored_bytes
from isoflop.example import sentences
from isoflop.method.compress.clip import Clip
from isoflop.method.compress.jlcm import Jlcm as Method
from isoflop.method.compress.nupes import Nupes
from isoflop.method.shrink import Original, Workload

_WIDTHS = {"quick": (2,), "full": (3, 2)}  # bits
_LAYERS = {"quick": 1, "full": 2}
_STEPS = {"quick": 20, "full": 60}
_SENTENCES = {"quick": 32, "full": 64}
_MORE = 0.02  # bytes that scales, codebooks and groups may add over an even grid's (fraction)


def findings(size: Size) -> list[Finding]:
    """Each arm at each width."""
    work, model = sentences.workload(_SENTENCES[size]), sentences.build()
    model.layers = model.layers[: _LAYERS[size]]
    widths, steps = _WIDTHS[size], _STEPS[size]
    arms: dict[str, Clip | Nupes | Method] = {
        "even, clipped": Clip(bits=widths, embeddings=False),
        "one codebook": Method(bits=widths, groups=1, embeddings=False, steps=0),
        "groups": Method(bits=widths, embeddings=False, steps=0),
        "even, learned": Nupes(bits=widths, embeddings=False, power=False, steps=steps),
        "groups, learned": Method(bits=widths, embeddings=False, steps=steps),
    }
    found = {name: _played(method, model, work) for name, method in arms.items()}
    return [finding for bits in widths for finding in _compare(bits, {n: f[bits] for n, f in found.items()})]


@dataclass(frozen=True)
class _Arm:
    """Mean cosine on the test sentences, bytes stored in the layers, and what was spent once (FLOPs)."""

    cosine: float
    stored: int
    once_flops: float


def _played(method: Clip | Nupes | Method, model: nn.Module, work: Workload) -> dict[int, _Arm]:
    meter = Meter()
    problem, found, before = Original(model, work, meter, model), dict[int, _Arm](), 0.0
    for bits, shrunk in zip(method.bits, method.run(problem, meter, np.random.default_rng(0))):
        with torch.no_grad():
            cosine = sentences.closeness(shrunk.module(*work.test.inputs), model(*work.test.inputs)).mean().item()
        layers = shrunk.module.get_submodule("layers")
        found[bits] = _Arm(round(cosine, 4), stored_bytes(layers), meter.spent.flops - before)
        before = meter.spent.flops
    return found


def _compare(bits: int, arms: dict[str, _Arm]) -> list[Finding]:
    cosine = {name: arm.cosine for name, arm in arms.items()}
    measured: dict[str, Value] = {f"cosine, {name}": x for name, x in cosine.items()}
    cost: dict[str, Value] = {f"stored MB, {name}": round(arm.stored / 1e6, 4) for name, arm in arms.items()}
    cost |= {f"once TFLOP, {name}": round(arm.once_flops / 1e12, 3) for name, arm in arms.items()}
    return [
        Finding(
            f"{bits} bits, not learned: sorted groups are above one codebook and above the clipped even grid",
            cosine["groups"] > max(cosine["one codebook"], cosine["even, clipped"]),
            measured,
        ),
        Finding(
            f"{bits} bits: learned, they are above not learned and above an even grid learned for as long",
            cosine["groups, learned"] > max(cosine["groups"], cosine["even, learned"]),
            measured,
        ),
        Finding(
            f"{bits} bits: groups take the bytes of the even grid within {_MORE:.0%}",
            arms["groups, learned"].stored <= (1 + _MORE) * arms["even, clipped"].stored,
            cost,
        ),
    ]
