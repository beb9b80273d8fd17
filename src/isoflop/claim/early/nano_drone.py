"""CREPE tiny and full on streams of sound: which frames need the full one?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.claim.base import Finding, Size, Value
from isoflop.cost import Meter
from isoflop.cost.ops import OpMeter
from isoflop.example import pitch
from isoflop.method.conditional.cascade import Cascade
from isoflop.method.conditional.nano_drone import NanoDrone, OverFrames
from isoflop.method.shrink import Data, Original, ShrinkMethod, Workload

_SAVED = 0.72  # of the big model's cost: the paper's 28 % less
_HALF = 0.5
_UNIT = 1e5  # FLOPs for which one stands in
_EQUAL = 0.015  # of pitch accuracy, the target's .80 of .815


class Recorded(nn.Module):
    """Answers of a network to sound that it has been put to before, so that no frame is computed twice.

    A product of `flops` / 1e5 stands for what it would compute, so that a method finds the pair's ratio; what was asked
    of it is kept, so that `_point` can charge the whole.

    Args:
        answers: by frame.
        flops: what the network computes for one (count).
    """

    def __init__(self, answers: dict[bytes, Tensor], flops: float) -> None:
        super().__init__()
        self.answers, self.flops, self.asked = answers, flops, 0
        self.stand_in = round(flops / _UNIT / 2)

    def forward(self, frames: Tensor) -> Tensor:
        """Sound [B, 1024] to probabilities [B, 360]."""
        self.asked += len(frames)
        _ = torch.ones(len(frames), self.stand_in) @ torch.ones(self.stand_in, 1)
        return torch.stack([self.answers[_key(frame)] for frame in frames])


def findings(size: Size) -> list[Finding]:
    """Compare both policies with the big model, with lots at equal cost, and with cascades over single frames."""
    work = pitch.workload(100 if size == "quick" else 600)
    tiny, full = (_recorded(name, work) for name in ("tiny", "full"))
    clips = replace(
        work,
        name="pitch of streams",
        score=_right,
        **{split: _clips(work.data(split)) for split in ("calibration", "dev", "test")},
    )
    budgets = (0.72, 0.5) if size == "quick" else (0.9, 0.72, 0.6, 0.5, 0.4, 0.3)
    methods: dict[str, ShrinkMethod] = {
        "consistency": NanoDrone("consistency", budgets=budgets),
        "auxiliary": NanoDrone("auxiliary", budgets=budgets),
        "cascade by confidence": Cascade("confidence", budgets=budgets),
        "cascade by gain": Cascade("gain", budgets=budgets),
    }
    whole, least = _point(full, work), _point(tiny, work)
    measured: dict[str, dict[str, Value]] = {}
    saved: dict[str, float] = {}
    above: dict[str, bool] = {}
    for name, method in methods.items():
        streams = isinstance(method, NanoDrone)
        little, big = (OverFrames(tiny), OverFrames(full)) if streams else (tiny, full)
        task = clips if streams else work
        meter = Meter()
        measured[name], saved[name], above[name] = {}, 1.0, True
        for shrunk in method.run(Original(little, task, meter, big), meter, np.random.default_rng(0)):
            quality, flops = _point(shrunk.module, task)
            share = (flops - least[1]) / (whole[1] - least[1])
            by_lot = least[0] + share * (whole[0] - least[0])
            cost = flops / whole[1]
            measured[name][f"at {cost:.2f}x, and by lot"] = [round(quality, 4), round(by_lot, 4)]
            above[name] = above[name] and quality > by_lot
            if quality >= whole[0] - _EQUAL:
                saved[name] = min(saved[name], cost)
    ends: dict[str, Value] = {"full": whole[0], "tiny": least[0], "tiny's cost": round(least[1] / whole[1], 3)}
    policies, cascades = ("consistency", "auxiliary"), ("cascade by confidence", "cascade by gain")
    return [
        Finding(
            f"a policy on past answers keeps pitch accuracy (within {_EQUAL}) at 28 % less compute",
            min(saved[p] for p in policies) <= _SAVED,
            ends | {f"least cost, {name}": round(cost, 3) for name, cost in saved.items()},
        ),
        *(
            Finding(f"{name} is better than lots at equal cost, at each budget", above[name], measured[name])
            for name in (*policies, *cascades)
        ),
        Finding(
            "a cascade keeps pitch accuracy at half the compute",
            min(saved[c] for c in cascades) <= _HALF,
            {f"least cost, {name}": round(saved[name], 3) for name in cascades},
        ),
    ]


def _right(out: Tensor, cents: Tensor) -> Tensor:
    """The share of frames of each stream [N, 10, ...] that are right [N]."""
    return pitch.right(out.flatten(0, 1), cents.flatten()).reshape(cents.shape).mean(1)


def _recorded(name: pitch.Size, work: Workload) -> Recorded:
    """A network's answers to all frames of a workload."""
    net = pitch.build(name)
    answers: dict[bytes, Tensor] = {}
    with torch.no_grad():
        for data in (work.calibration, work.test):
            for part in data.batches(50):
                answers |= {_key(f): a for f, a in zip(part.inputs[0], net(*part.inputs), strict=True)}
        with OpMeter() as ops:
            net(work.test.inputs[0][:1])
    return Recorded(answers, ops.flops)


def _key(frame: Tensor) -> bytes:
    return frame[:16].numpy().tobytes()


def _clips(data: Data) -> Data:
    """Frames to streams [N, 10, 1024]."""
    (sound,), cents = data.inputs, data.targets
    assert cents is not None
    return Data((sound.reshape(-1, pitch.STREAM, pitch.FRAME),), cents.reshape(-1, pitch.STREAM))


def _point(module: nn.Module, work: Workload) -> tuple[float, float]:
    """Quality on test data, and FLOPs of a frame: those of the networks asked, and of the rule that asks them."""
    networks = [m for m in module.modules() if isinstance(m, Recorded)]
    before = [net.asked for net in networks]
    with torch.no_grad(), OpMeter() as ops:
        for row in work.test.batches(1):
            module(*row.inputs)
    asked = [net.asked - b for net, b in zip(networks, before, strict=True)]
    spent = ops.flops + sum(n * (net.flops - 2 * net.stand_in) for n, net in zip(asked, networks, strict=True))
    frames = work.test.inputs[0][..., 0].numel()
    return Original(module, work, Meter(), module).quality(module, work.test), spent / frames
