"""Problems of the generator `life`."""

from __future__ import annotations

from isoflop.task.base import Question
from isoflop.task.generate.asked import asked


def questions() -> list[Question]:
    """Its questions; the models `tiny:life-...` were trained on other ones."""
    return asked("life")
