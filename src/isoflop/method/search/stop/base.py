"""The contract of a stopping rule."""

from __future__ import annotations

from abc import ABC, abstractmethod

from isoflop.method.base import Part


class Stop(Part, ABC):
    """When to stop drawing on one problem, by what the method believes of its answer."""

    @abstractmethod
    def enough(self, confidence: float) -> bool:
        """Whether an answer held with `confidence` (0 to 1, or NaN) is good enough."""
