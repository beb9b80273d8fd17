"""Softmax attention against agent attention as images grow."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from isoflop.claim.base import Finding, Value
from isoflop.claim.network import contest
from isoflop.claim.network.contest import as_good_as, seeded, tested, trained, with_inputs
from isoflop.claim.network.vision import PATCH, transformer
from isoflop.cost.ops import OpMeter
from isoflop.example import digits
from isoflop.method.architecture.agent_attention import with_agents

_AGENTS, _WIDTH, _DEPTH, _HEADS = 16, 32, 2, 2


def findings(sides: list[int], steps: int, images: int, margin: float) -> list[Finding]:
    """Train both at each resolution; the softmax also for only what agents cost in all, once."""
    found: list[Finding] = []
    gains: list[float] = []
    for side in sides:
        work = with_inputs(digits.workload(), partial(_enlarged, side=side), contest.TRAIN, images)
        softmax, agents = partial(_model, side), partial(_with_agents, side)
        model = seeded(agents)
        ours = tested(model, work, trained(model, work, steps))
        plain_model = seeded(softmax)
        plain = tested(plain_model, work, trained(plain_model, work, steps))
        same_cost = as_good_as(softmax, work, ours.once)
        ratio, foretold = (
            _attention_flops(plain_model, work.test.inputs[0]) / _attention_flops(model, work.test.inputs[0]),
            (side // PATCH) ** 2 / (2 * _AGENTS),
        )
        measured: dict[str, Value] = {
            "softmax [accuracy, Mflop a use, once]": plain.figures(),
            "agents": ours.figures(),
            "softmax trained for as many FLOPs": same_cost.figures(),
            "agents above softmax at equal steps [low, mean, high]": ours.above(plain),
            "agents above softmax at equal training cost": ours.above(same_cost),
            "attention FLOPs ratio": round(ratio, 4),
            "N / 2n": round(foretold, 4),
        }
        found.append(contest.has_learnt(plain))
        gains.append(plain.flops / ours.flops)
        equal = ours.above(plain)[1] >= -margin
        found.append(Finding(f"{side} pixels: as accurate within {margin:.0%} at equal steps", equal, measured))
        found.append(
            Finding(
                f"{side} pixels: attention costs 2n/N of softmax's", abs(ratio / foretold - 1) < 1e-3, {"ratio": ratio}
            )
        )
    grows = all(a < b for a, b in pairwise(gains)) and gains[-1] > 1
    found.append(
        Finding("the whole model's saving grows with resolution", grows, {"ratios": [round(g, 3) for g in gains]})
    )
    return found


def _enlarged(images: Tensor, side: int) -> Tensor:
    return functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def _model(side: int) -> nn.Module:
    return transformer(side, _WIDTH, _DEPTH, 4 * _WIDTH, _HEADS)


def _with_agents(side: int) -> nn.Module:
    return with_agents(_model(side), _AGENTS)


def _attention_flops(model: nn.Module, images: Tensor) -> float:
    """FLOPs of products among tokens alone, counted."""
    with OpMeter() as ops:
        model(images[:1])
    return sum(flops for name, flops in ops.by_op.items() if "attention" in name or "bmm" in name)
