"""A converting autoencoder before a truncated network, on digits of which many are hard."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import nn

from isoflop.claim.base import Finding, Size, Value
from isoflop.claim.early.compare import Point, left_at, made, point, smaller_reader
from isoflop.example import digits
from isoflop.method.conditional.cbnet import Cbnet
from isoflop.method.conditional.exits import EarlyExit
from isoflop.method.conditional.multi_exit import MultiExit
from isoflop.method.shrink import Data, Workload

_NOISE = 0.5  # standard deviation added to pixels from 0 to 1
_EQUAL = 0.01  # of accuracy
_SAVED = 4.8  # times less, the paper's best
_BLOCKS = "0 1 2"  # exits after the stem and after the first residual block: all that saves so much
_TRAIN = {"quick": 1500, "full": 3000}  # digits
_EPOCHS = {"quick": 3, "full": 5}
_STEPS = {"quick": 100, "full": 400}  # of heads and converters


def noisy(workload: Workload, noise: float = _NOISE, every: int = 1) -> Workload:
    """The same digits in noise; of each `every` of them one stays as it is, if there are more than one."""
    generator = torch.Generator().manual_seed(7)

    def hard(data: Data) -> Data:
        (images,) = data.inputs
        added = noise * torch.randn(images.shape, generator=generator)
        if every > 1:
            added[::every] = 0
        return Data((images + added,), data.targets)

    parts = {split: hard(workload.data(split)) for split in ("calibration", "dev", "test")}
    return replace(workload, name="noisy digits", **parts)


def findings(size: Size, seed: int = 0) -> list[Finding]:
    """Compare both forms with the whole network, with early exits at equal FLOPs, and with narrower networks."""
    work = noisy(digits.workload(), every=2)
    work = replace(work, calibration=work.calibration.rows(slice(_TRAIN[size])))
    module: nn.Module = digits.trained(digits.network(), work.calibration, _EPOCHS[size], seed)
    whole = point(module, work, work.test, 2)
    measured: dict[str, Value] = {"whole accuracy": whole.quality}
    found: list[tuple[str, Point, float]] = []
    for form in ("convert", "adapt"):
        points, once = made(Cbnet(form, exits=2, steps=_STEPS[size], blocks=_BLOCKS), module, work)
        for shrunk in points:
            ours = point(shrunk.module, work, work.test, 2)
            measured[shrunk.note] = [round(ours.flops / whole.flops, 3), round(ours.quality, 4)]
            found.append((shrunk.note, ours, once))
    found.sort(key=lambda one: -one[1].flops)  # as early exits come
    equal: dict[str, Value] = {}
    shares = tuple(ours.flops / whole.flops for _, ours, _ in found)
    exits, _ = made(MultiExit(budgets=shares, exits=2, steps=_STEPS[size], blocks=_BLOCKS), module, work)
    others: list[float] = []
    for (note, ours, _), other in zip(found, exits, strict=True):
        left, _ = left_at(cast(EarlyExit, other.module), work, work.test)
        equal[f"{note}, and early exits at {left.flops / whole.flops:.3f}x"] = [ours.quality, round(left.quality, 4)]
        others.append(left.quality)
    small = {
        note: point(smaller_reader(share**0.5, work.calibration, once), work, work.test, 2)
        for (note, _, once), share in zip(found, shares, strict=True)
    }
    good = [ours.flops for _, ours, _ in found if ours.quality >= whole.quality - _EQUAL]
    return [
        Finding(
            f"at accuracy within {_EQUAL} a converter with a truncated network takes {_SAVED} times fewer FLOPs",
            bool(good) and min(good) <= whole.flops / _SAVED,
            measured,
        ),
        Finding(
            "where half the images are hard it is at least as good as early exits at equal FLOPs",
            all(ours.quality >= other for (_, ours, _), other in zip(found, others, strict=True)),
            equal,
        ),
        Finding(
            "it is better than a narrower network of about that cost, trained from scratch for the same once-cost",
            all(ours.quality > small[note].quality for note, ours, _ in found),
            {
                f"{note}, and narrower at {small[note].flops / whole.flops:.3f}x": [ours.quality, small[note].quality]
                for note, ours, _ in found
            },
        ),
    ]
