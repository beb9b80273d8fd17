"""Ask a little model first, and a big one only where it is worth it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final, get_args

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.cost import Meter
from isoflop.method.conditional.budget import cut
from isoflop.method.conditional.exit_training import Descent
from isoflop.method.conditional.exits import Standard, confidence, distance, one_tensor
from isoflop.method.conditional.pair import find_pair
from isoflop.method.shrink import Conditional, Original, Output, Refused, ShrinkMethod, Shrunk

CascadeRule = Literal["confidence", "gain"]
_OFFSETS = 61  # places around the likeliest class that the foreseen gain is read from
_DECAY = 0.1  # of the weights it is read with, in units of the features' variance


class Doubt(nn.Module):
    """Minus the log-odds of the likeliest class.

    Args:
        probabilities: whether outputs are probabilities and not logits.
    """

    def __init__(self, probabilities: bool) -> None:
        super().__init__()
        self.probabilities = probabilities

    def forward(self, outputs: Tensor) -> Tensor:
        """The little model's answers [B, ..., K], to how much the big one is wanted [B]."""
        return -confidence(outputs, self.probabilities)


class Gain(nn.Module):
    """What the big model is foreseen to do better: a linear map of the little model's answer.

    The answer is seen from its likeliest class, so that what is learnt of one holds for others: for ordered classes
    (pitches, positions, ages) a second peak at a certain distance tells a certain mistake.

    Args:
        answers: of the little model [N, ..., K], for their scale.
        probabilities: whether they are probabilities and not logits.
    """

    def __init__(self, answers: Tensor, probabilities: bool) -> None:
        super().__init__()
        self.probabilities = probabilities
        seen = self.seen(answers)
        self.norm, self.map = Standard(seen), nn.Linear(seen.shape[1], 1)
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def seen(self, answers: Tensor) -> Tensor:
        """Features [B, F] of answers [B, ..., K]."""
        flat = answers.flatten(1)
        values = torch.logit(flat, eps=1e-4) if self.probabilities else flat
        classes = answers.shape[-1]
        reach = torch.linspace(-(classes - 1) / 2, (classes - 1) / 2, min(_OFFSETS, classes), device=flat.device)
        around = (flat.argmax(1, keepdim=True) + reach.round().long()).clamp(0, flat.shape[1] - 1)
        doubt = -confidence(answers, self.probabilities)
        return torch.cat([doubt[:, None], values.amax(1, keepdim=True), values.gather(1, around)], 1)

    def forward(self, outputs: Tensor) -> Tensor:
        """The little model's answers [B, ..., K], to how much the big one is wanted [B]."""
        return self.map(self.norm(self.seen(outputs))).squeeze(1)


class AskingBig(Conditional):
    """A little model's answer, or a big one's where that is wanted more than a threshold.

    Args:
        little: asked first.
        big: asked about the rest.
        wanted: the little model's answers [B, ...] to how much the big one is wanted [B].
        threshold: above which it is asked.
    """

    def __init__(self, little: nn.Module, big: nn.Module, wanted: nn.Module, threshold: float) -> None:
        super().__init__()
        self.little, self.big, self.wanted, self.threshold = little, big, wanted, threshold

    def forward(self, *inputs: Tensor) -> Output:
        """What either takes, to what either returns."""
        answer = self.little(*inputs)
        asked = self.wanted(answer) > self.threshold
        if not asked.any():
            return answer
        answer = answer.clone()
        answer[asked] = self.big(*(x[asked] for x in inputs))
        return answer


@final
@dataclass(frozen=True)
class Cascade(ShrinkMethod):
    """A little and a big model; the big one is asked only where it is worth it.

    With `confidence` nothing is trained: the big model is asked where the little one is not sure. That is the usual
    rule, and it fails where the little model is sure and wrong, or where no model could tell: both models are then paid
    for the same mistake. With `gain` the calibration data are put to both models once, and what the big one does
    better (its score, or without targets its distance) is foreseen from the little one's answer. Thresholds are solved
    so that the mean cost is the one asked for.

    Cost: one pass of the little model over the calibration data; with `gain` one of the big model too, and
    `steps` of a linear map.
    Buys: no law known. The mean cost is little + share passed on * big.
    Args:
        rule: `confidence` or `gain`.
        little: where it is built, `package.module:function:word`; empty where another method made the model cheaper.
        budgets: mean FLOPs of an input, each as a fraction of the big model's.
        steps: of training for `gain` (count).
    """

    rule: CascadeRule = "confidence"
    little: str = ""
    budgets: tuple[float, ...] = (0.9, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    steps: int = 300

    source = "cascades (Viola & Jones 2001; Wang et al. 2017, IDK cascades)"
    cost = "a pass of the little model over the calibration data, and for gain of the big one"
    buys = "no law known; the mean cost is what was asked for"

    def __post_init__(self) -> None:
        if self.rule not in get_args(CascadeRule):
            raise ValueError(f"rule={self.rule!r} is none of {', '.join(get_args(CascadeRule))}")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a pair with a threshold for each budget, from dear to cheap."""
        pair = find_pair(problem, self.little)
        cheapest = pair.little_flops / pair.big_flops
        budgets = [b for b in sorted(self.budgets, reverse=True) if cheapest <= b <= 1 + cheapest]
        if not budgets:
            raise Refused(f"the little model alone costs {cheapest:.3f}x the big one, more than any of {self.budgets}")
        answers = torch.cat([one_tensor(out) for out in problem.outputs(pair.little, problem.calibration)])
        if answers.ndim < 2 or answers.shape[-1] < 2:
            raise Refused("answers are single numbers, which have no confidence")
        probabilities = bool(((answers >= 0) & (answers <= 1)).all())
        wanted = self._gain(problem, pair.big, answers, probabilities) if self.rule == "gain" else Doubt(probabilities)
        with problem.spending("tune"), torch.no_grad():
            content = -wanted(answers).double().numpy()[:, None]
        for budget in budgets:
            passed = budget - cheapest
            threshold = -float(cut(content, np.array([1 - passed, passed]))[0])
            note = f"little ({cheapest:.3f}x) first, the big one by {self.rule} above {threshold:.3g}: {budget:g}x mean"
            yield Shrunk(AskingBig(pair.little, pair.big, wanted, threshold), note)

    def _gain(self, problem: Original, big: nn.Module, answers: Tensor, probabilities: bool) -> nn.Module:
        data, work = problem.calibration, problem.workload
        better = torch.cat([one_tensor(out) for out in problem.outputs(big, data)])
        if data.targets is None:
            gained = distance(better, answers)
        else:
            gained = torch.tensor(work.scores(better, data) - work.scores(answers, data), dtype=answers.dtype)
        with problem.spending("tune"), torch.no_grad():
            gain = Gain(answers, probabilities)
            seen = gain.norm(gain.seen(answers))
        descent = Descent([gain.map.weight, gain.map.bias], 1e-2, self.steps)
        for _ in problem.repeat(self.steps, "train"):
            missed = gain.map(seen).squeeze(1) - gained
            descent.step((missed**2).mean() + _DECAY * (gain.map.weight**2).sum())
        return gain.eval()
