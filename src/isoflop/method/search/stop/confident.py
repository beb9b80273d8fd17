"""Stop when confident."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from isoflop.method.search.stop.base import Stop


@final
@dataclass(frozen=True)
class Confident(Stop):
    """Stop as soon as the method's confidence reaches `at_least`.

    With the votes of `self_consistency` this is adaptive consistency (Aggarwal et al. 2023, arXiv 2305.11860): at 0.95
    four samples that agree end the search. With a certain value it is stopping at the first success.

    Args:
        at_least: confidence that is enough (fraction, above 0 and at most 1).
    """

    at_least: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.at_least <= 1:
            raise ValueError(f"at_least={self.at_least:g} must lie in (0, 1]")

    def enough(self, confidence: float) -> bool:
        """Whether `confidence` reaches the mark; NaN never does."""
        return confidence >= self.at_least
