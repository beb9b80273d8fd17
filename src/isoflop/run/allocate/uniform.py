"""The same for every problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from isoflop.run.allocate.base import Allocator, Progress


@final
@dataclass(frozen=True)
class Uniform(Allocator):
    """Advance whatever has spent least: the baseline of allocation."""

    def rank(self, progress: Progress) -> float | None:
        """What was spent so far."""
        return progress.spent
