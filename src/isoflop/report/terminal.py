"""A study on the screen."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from isoflop.cost import Axis
from isoflop.frontier.words import Grid
from isoflop.report import grids
from isoflop.report.findings import Findings
from isoflop.report.plot import plot
from isoflop.run import Study


def tables(study: Study, axis: Axis | None = None) -> list[RenderableType]:
    """What a study says, for rich to print: headline, plot, frontier, methods, plan, coverage, ledger, troubles.

    Args:
        study: what to show.
        axis: what cost means; the first budget's axis unless given.

    Raises:
        FrontierError: `axis` is given and no frontier can be drawn on it.
    """
    found = Findings(study, axis)
    picture = plot(found)
    shown = (grids.frontier, grids.methods, grids.plans, grids.coverage, grids.roles, grids.budgets, grids.troubles)
    made = [make(found) for make in shown]
    return [_headline(found), *([picture] if picture else []), *(table(grid) for grid in made if grid.rows)]


def _headline(found: Findings) -> RenderableType:
    first, *rest = found.headline
    lines = [Text(first, "bold"), *(Text(line) for line in rest), *(Text(n, "yellow") for n in found.notices)]
    return Panel(Group(*lines), title=f"run {escape(found.study.info.run)}", title_align="left", border_style="dim")


def table(grid: Grid) -> RenderableType:
    """A table of words."""
    drawn = Table(title=grid.title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in grid.columns:
        style = "bold" if column.startswith(">!") else ""
        drawn.add_column(
            Text(column.lstrip(">!")),
            justify="right" if column.startswith(">") else "left",
            style=style,
            overflow="fold",
        )
    for row in grid.rows:
        drawn.add_row(*map(Text, row))  # not strings, which rich would read markup in
    return Group(drawn, Text(grid.note, "dim")) if grid.note else drawn
