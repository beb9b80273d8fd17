"""Digits that pass by row by row: window by window, step by step, seldom asked, and by a smaller network."""

from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.claim.base import Finding, Value
from isoflop.claim.network import contest
from isoflop.claim.network.contest import Result, made_by, seeded, trained, with_inputs
from isoflop.cost.ops import OpMeter
from isoflop.example import digits
from isoflop.method.conditional.continual_inference import Continual, ContinualInference, Latest, Sliding, in_steps
from isoflop.method.shrink import Data, Workload

_SIDE, _DIGITS, _KERNEL = 28, 5, 5  # rows of a digit; digits of a stream
_FEWER, _SAME = 10.0, 1e-5


def network(width: int) -> nn.Sequential:
    """A digit [B, 28, 28 rows] to logits: three convolutions over time, and their mean."""
    layers: list[nn.Module] = []
    for inputs in (_SIDE, width, width):
        layers += [nn.Conv1d(inputs, width, _KERNEL), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, 10))


class Turned(nn.Module):
    """[B, C, T] to [B, T, C]."""

    per_step = True

    def forward(self, x: Tensor) -> Tensor:
        """Time first."""
        return x.transpose(1, 2)


def attention() -> nn.Sequential:
    """A digit to logits by one transformer layer, from its newest row."""
    layer = nn.TransformerEncoderLayer(64, 4, 256, 0.0, batch_first=True)
    return nn.Sequential(Turned(), nn.Linear(_SIDE, 64), layer, Latest(), nn.Linear(64, 10))


def findings(width: int, steps: int, images: int) -> list[Finding]:
    """At the last row of each digit, the same FLOPs a row."""
    work = with_inputs(digits.workload(), _by_rows, contest.TRAIN, images)
    net = seeded(partial(network, width))
    once = trained(net, work, steps)
    streams = _streams(work)
    sliding = Sliding(net, _SIDE).eval()
    ((continual, spent),) = made_by(ContinualInference(), sliding, streams)
    window, step = _per_step(sliding), _per_step(continual)
    answers, ours_out = _answers(sliding, streams), _answers(continual, streams)
    apart = float((answers - ours_out).abs().max() / answers.abs().max())
    right = partial(_right, streams)
    every = int(np.ceil(window / step))
    plain = Result(right(answers), window, once)
    ours = Result(right(ours_out), step, once + spent)
    held = np.mean([right(_held(answers, every, phase)) for phase in range(every)], axis=0)
    seldom = Result(held, window / every, once)
    small_width = max(w for w in range(1, width + 1) if w == 1 or _per_step(Sliding(network(w), _SIDE)) <= step)
    small = _small(small_width, work, streams, ours.once)
    figures: dict[str, Value] = {
        "window by window [accuracy, Mflop a row, once]": plain.figures(),
        "step by step": ours.figures(),
        f"asked every {every} rows": seldom.figures(),
        f"window by window, width {small_width} for {width}, trained for the same FLOPs": small.figures(),
    }
    ratio: dict[str, Value] = {"ratio": round(window / step, 3)}
    return [
        contest.has_learnt(plain),
        Finding("the same answers with the same weights", apart <= _SAME, {"largest difference": apart}),
        Finding(f"convolutions: {_FEWER:g} times fewer FLOPs a row", window / step >= _FEWER, figures | ratio),
        _of_attention(),
        _above("the same network asked as seldom as costs the same", ours, seldom),
        _above("a smaller network that costs the same", ours, small),
    ]


def _above(what: str, ours: Result, other: Result) -> Finding:
    gain = ours.above(other)
    return Finding(f"above {what}", gain[0] > 0, {"gain [low, mean, high]": gain})


def _of_attention() -> Finding:
    """A transformer layer, untrained: what it computes does not depend on its weights."""
    sliding = Sliding(seeded(attention), _SIDE).eval()
    continual = in_steps(sliding, torch.Size([1, _SIDE, 40]))
    stream = torch.randn(2, _SIDE, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = sliding(stream)
        apart = float((answers - continual(stream)).abs().max() / answers.abs().max())
    ratio = _per_step(sliding) / _per_step(continual)
    measured: dict[str, Value] = {"ratio": round(ratio, 3), "largest difference": apart}
    return Finding(
        f"a transformer layer: {_FEWER:g} times fewer FLOPs a row", ratio >= _FEWER and apart <= _SAME, measured
    )


def _small(width: int, work: Workload, streams: Workload, once: float) -> Result:
    build = partial(network, width)
    step = trained(seeded(build), work, 2) / 2
    net = seeded(build)
    spent = trained(net, work, int(once / step))
    sliding = Sliding(net, _SIDE).eval()
    return Result(_right(streams, _answers(sliding, streams)), _per_step(sliding), spent)


def _by_rows(images: Tensor) -> Tensor:
    """[N, 1, 28, 28] to columns as channels and rows as time [N, 28, 28]."""
    return images.squeeze(1).transpose(1, 2)


def _streams(work: Workload) -> Workload:
    """Five digits after each other: [N, 28, 140], and their labels [N, 5]."""
    parts: list[Data] = []
    for data in (work.calibration.rows(slice(0, 50)), work.dev, work.test):
        count = len(data) // _DIGITS
        kept = data.rows(slice(0, count * _DIGITS))
        rows = kept.inputs[0].reshape(count, _DIGITS, _SIDE, _SIDE).permute(0, 2, 1, 3).reshape(count, _SIDE, -1)
        labels = cast(Tensor, kept.targets).view(count, _DIGITS)
        parts.append(Data((rows,), labels))
    return Workload("digits by rows", *parts, score=_share, loss=functional.cross_entropy, batch=20)


def _share(outputs: Tensor, labels: Tensor) -> Tensor:
    """Outputs at all rows [B, S, 10]: share of the digits right at their last rows [B]."""
    return (outputs[:, ::_SIDE].argmax(2) == labels).float().mean(1)


def _answers(module: nn.Module, streams: Workload) -> Tensor:
    with torch.no_grad():
        return torch.cat([module(*part.inputs) for part in streams.test.batches(streams.batch)])


def _right(streams: Workload, outputs: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return streams.scores(outputs, streams.test)


def _held(outputs: Tensor, every: int, phase: int) -> Tensor:
    """What stands if only every so many rows are asked for, and the answer is held in between."""
    at = torch.arange(outputs.shape[1])
    return outputs[:, ((at - phase).div(every, rounding_mode="floor") * every + phase).clamp_min(0)]


def _per_step(module: nn.Module) -> float:
    """FLOPs of one more row once the stream is under way."""
    stream = torch.zeros(1, _SIDE, 2 * _SIDE)
    if not isinstance(module, Continual):
        with OpMeter() as ops, torch.no_grad():
            module(stream[:, :, :_SIDE])
        return ops.flops
    state = None
    flops = 0.0
    with torch.no_grad():
        for sample in stream.unbind(2):
            with OpMeter() as ops:
                _, state = module.forward_step(sample, state)
            flops = ops.flops
    return flops
