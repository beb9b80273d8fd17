"""Weights as indices into codebooks of groups of neurons, learned together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class Jlcm(Claim):
    """Yvinec et al. 2024: sorted groups with codebooks of their own, learned with the mapping, in few bits.

    The paper's networks are up to Llama 7B; here they are the first layers of MiniLM (two, or one at size `quick`),
    their linear weights in 2 and 3 bits, judged by the cosine of sentence embeddings to those in full precision, on a
    play that was not calibrated on. The even grid beside it is learned for as many steps.
    """

    paper: ClassVar[str] = (
        "Network Memory Footprint Compression Through Jointly Learnable Codebooks and Mappings (arXiv 2309.17361)"
    )
    says: ClassVar[str] = (
        "a codebook for each group of similar neurons costs no more memory than one for all and loses less; learning "
        "codebooks and mapping together loses less again, enough for two bits a weight"
    )
    tested_by: ClassVar[str] = (
        "MiniLM's sentence embeddings with 3 and 2 bit weights: eight sorted groups above one codebook, learned above "
        "not learned and above an even grid learned for as long, at the same bytes within 2 %"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.squeeze.jlcm`."""
        return compared("isoflop.claim.squeeze.jlcm", size)
