"""On a stream, the same network with the same weights for a tenth of the operations a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size
from isoflop.claim.torch_only import compared


@final
@dataclass(frozen=True)
class ContinualInference(Claim):
    """Hedegaard 2023: networks over time in step form, tested on a stream of handwritten digits, row by row.

    The paper's are 3D convolutions of video, graph convolutions of skeletons and transformer encoders; here three
    convolutions over rows, trained, and one transformer layer of which the newest row is wanted. Its other part,
    structured pruning adapters, is a method of its own.
    """

    paper: ClassVar[str] = "Efficient Online Processing with Deep Neural Networks (Hedegaard 2023, dissertation)"
    says: ClassVar[str] = (
        "networks over time in step form keep weights and answers and need a tenth of the operations a step"
    )
    tested_by: ClassVar[str] = (
        "answers equal to 1e-5 and FLOPs a row 10 times fewer, for convolutions and for a transformer layer; at equal "
        "FLOPs a row more digits right than the plain network asked less often, and than a smaller one trained as long"
    )

    def findings(self, size: Size) -> list[Finding]:
        """Quick: 200 digits, a small network. Full: 1000 digits, a larger one trained longer."""
        scale = (24, 350, 200) if size == "quick" else (48, 1200, 1000)
        return compared("isoflop.claim.network.rows", *scale)
