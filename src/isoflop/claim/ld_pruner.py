"""Dropping the operators whose absence moves the outputs' distribution least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class LdPruner(Claim):
    """Castells et al. 2024: scores of mean and spread alone, without task or labels, say which operators can go.

    The paper prunes Stable Diffusion's U-Net and two others; none is here. What it claims of any latent is tested on
    the embeddings of MiniLM and, at size `full`, on the logits of a residual network that reads digits, against
    operators dropped at random that save about as many FLOPs, before and after the same training. Speed is not
    measured.
    """

    paper: ClassVar[str] = (
        "LD-Pruner: Efficient Pruning of Latent Diffusion Models using Task-Agnostic Insights (arXiv 2404.11936)"
    )
    says: ClassVar[str] = (
        "operators whose removal changes mean and spread of the outputs least are those that quality can spare, "
        "whatever the task; a model pruned so has less to learn again, and trains back faster"
    )
    tested_by: ClassVar[str] = (
        "quality after dropping by score against the best of random drops that save about as many FLOPs, before and "
        "after the same training; MiniLM, and a digits network at full size"
    )

    def findings(self, size: Size) -> list[Finding]:
        """See `isoflop.claim.squeeze.ld_pruner`."""
        return compared("isoflop.claim.squeeze.ld_pruner", size)
