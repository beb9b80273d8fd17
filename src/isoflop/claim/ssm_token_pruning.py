"""Tokens can be left out of a state space model of images if its state runs on over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class SsmTokenPruning(Claim):
    """Zhan et al. 2024: token pruning for vision state space models, on a small one trained here on digits.

    Four blocks over 49 patches, scanned in one direction; pruned after the first and the second block to 62 % each,
    which is 40 % of the FLOPs. How far a left-out token would have moved the state is each channel's mean step (see the
    method); the paper's real speed-up needs its fused kernel and is not tried.
    """

    paper: ClassVar[str] = "Exploring Token Pruning in Vision State Space Models (Zhan et al. 2024)"
    says: ClassVar[str] = (
        "with the state aligned over pruned tokens and importance taken from the scan, 41.6 % of the FLOPs go at "
        "little loss of accuracy, where plain token dropping fails even after fine-tuning"
    )
    tested_by: ClassVar[str] = (
        "after tuning, 40 % of the FLOPs gone at 1 % of accuracy or less; aligned above plainly dropped, before and "
        "after tuning; above random tokens and above a narrower model trained for the same FLOPs, all at equal cost"
    )

    def findings(self, size: Size) -> list[Finding]:
        """Quick: a short training, 150 digits. Full: a longer one, 1000 digits."""
        scale = (300, 60, 150) if size == "quick" else (600, 120, 1000)
        return compared("isoflop.claim.network.scans", *scale)
