"""Leaving once the action has stopped changing saves 5 to 6 times the compute at equal success."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class DeerVla(Claim):
    """Leaving once the action has stopped changing saves 5 to 6 times the compute at equal success.

    No robot is run: a network of residual blocks steers a hand past a disc to a goal, having been shown how, and its
    exits are trained with it. The rule compares answers that are numbers. For classes, which have a confidence, that is
    the better rule, and what it saves on digits is shown beside it.
    """

    paper: ClassVar[str] = (
        "DeeR-VLA: Dynamic Inference of Multimodal Large Language Models for Efficient Robot Execution "
        "(arXiv 2411.02359)"
    )
    says: ClassVar[str] = (
        "a multi-exit model that stops when its output no longer changes, at thresholds solved for mean, peak and "
        "memory budgets, needs 5.2 to 6.5 times less compute and 2 to 6 times less memory at equal success"
    )
    tested_by: ClassVar[str] = (
        "a policy whose exits are trained with it: FLOPs at equal success in episodes, realised means against budgets, "
        "exits by lot at equal cost, success at half the memory, a smaller policy trained from scratch for as many "
        "FLOPs in all; exits by confidence on digits"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.early.deer_vla`."""
        return compared("isoflop.claim.early.deer_vla", size)
