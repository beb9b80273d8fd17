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

    No robot is run: the answers are a classifier's logits, where the rule is at a disadvantage against
    confidence, which is shown beside it.
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
        "a six-block network of digits: FLOPs at equal accuracy, realised means against budgets on held-out "
        "images, exits by lot at equal cost, accuracy at half the memory, a narrower network from scratch"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.early.deer_vla`."""
        return compared("isoflop.claim.early.deer_vla", size)
