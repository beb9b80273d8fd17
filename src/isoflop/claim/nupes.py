"""Weights in few bits, on a grid that is even in a power of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared

LEAST = {4: 0.943, 3: 0.8}
"""Cosine by bits that power and clip reached without data on other sentences, measured here before."""


@final
@dataclass(frozen=True)
class Nupes(Claim):
    """Yvinec et al. 2023: a power grid beats the even one without data, and learning it with the weights beats both.

    The paper's networks are larger and their activations quantised too; here the weights of MiniLM's linear layers are
    in 4 and 3 bits (at size `quick` in 3, of a model of its first layer), judged by the cosine of sentence embeddings
    to those in full precision, on sentences of a play that was not calibrated on. Every arm stores as many bits a
    weight. The even grid is given what the power grid is given: a searched range, and the same learning for as long.
    """

    paper: ClassVar[str] = "NUPES: Non-Uniform Post-Training Quantization via Power Exponent Search (arXiv 2308.05600)"
    says: ClassVar[str] = (
        "rounding a power of the weights loses less than rounding the weights, with one exponent a layer; learning the "
        "exponent and the weights together over the whole grid loses less again"
    )
    tested_by: ClassVar[str] = (
        "MiniLM's sentence embeddings with 4 and 3 bit weights: power grid above the clipped even grid without data, "
        f"learned above data-free, learned power above learned even; at full size at least {LEAST[4]} and {LEAST[3]}"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.squeeze.nupes`."""
        return compared("isoflop.claim.squeeze.nupes", size)
