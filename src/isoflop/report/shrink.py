"""A study of cheaper models on the screen."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from isoflop.report.terminal import table
from isoflop.run.shrink.study import ShrinkStudy
from isoflop.run.shrink.table import headline, sentences, techniques


def tables(study: ShrinkStudy) -> list[RenderableType]:
    """The answer, what limits it, and a row for each technique, for rich to print."""
    lines = [Text(headline(study), "bold"), *(Text(line) for line in sentences(study))]
    return [Panel(Group(*lines), border_style="dim"), table(techniques(study))]
