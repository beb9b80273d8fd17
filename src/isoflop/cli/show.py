"""A run on the screen, and the words that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isoflop.cli.screen import out
from isoflop.cost import Axis
from isoflop.record import Store, StoreError, default_path
from isoflop.report.terminal import tables
from isoflop.run import Study

StoreOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The file with samples and runs.",
        show_default="$ISOFLOP_STORE or .isoflop/store.db",
    ),
]
AxisOption = Annotated[
    Axis | None, typer.Option(metavar="AXIS", help="What cost means.", show_default="what the first budget limits")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run, the beginning of its name, or `last`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For a machine to read.")]


def load(run: str, store: Path | None) -> Study:
    """A run out of the store; looking makes no store where there is none.

    Raises:
        StoreError: no such run.
    """
    path = store or default_path()
    if not path.exists():
        raise StoreError(f"there is no store {path}; make a run first, or name another with --store")
    with Store(path) as opened:
        return Study.load(opened, run)


def print_study(study: Study, axis: Axis | None) -> None:
    """What a run found out: the frontier, what to run on which budget, who spent what."""
    for part in tables(study, axis):
        out.print(part)
        out.print()


def write_report(study: Study, path: Path, axis: Axis | None) -> None:
    """Write the HTML report and say so."""
    raise ValueError("reports are not built yet")
