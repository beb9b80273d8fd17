"""A converting autoencoder before a truncated network, on digits of which many are hard."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from isoflop.claim.base import Finding, Size, Value
from isoflop.claim.early.compare import digit_reader, left_at, made, point, smaller_reader
from isoflop.example import digits
from isoflop.method.conditional.cbnet import Cbnet
from isoflop.method.conditional.exits import EarlyExit
from isoflop.method.conditional.multi_exit import MultiExit
from isoflop.method.shrink import Data, Workload

_NOISE = 0.5  # standard deviation added to pixels from 0 to 1
_EQUAL = 0.01  # of accuracy
_SAVED = 4.8  # times less, the paper's best


def noisy(workload: Workload, noise: float = _NOISE) -> Workload:
    """The same digits in noise."""
    generator = torch.Generator().manual_seed(7)

    def hard(data: Data) -> Data:
        (images,) = data.inputs
        return Data((images + noise * torch.randn(images.shape, generator=generator),), data.targets)

    parts = {split: hard(workload.data(split)) for split in ("calibration", "dev", "test")}
    return replace(workload, name="noisy digits", **parts)


def findings(size: Size) -> list[Finding]:
    """Compare both forms with the whole network, with early exits at equal FLOPs, and with a narrower network."""
    _, clean = digit_reader()
    work = noisy(clean)
    steps, epochs = (150, 2) if size == "quick" else (400, 5)
    module: nn.Module = digits.trained(digits.network(), work.calibration, epochs)
    whole = point(module, work, work.test, 5)
    measured: dict[str, Value] = {"whole accuracy": whole.quality}
    best: dict[str, tuple[float, float]] = {}
    once = 0.0
    for form in ("convert", "adapt"):
        points, once = made(Cbnet(form, exits=2, steps=steps), module, work)
        for shrunk in points:
            found = point(shrunk.module, work, work.test, 5)
            cost = found.flops / whole.flops
            measured[shrunk.note] = [round(cost, 3), round(found.quality, 4)]
            if form not in best or found.quality > best[form][1]:
                best[form] = (cost, found.quality)
    equal: dict[str, Value] = {}
    beaten = True
    for form, (cost, quality) in best.items():
        (exits,), _ = made(MultiExit(budgets=(min(cost, 1.0),), steps=steps), module, work)
        model = exits.module
        assert isinstance(model, EarlyExit)
        other, _ = left_at(model, work, work.test)
        beaten = beaten and quality >= other.quality
        equal[f"{form} at {cost:.2f}x, and early exit"] = [round(quality, 4), round(other.quality, 4)]
    small = point(smaller_reader(best["adapt"][0] ** 0.5, work.calibration, once), work, work.test, 5)
    top = max(best.values(), key=lambda b: b[1])
    good = [b[0] for b in best.values() if b[1] >= whole.quality - _EQUAL]
    return [
        Finding(
            f"at accuracy within {_EQUAL} a converter with a truncated network takes {_SAVED} times fewer FLOPs",
            bool(good) and min(good) <= 1 / _SAVED,
            measured,
        ),
        Finding("on hard images it is at least as good as early exits at equal FLOPs", beaten, equal),
        Finding(
            "it is better than a narrower network of about that cost, trained from scratch for the same once-cost",
            top[1] > small.quality,
            {"converted": top[1], "narrower network": small.quality, "its FLOPs": round(small.flops / whole.flops, 3)},
        ),
    ]
