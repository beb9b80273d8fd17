"""No early stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from isoflop.method.search.stop.base import Stop


@final
@dataclass(frozen=True)
class Never(Stop):
    """Draw all samples asked for: the baseline of early stopping."""

    def enough(self, confidence: float) -> bool:
        """False."""
        return False
