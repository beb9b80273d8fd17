"""The commands about runs that were made: `runs`, `show`, `report`, `export`, `plan`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import cast

from rich.table import Table

from isoflop.cli.screen import out, put_json
from isoflop.cli.show import AxisOption, JsonOption, RunArgument, StoreOption, axis_of, load, print_study
from isoflop.record import RunInfo, Store, default_path


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
    table = Table("run", "status", "task", "models", "methods", "samples", box=None, padding=(0, 2, 0, 0))
    for info in found:
        config = info.config
        models, methods = cast("list[str]", config["models"]), cast("list[dict[str, object]]", config["methods"])
        samples = info.outcome.get("samples", "")
        cells = (info.status, config["task"], " ".join(models), " ".join(str(m["name"]) for m in methods), samples)
        table.add_row(info.run, *map(str, cells))
    out.print(table)


def show(
    run: RunArgument = "last", axis: AxisOption = None, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Show what a run was asked and what it found out."""
    study = load(run, store)
    if json:
        put_json(
            asdict(study.info)
            | {k: [asdict(row) for row in getattr(study, k)] for k in ("records", "ledger", "graded")}
        )
        return
    info = study.info
    out.print(f"run {info.run}, {info.status}, begun {time.strftime('%Y-%m-%d %H:%M', time.localtime(info.created))}")
    print_study(study, axis_of(study, axis))
