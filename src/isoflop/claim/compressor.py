"""The architecture that computes most within a size, and distillation into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared

SECONDS = 1.0
"""In which the best genome is found, of a processor."""
QUALITY = 0.96
"""Of the original's, at least: what the paper keeps, from memory."""


@final
@dataclass(frozen=True)
class Compressor(Claim):
    """Shi et al. 2022: among architectures of a size take the one with most FLOPs; distil from unlabelled data.

    The paper compresses CodeBERT with a genetic search; its space is small enough to be computed whole, which is done.
    No encoder of code is here: what the second half claims is tested on a network that reads digits and students of a
    few per cent of its bytes. All students are trained for as many steps.
    """

    paper: ClassVar[str] = "Compressing Pre-trained Models of Code into 3 MB (arXiv 2208.07120)"
    says: ClassVar[str] = (
        "a genetic search for the architecture with most GFLOPs at 3 MB finds a tiny model; trained on the original's "
        "outputs for unlabelled data it is nearly as good"
    )
    tested_by: ClassVar[str] = (
        f"all 10.9 million genomes computed: the best is the paper's, in under {SECONDS:.0f} s; on digits the student "
        f"of most FLOPs keeps {QUALITY:.0%} of the accuracy, is above the one of least FLOPs of its size, and is not "
        "below itself trained on labels without the original"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.squeeze.compressor`."""
        return compared("isoflop.claim.squeeze.compressor", size)
