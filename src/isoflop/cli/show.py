"""A run on the screen, and the words that several commands share."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from isoflop.cli.screen import err, out
from isoflop.cost import Axis
from isoflop.record import Store, StoreError, default_path
from isoflop.report import html
from isoflop.report.terminal import tables
from isoflop.run import Study

ReportOption = Annotated[
    Path | None,
    typer.Option("--report", "-o", metavar="FILE", help="Write the report: .html, or a picture as .svg, .png, .pdf."),
]
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
    """Write the report, a page or by another ending a picture, and say so.

    Raises:
        ValueError: another ending, or the extra that draws pictures is missing.
    """
    if path.suffix.lower() == ".html":
        html.write(study, path, axis)
    else:
        try:
            picture = importlib.import_module("isoflop.report.picture")  # matplotlib: seconds, and an extra
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from error
        if path.suffix.lower() not in picture.FORMATS:
            raise ValueError(f"{path}: the ending must be .html for a page, or {', '.join(picture.FORMATS)}")
        picture.write(study, path, axis)
    err.print(f"wrote {path}", soft_wrap=True)
