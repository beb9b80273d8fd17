"""A few agents between queries and keys make attention linear, at equal quality."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar, final

from isoflop.claim.base import Claim, CouldNotRunError, Finding, Size
from isoflop.model.base import ModelError


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
        try:
            network: Any = importlib.import_module("isoflop.claim.network.agents")
            return (
                network.compare([20, 28], 350, 150, 0.05)
                if size == "quick"
                else network.compare([28, 40, 56], 300, 500, 0.02)
            )
        except ModuleNotFoundError as error:
            raise CouldNotRunError(
                f"it trains networks and needs {error.name}: pip install 'isoflop[examples]'"
            ) from error
        except ModelError as error:
            raise CouldNotRunError(str(error)) from error
