"""Problems of the generator `automata`."""

from __future__ import annotations

from isoflop.task.base import Question
from isoflop.task.generate.asked import asked


def questions() -> list[Question]:
    """Its questions; the models `tiny:automata-...` were trained on other ones."""
    return asked("automata")
