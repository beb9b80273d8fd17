"""Exits by similarity in encoder and decoder halve the time at 99 % of the quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class Mue(Claim):
    """Exits by similarity in encoder and decoder halve the time at 99 % of the quality.

    The model is trained here on a synthetic task, then with exits, as in the paper; a whole one of half the depth is
    trained beside it for as many FLOPs.
    """

    paper: ClassVar[str] = "You Need Multiple Exiting (arXiv 2211.11152)"
    says: ClassVar[str] = (
        "layer-wise similarity lets encoder and decoder be left early: half the time at 99 %, 0.6 of it at 96 % of "
        "the quality"
    )
    tested_by: ClassVar[str] = (
        "an encoder-decoder that copies some inputs and sorts others: accuracy against FLOPs, the same depths by lot, "
        "a model of half the depth trained for the same FLOPs; full: the flattened cosine on SmolLM2, whose sink token "
        "deceives it"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.early.mue`."""
        return compared("isoflop.claim.early.mue", size)
