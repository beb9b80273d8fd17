"""A gate picks the depth for each input, and alone is retrained for another trade-off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class EcoM2f(Claim):
    """A gate picks the depth for each input, and alone is retrained for another trade-off.

    Classification and not segmentation; what is saved is of the whole network.
    """

    paper: ClassVar[str] = "Efficient Transformer Encoders for Mask2Former-style models (arXiv 2404.15244)"
    says: ClassVar[str] = (
        "a gate that predicts the best depth from early features cuts compute at equal performance, and another "
        "trade-off needs only the gate to be retrained"
    )
    tested_by: ClassVar[str] = (
        "a six-block network of digits with trained exits: FLOPs within a point of accuracy, trunk digests over "
        "prices, depth by lot at equal cost, a narrower network from scratch"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.early.eco_m2f`."""
        return compared("isoflop.claim.early.eco_m2f", size)
