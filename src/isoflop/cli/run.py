"""The commands that run something: `run`, `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from isoflop.cli.progress import progress
from isoflop.cli.screen import err
from isoflop.cli.show import AxisOption, ReportOption, RunArgument, StoreOption, print_study, write_report
from isoflop.cost import Axis, Budget
from isoflop.model.base import Sampling
from isoflop.record import Store, default_path
from isoflop.run import Bench, Study
from isoflop.run import resume as resume_run
from isoflop.task import SPLITS, Split

_BENCH = Bench("", ())
_SAMPLING = _BENCH.sampling
OnOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE", help="Where models are computed: processes:4, ray:2 (a cluster here), ray://head:10001."
    ),
]


def run(
    task: Annotated[str, typer.Option(metavar="TASK", help="A .jsonl file of questions, or one of `isoflop tasks`.")],
    model: Annotated[
        list[str], typer.Option(metavar="KIND:WHICH", help="One of `isoflop models`; repeat to compare models.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="One of `isoflop methods`, as best_of_n or 'best_of_n(n=64)'; repeat to compare.",
            show_default=", ".join(str(m) for m in _BENCH.methods),
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=AMOUNT", help="tokens_out=20k, usd=2, wall_s=10min; repeat to limit several."),
    ] = None,
    allocate: Annotated[
        str, typer.Option(metavar="HOW", help="Which problem goes next: one of `isoflop allocators`.")
    ] = "uniform",
    seed: Annotated[int, typer.Option(help="The same seed draws the same samples.")] = 0,
    max_tokens: Annotated[int, typer.Option(help="The longest sample (tokens).")] = _SAMPLING.max_tokens,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = _SAMPLING.temperature,
    top_p: Annotated[float, typer.Option(help="Nucleus (fraction of probability).")] = _SAMPLING.top_p,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A string that ends a sample; may be repeated.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="KIND:WHICH", help="The model that rates answers; else each its own.")
    ] = None,
    split: Annotated[Split | None, typer.Option(help="Only these questions.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many questions of each split.")] = None,
    lookahead: Annotated[
        float, typer.Option(help="Samples under way, in multiples of the model's.")
    ] = _BENCH.lookahead,
    on: OnOption = None,
    axis: AxisOption = None,
    store: StoreOption = None,
    report: ReportOption = None,
) -> None:
    """Run methods and models on a task."""
    bench = Bench(
        task,
        model,
        method or _BENCH.methods,
        [Budget.parse(words) for words in budget or ()],
        allocate,
        seed,
        Sampling(max_tokens, temperature, top_p, tuple(stop or ())),
        judge,
        SPLITS if split is None else [split],
        limit,
        lookahead,
        on,
    )
    finish(run_shown(bench, store), axis, report)


def resume(
    run: RunArgument = "last",
    on: OnOption = None,
    axis: AxisOption = None,
    store: StoreOption = None,
    report: ReportOption = None,
) -> None:
    """Go on with a run that was stopped or killed."""
    with Store(store or default_path()) as opened:
        info = opened.run(run)
    budgets = [Budget.parse(words) for words in cast("list[str]", info.config["budgets"])]
    with progress(budgets) as shown:
        study = resume_run(info.run, store, shown, on)
    finish(study, axis, report)


def run_shown(bench: Bench, store: Path | None) -> Study:
    """Run a bench with its progress on the screen."""
    with progress([Budget.parse(b) if isinstance(b, str) else b for b in bench.budgets]) as shown:
        return bench.run(store, shown)


def finish(study: Study, axis: Axis | None, report: Path | None) -> None:
    """Print what a run found out, write the report if wanted, and leave with 1 if the run was stopped."""
    if study.records:
        print_study(study, axis)
    if report:
        write_report(study, report, axis)
    if study.info.status != "done":
        err.print(
            f"run {study.info.run} {study.info.status}; go on with: isoflop resume {study.info.run}", soft_wrap=True
        )
        raise typer.Exit(1)
