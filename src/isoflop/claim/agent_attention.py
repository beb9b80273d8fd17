"""A few agents between queries and keys make attention linear, at equal quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class AgentAttention(Claim):
    """Han et al. 2023: agent attention in a vision transformer, trained from scratch at growing resolution.

    Digits of 28, 40 and 56 pixels, which are 49, 100 and 196 tokens; two layers; 16 agents; no position
    biases. Enlarged digits hold no more detail than small ones, so what is tried is the cost of many tokens, not the
    worth of resolution. Diffusion without training is not tried: no such model comes in a package.
    """

    paper: ClassVar[str] = "Agent Attention: On the Integration of Softmax and Linear Attention (arXiv 2312.08874)"
    says: ClassVar[str] = (
        "agent attention is as accurate as softmax attention or more so, costs 2n/N of its FLOPs, and gains the more "
        "the higher the resolution"
    )
    tested_by: ClassVar[str] = (
        "FLOPs of attention as counted against 2n/N; accuracy within a margin after equal training steps, also beside "
        "softmax trained for as many FLOPs; the whole model's saving growing with resolution"
    )

    def findings(self, size: Size) -> list[Finding]:
        """Quick: 20 and 28 pixels, 5 % margin. Full: 28, 40 and 56, 2 % margin."""
        scale = ([20, 28], 350, 150, 0.05) if size == "quick" else ([28, 40, 56], 1200, 1000, 0.02)
        return compared("isoflop.claim.network.agents", *scale)
