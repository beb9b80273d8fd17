"""A run on the screen, and the words that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from isoflop.cli.screen import out
from isoflop.cost import AXES, Axis, Budget
from isoflop.frontier import Frontier
from isoflop.record import Store, default_path
from isoflop.run import Study

StoreOption = Annotated[
    Path | None,
    typer.Option(help="The file with samples and runs.", show_default="$ISOFLOP_STORE or .isoflop/store.db"),
]
AxisOption = Annotated[
    str | None, typer.Option(help="What cost means on the frontier.", show_default="what the budget limits")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run, the beginning of its name, or `last`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For a machine to read.")]


def load(run: str, store: Path | None) -> Study:
    """A run out of the store.

    Raises:
        StoreError: no such run.
    """
    path = store or default_path()
    with Store(path) as opened:
        return Study.load(opened, run)


def axis_of(study: Study, wanted: str | None) -> Axis:
    """The axis to show a run on: the one asked for, else the one that its first budget limits, else `tokens_out`.

    Raises:
        ValueError: no such axis.
    """
    if wanted is not None:
        if wanted not in AXES:
            raise ValueError(f"unknown cost axis {wanted!r}; use one of {', '.join(AXES)}")
        return wanted
    budgets = cast("list[str]", study.info.config["budgets"])
    return Budget.parse(budgets[0]).axis if budgets else "tokens_out"


def print_study(study: Study, axis: Axis) -> None:
    """The frontier, who spent what, and what to run."""
    for p in Frontier(study.records, axis).points:
        out.print(f"{p.name} step {p.step}: {p.quality} at {p.cost.value:.4g} {axis}")


def write_report(study: Study, path: Path) -> None:
    """Write the HTML report."""
    raise ValueError("reports are not built yet")
