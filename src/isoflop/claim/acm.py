"""As many learners of a layer as each token needs cost less at the same accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class Acm(Claim):
    """Wójcik et al. 2023: layers of a trained transformer become learners of which each token takes some.

    On a vision transformer of two layers trained here on digits; feed-forward networks only, cut from the trained
    ones (see the method `acm` for what else departs from the paper). The narrower model is trained from scratch for as
    many FLOPs as the whole model, its learners and gates took together, and costs as much a use but for the gates.
    """

    paper: ClassVar[str] = (
        "Adaptive Computation Modules: Granular Conditional Computation For Efficient Inference (arXiv 2312.10193)"
    )
    says: ClassVar[str] = (
        "replacing layers by learners taken token by token cuts the cost of inference at equal accuracy, over a wide "
        "range of budgets"
    )
    tested_by: ClassVar[str] = (
        "accuracy within 1 % of the whole model's, above a random router of the same odds, and not below a narrower "
        "model trained for the same FLOPs, at each budget; and fewer FLOPs at each"
    )

    def findings(self, size: Size) -> list[Finding]:
        """Quick: one budget, 150 digits. Full: two budgets, 500 digits."""
        scale = (400, 60, 150, (0.5,)) if size == "quick" else (400, 150, 500, (0.75, 0.5))
        return compared("isoflop.claim.network.widths", *scale)
