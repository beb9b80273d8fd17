"""The command that makes a model cheaper: `shrink`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from isoflop.cli.screen import err, out, put_json
from isoflop.cli.show import JsonOption
from isoflop.cost import Budget
from isoflop.frontier import Estimate
from isoflop.frontier.words import amount

if TYPE_CHECKING:
    from isoflop.run.shrink import Standing

ShrinkAxis = Literal["wall_s", "flops", "bytes_moved", "peak_bytes", "joules"]
_LINE_EVERY_S = 10.0


def shrink(
    model: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="A torch module, or a function that builds it.")],
    task: Annotated[
        str, typer.Option(metavar="MODULE:NAME", help="An isoflop.Workload, or a function that builds it.")
    ],
    floor: Annotated[
        str, typer.Option(metavar="QUALITY", help="0.99x of the original's quality, or a quality such as 0.8.")
    ] = "0.99x",
    uses: Annotated[float, typer.Option(metavar="COUNT", help="How often the model will be used.")] = 1e6,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=AMOUNT", help="Of the whole study.", show_default="wall_s=900"),
    ] = None,
    axis: Annotated[ShrinkAxis, typer.Option(help="What is to be as small as can be.")] = "wall_s",
    only: Annotated[
        str | None, typer.Option(metavar="METHODS", help="Only these, as cast,multi_exit; all unless given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the methods' own choices.")] = 0,
    save: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write the best model, ready to load.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the study is kept.", show_default=".isoflop/shrink/..."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", "-o", metavar="FILE", help="Write a page (.html).")] = None,
    json: JsonOption = False,
) -> None:
    """Find the cheapest model that holds a floor.

    Killed, the same command goes on where it stopped.
    """
    budgets = [Budget.parse(words) for words in budget or ["wall_s=900"]]
    if report is not None and report.suffix.lower() != ".html":
        raise ValueError(f"{report}: the ending must be .html")
    call = _needing_torch("isoflop.run.shrink.call")
    built, workload = call.load_model(model), call.load_task(task)
    options: dict[str, Any] = {"axis": axis, "seed": seed}
    options |= {} if only is None else {"only": _split(only)}
    options |= {} if folder is None else {"folder": folder}
    with _progress() as watch:
        study = call.shrink(built, workload, floor, uses, budgets, watch=watch, **options)
    if json:
        put_json(_facts(study))
    else:
        for part in _needing_torch("isoflop.report.shrink").tables(study, out.width):
            out.print(part)
    if save is not None:
        err.print(f"wrote {study.best.save(save)}: see its README.md", soft_wrap=True)
    if report is not None:
        _needing_torch("isoflop.report.shrink").write(study, report)
        err.print(f"wrote {report}", soft_wrap=True)


def _needing_torch(module: str) -> Any:
    """A module that imports torch, which takes seconds, so that other commands do not wait for it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ValueError("shrink needs torch: pip install 'isoflop[shrink]'") from error


def _split(words: str) -> list[str]:
    """Methods in words, with commas between them but not inside their parentheses."""
    parts, depth = [""], 0
    for character in words:
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


@contextmanager
def _progress() -> Generator[Callable[[Standing], None]]:
    """Shows how far a study is: a live picture in a terminal, a line now and then elsewhere."""
    if err.is_terminal:
        with Live(Text("opening"), console=err, auto_refresh=False, transient=True) as live:
            yield lambda now: live.update(_picture(now), refresh=True)
        return
    last = time.monotonic()

    def line(now: Standing) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            err.print("; ".join(f"{name}: {words}" for name, words in _words(now) if words), soft_wrap=True)

    yield line


def _picture(now: Standing) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, words in _words(now):
        grid.add_row(Text(name, "dim"), Text(words))
    return grid


def _words(now: Standing) -> list[tuple[str, str]]:
    return [
        (now.stage, now.doing),
        ("ended", f"{now.ended} of {now.of} methods and combinations, {now.holding} models hold the floor"),
        ("best", now.best),
        ("spent", f"{now.spent.wall_s:.0f} s, {amount(now.spent.flops)} FLOPs"),
        ("time left", f"{now.left_s:.0f} s at most" if now.left_s < float("inf") else "no limit was given"),
    ]


def _facts(study: Any) -> dict[str, object]:
    return {
        "chosen": study.chosen.name,
        "note": study.chosen.note,
        "floor": str(study.asked.floor),
        "axis": study.asked.axis,
        "spent": study.bill.total.as_dict(),
        "folder": str(study.folder),
        "techniques": [
            {
                "name": t.name if t.candidate is None else t.candidate.name,
                "note": "" if t.candidate is None else t.candidate.note,
                "quality": _ends(t.quality),
                "shares": {axis: _ends(e) for axis, e in t.shares.items()},
                "once": None if t.candidate is None else t.candidate.once.as_dict(),
                "break_even": _ends(t.break_even),
                "verdict": t.verdict,
            }
            for t in study.techniques
        ],
        "notices": list(study.notices),
    }


def _ends(e: Estimate | None) -> list[float] | None:
    return None if e is None else [e.value, e.low, e.high]
