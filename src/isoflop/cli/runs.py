"""The commands about runs that were made: `runs`, `show`, `plan`, `report`, `export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, cast

import typer
from rich.table import Table

from isoflop.cli.screen import err, out, put_json
from isoflop.cli.show import (
    AxisOption,
    JsonOption,
    ReportOption,
    RunArgument,
    StoreOption,
    load,
    print_study,
    write_report,
)
from isoflop.cost import Budget
from isoflop.frontier import plan as make_plan
from isoflop.record import RunInfo, Store, default_path
from isoflop.report.export import write as write_export


def runs(store: StoreOption = None, json: JsonOption = False) -> None:
    """List the runs in the store, newest first."""
    path = store or default_path()
    found: list[RunInfo] = []
    if path.exists():
        with Store(path) as opened:
            found = opened.runs()
    if json:
        put_json([asdict(info) for info in found])
        return
    if not found:
        out.print(f"no runs in {path} yet; make one with isoflop run", soft_wrap=True)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("run", no_wrap=True)
    for column in ("status", "task", "models", "methods", "samples"):
        table.add_column(column, overflow="fold", justify="right" if column == "samples" else "left")
    for info in found:
        config = info.config
        models, methods = cast("list[str]", config["models"]), cast("list[dict[str, object]]", config["methods"])
        samples = info.outcome.get("samples", "")
        cells = (info.status, config["task"], "\n".join(models), "\n".join(str(m["name"]) for m in methods), samples)
        table.add_row(info.run, *map(str, cells))
    out.print(table)


def show(
    run: RunArgument = "last", axis: AxisOption = None, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Show what a run found out."""
    study = load(run, store)
    if json:
        rows = {"records": study.records, "ledger": study.ledger, "graded": study.graded}
        put_json(asdict(study.info) | {name: [asdict(row) for row in found] for name, found in rows.items()})
    else:
        print_study(study, axis)


def plan(
    budget: Annotated[str, typer.Option(metavar="AXIS=AMOUNT", help="The most a problem may cost, on average.")],
    run: RunArgument = "last",
    uses: Annotated[float, typer.Option(help="How often what is paid once is used.")] = 1.0,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Say what to run on a budget, and what to expect."""
    study = load(run, store)
    made = make_plan(study.records, Budget.parse(budget), uses, study.graded)
    if json:
        put_json(asdict(made))
    else:
        out.print(str(made), soft_wrap=True)


def report(
    run: RunArgument = "last",
    report: ReportOption = Path("report.html"),
    axis: AxisOption = None,
    store: StoreOption = None,
) -> None:
    """Write a run's report, as a page or a picture."""
    write_report(load(run, store), cast(Path, report), axis)


def export(
    run: RunArgument = "last",
    to: Annotated[
        Literal["parquet", "csv", "jsonl"] | None, typer.Option(help="Names a file after the run, unless -o does.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Its ending names the format.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Write a run's records as a table."""
    study = load(run, store)
    if output is None and to is None:
        raise ValueError("export where? --to parquet, csv or jsonl, or -o FILE with such an ending")
    path = output or Path(f"{study.info.run}.{to}")
    if to and path.suffix != f".{to}":
        raise ValueError(f"--to {to} and -o {path} disagree")
    write_export(study, path)
    err.print(f"wrote {len(study.records)} records to {path}", soft_wrap=True)
