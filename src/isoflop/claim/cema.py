"""Few uploads are enough to follow a shift at the edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class Cema(Claim):
    """Few uploads are enough to follow a shift at the edge.

    One shift of one data set instead of ImageNet-C.
    """

    paper: ClassVar[str] = (
        "Towards Robust and Efficient Cloud-Edge Elastic Model Adaptation via Selective Entropy Distillation "
        "(arXiv 2402.17316)"
    )
    says: ClassVar[str] = (
        "uploading only inputs of middling entropy saves about 60 % of the uploads at equal accuracy, with forward "
        "passes only at the edge"
    )
    tested_by: ClassVar[str] = (
        "digits that turn noisy: accuracy and share uploaded against uploading all, as many by lot, no adaptation, and "
        "a network trained anew for the same FLOPs"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.early.cema`."""
        return compared("isoflop.claim.early.cema", size)
