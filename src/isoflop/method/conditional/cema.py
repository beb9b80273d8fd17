"""Adapt a model at the edge to inputs that have shifted, by a teacher in the cloud that sees the few worth sending."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.cost import Cost, Meter
from isoflop.method.conditional.exit_training import Descent
from isoflop.method.conditional.exits import one_tensor
from isoflop.method.conditional.pair import find_pair
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_KEPT = 512  # uploaded inputs that the cloud replays (count)
_RATE = 5e-3


@final
@dataclass(frozen=True)
class Cema(ShrinkMethod):
    """A little model at the edge follows a shift with forward passes only; a big one in the cloud teaches it.

    The calibration data are a stream of shifted inputs without labels. The edge computes each batch (which also moves
    the statistics of its batch norms) and uploads an input only if the entropy of its answer lies above `low`, where
    there is something to learn, and below a limit that shrinks as the edge becomes surer, where its answer can be
    relied on at all. The cloud distils the big model into the scales and shifts of the edge's norms, on what came and
    a replay of what came before, and sends these back. What is sent either way is charged as bytes. It loses where the
    big model is thrown off by the shift as well.

    Cost: a pass of the little model over the stream; for what is uploaded a pass of the big one, and `steps` training
    steps of the little one for each batch; bytes both ways.
    Buys: the paper: about 60 % fewer uploads at equal accuracy; no law known.
    Args:
        little: the edge's model, `package.module:function:word`; empty where another method made the model cheaper.
        low: least entropy to upload at, as a fraction of ln(classes).
        high: largest entropy to upload at when the stream begins, as a fraction of ln(classes).
        shrinking: whether that limit falls with the mean entropy of the edge's answers.
        steps: of training for each batch of the stream (count).
    """

    little: str = ""
    low: float = 0.02
    high: float = 0.4
    shrinking: bool = True
    steps: int = 3

    source = "cema"
    cost = "stream * little + uploads * (big + bytes) + batches * steps * training step"
    buys = "no law known; uploads are those with low < entropy < high, which shrinks"

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError("low and high must be fractions of ln(classes) with 0 <= low < high <= 1")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield the edge's model half way through the stream and at its end; both cost the same."""
        pair = find_pair(problem, self.little)
        edge, cloud = copy.deepcopy(pair.little), pair.big
        learnt = norm_parameters(edge)
        batches = list(problem.calibration.batches(problem.workload.batch))
        classes = self._classes(problem, edge, batches[0].inputs)
        limit, seen, sent = self.high * math.log(classes), 0, 0
        before = math.nan
        kept: list[Tensor] = []
        descent = Descent(learnt, _RATE, len(batches) * self.steps)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        for n, part in enumerate(batches):
            with problem.spending("tune"), torch.no_grad():
                uncertain = entropy(one_tensor(_following(edge, part.inputs)))
            chosen = (uncertain > self.low * math.log(classes)) & (uncertain < limit)
            mean = float(uncertain.mean())
            if self.shrinking and mean < before:
                limit *= mean / before
            before = mean if math.isnan(before) else min(before, mean)
            seen, sent = seen + len(chosen), sent + int(chosen.sum())
            if chosen.any():
                new = [x[chosen] for x in part.inputs]
                _send(meter, sum(x.nbytes for x in new))
                kept = [torch.cat([a, b])[-_KEPT:] for a, b in zip(kept, new, strict=True)] if kept else new
                for _ in range(self.steps):  # counted one by one: batches of uploads differ in size
                    old = torch.randint(len(kept[0]), (len(new[0]),), generator=generator)
                    batch = [torch.cat([a, b[old]]) for a, b in zip(new, kept, strict=True)]
                    with problem.spending("train"):
                        with torch.no_grad():
                            taught = one_tensor(cloud(*batch)).softmax(-1)
                        descent.step(functional.cross_entropy(one_tensor(edge(*batch)), taught))
                _send(meter, sum(p.nbytes for p in learnt))
            if n + 1 in {max(1, len(batches) // 2), len(batches)}:
                yield Shrunk(copy.deepcopy(edge).eval(), f"norms adapted on {seen} inputs, {sent / seen:.0%} uploaded")

    def _classes(self, problem: Original, edge: nn.Module, inputs: Sequence[Tensor]) -> int:
        with problem.spending("tune"), torch.no_grad():
            answers = one_tensor(edge(*(x[:1] for x in inputs)))
        if answers.ndim != 2 or answers.shape[1] < 2:
            raise Refused(f"answers of shape {tuple(answers.shape[1:])} have no entropy; it needs logits of classes")
        return answers.shape[1]


def norm_parameters(module: nn.Module) -> list[Tensor]:
    """The scales and shifts of all norms, ready to be trained.

    Raises:
        Refused: there are none.
    """
    norms = [m for m in module.modules() if isinstance(m, _NORMS)]
    found = [p.requires_grad_(True) for norm in norms for p in norm.parameters()]
    if not found:
        raise Refused("the little model has no norm with a scale or a shift, which is all that is adapted")
    return found


def entropy(logits: Tensor) -> Tensor:
    """Of the answer to each of B examples [B] (nats)."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def _following(edge: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Answers to a batch; batch norms move their statistics towards it, and answer by them."""
    norms = [m for m in edge.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)]
    if norms:
        for norm in norms:
            norm.train()
        edge(*inputs)
        for norm in norms:
            norm.eval()
    return edge(*inputs)


def _send(meter: Meter, sent_bytes: float) -> None:
    """Charge what goes over the network."""
    cost = Cost(bytes_moved=sent_bytes)
    meter.admit(cost).settle(cost, "tune")
