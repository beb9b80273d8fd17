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

    A policy that steers a hand past a disc, and not segmentation: the first features tell how hard such an input is, of
    a digit (full) they hardly do. What is saved is of the whole network.
    """

    paper: ClassVar[str] = "Efficient Transformer Encoders for Mask2Former-style models (arXiv 2404.15244)"
    says: ClassVar[str] = (
        "a gate that predicts the best depth from early features cuts compute at equal performance, and another "
        "trade-off needs only the gate to be retrained"
    )
    tested_by: ClassVar[str] = (
        "a policy whose exits are trained with it: FLOPs at equal success in episodes, digests of trunk and gate over "
        "prices, depth by lot at equal cost, a smaller policy trained from scratch for as many FLOPs in all; "
        "full: digits"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.early.eco_m2f`."""
        return compared("isoflop.claim.early.eco_m2f", size)
