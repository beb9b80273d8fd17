"""On a stream, the same network with the same weights for a tenth of the operations a step."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar, final

from isoflop.claim.base import Claim, CouldNotRunError, Finding, Size
from isoflop.model.base import ModelError


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
        try:
            network: Any = importlib.import_module("isoflop.claim.network.rows")
            return network.compare(24, 350, 200) if size == "quick" else network.compare(48, 1200, 1000)
        except ModuleNotFoundError as error:
            raise CouldNotRunError(
                f"it trains networks and needs {error.name}: pip install 'isoflop[examples]'"
            ) from error
        except ModelError as error:
            raise CouldNotRunError(str(error)) from error
