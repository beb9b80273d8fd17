"""Learners by the token in a trained vision transformer, against a random router and a narrower model."""

from __future__ import annotations

import copy
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from isoflop.claim.base import Finding, Value
from isoflop.claim.network import contest
from isoflop.claim.network.contest import as_good_as, made_by, seeded, tested, trained, with_inputs
from isoflop.claim.network.vision import transformer
from isoflop.example import digits
from isoflop.method.conditional.acm import Acm, AdaptiveModule
from isoflop.method.shrink import Workload

_LEARNERS, _LOSS = 4, 0.01
_WIDTH, _DEPTH, _INNER, _HEADS = 32, 2, 128, 2


class RandomGate(nn.Module):
    """A gate that takes counts at given odds, whatever the token."""

    def __init__(self, odds: Tensor) -> None:
        super().__init__()
        self.odds, self.draw = odds, torch.Generator().manual_seed(0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [n, D] to logits [n, N] of one drawn count each."""
        counts = torch.multinomial(self.odds, len(tokens), replacement=True, generator=self.draw)
        return nn.functional.one_hot(counts, len(self.odds)).float()


def findings(steps: int, tuning: int, images: int, budgets: tuple[float, ...]) -> list[Finding]:
    """One model made adaptive at several budgets, beside what else that cost could buy."""
    work = with_inputs(digits.workload(), lambda x: x, contest.TRAIN, images)
    model = seeded(_model)
    once = trained(model, work, steps)
    whole = tested(model, work, once)
    found = [contest.has_learnt(whole)]
    curve: list[list[float]] = []
    for budget, (adaptive, spent) in zip(
        budgets, made_by(Acm(_LEARNERS, budgets, tuning, batch=50), model, work), strict=True
    ):
        ours = tested(adaptive, work, once + spent)
        odds = _odds(adaptive, work)
        shares = [float((o * torch.arange(1, _LEARNERS + 1)).sum() / _LEARNERS) for o in odds]
        random = tested(_random(adaptive, odds), work, once + spent)
        inner = max(1, round(_INNER * sum(shares) / len(shares)))
        fixed = as_good_as(partial(_model, inner), work, ours.once)
        curve.append([budget, *ours.figures()])
        figures: dict[str, Value] = {
            "whole [accuracy, Mflop a use, once]": whole.figures(),
            "adaptive": ours.figures(),
            "random router of the same odds": random.figures(),
            f"{inner} hidden units for all, trained from scratch for the same FLOPs": fixed.figures(),
            "learners taken, by layer": [round(s, 3) for s in shares],
        }
        lost, over_random, over_fixed = whole.above(ours), ours.above(random), ours.above(fixed)
        found += [
            Finding(
                f"budget {budget:.0%}: no more than {_LOSS:.0%} of accuracy lost",
                lost[1] <= _LOSS,
                figures | {"lost [low, mean, high]": lost},
            ),
            Finding(
                f"budget {budget:.0%}: above a random router",
                over_random[0] > 0,
                {"gain [low, mean, high]": over_random},
            ),
            Finding(
                f"budget {budget:.0%}: not below a narrower model trained for the same FLOPs",
                over_fixed[2] >= 0,
                {"gain [low, mean, high]": over_fixed},
            ),
        ]
    cheaper = all(a[2] > b[2] for a, b in pairwise(curve)) and curve[0][2] < whole.flops / 1e6
    points: dict[str, Value] = {f"budget {row[0]:.0%}": row[1:] for row in curve}
    return [*found, Finding("one model serves a range of costs, all below the whole one's", cheaper, points)]


def _model(inner: int = _INNER) -> nn.Module:
    return transformer(28, _WIDTH, _DEPTH, inner, _HEADS)


def _adaptive(model: nn.Module) -> list[AdaptiveModule]:
    return [part for part in model.modules() if isinstance(part, AdaptiveModule)]


def _odds(model: nn.Module, work: Workload) -> list[Tensor]:
    """How often each gate takes each count, on the dev split [N]."""
    seen: dict[int, Tensor] = {i: torch.zeros(_LEARNERS) for i in range(len(_adaptive(model)))}

    def watcher(i: int) -> Any:
        def watch(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
            seen[i] += out.argmax(1).bincount(minlength=_LEARNERS)

        return watch

    hooks = [part.gate.register_forward_hook(watcher(i)) for i, part in enumerate(_adaptive(model))]
    with torch.no_grad():
        for part in work.dev.batches(work.batch):
            model(*part.inputs)
    for hook in hooks:
        hook.remove()
    return [counts / counts.sum() for counts in seen.values()]


class _Costed(nn.Module):
    """A random gate beside the products of the real one, so that both cost the same."""

    def __init__(self, gate: nn.Module, odds: Tensor) -> None:
        super().__init__()
        self.gate, self.random = gate, RandomGate(odds)

    def forward(self, tokens: Tensor) -> Tensor:
        self.gate(tokens)
        return self.random(tokens)


def _random(model: nn.Module, odds: list[Tensor]) -> nn.Module:
    """The model with its gates replaced by chance."""
    other = copy.deepcopy(model)
    for part, each in zip(_adaptive(other), odds):
        part.gate = _Costed(part.gate, each)
    return other
