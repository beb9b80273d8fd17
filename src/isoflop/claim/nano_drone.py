"""Swapping between two networks along a stream saves 28 % at the same error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class NanoDrone(Claim):
    """Swapping between two networks along a stream saves 28 % at the same error.

    Pitch instead of pose, FLOPs instead of latency; each network's answers are computed once and their cost
    charged at each use. The smaller model beside them is the little network itself, as published.
    """

    paper: ClassVar[str] = (
        "Adaptive Deep Learning for Efficient Visual Pose Estimation aboard Ultra-low-power Nano-drones "
        "(arXiv 2401.15236)"
    )
    says: ClassVar[str] = (
        "swapping between a little and a big network by temporal consistency or an auxiliary task saves 28 % of "
        "the latency at the same error"
    )
    tested_by: ClassVar[str] = (
        "CREPE tiny and full on streams of sound, thresholds from other streams: cost at equal pitch accuracy, "
        "lots at equal cost, cascades on single frames"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.early.nano_drone`."""
        return compared("isoflop.claim.early.nano_drone", size)
