"""The commands that run something: `run`, `resume`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from isoflop.cli.progress import progress
from isoflop.cli.screen import err
from isoflop.cli.show import AxisOption, StoreOption, axis_of, print_study, write_report
from isoflop.cost import Budget
from isoflop.model.base import Sampling
from isoflop.record import Store, default_path
from isoflop.run import Bench, Study
from isoflop.run import resume as resume_run
from isoflop.task import SPLITS, Split

ReportOption = Annotated[Path | None, typer.Option("--report", "-o", help="Write the report to this HTML file.")]
_SAMPLING, _BENCH = Sampling(), Bench("", ())


def run(
    task: Annotated[str, typer.Option(help="A .jsonl file of questions, or a name out of `isoflop tasks`.")],
    model: Annotated[list[str], typer.Option(help="kind:which, as in `isoflop models`; repeat to compare models.")],
    method: Annotated[list[str] | None, typer.Option(help="As in `isoflop methods`; repeat to compare.")] = None,
    budget: Annotated[list[str] | None, typer.Option(help="axis=amount: tokens_out=20k, usd=2, wall_s=10min.")] = None,
    allocate: Annotated[str, typer.Option(help="Which problem goes next: see `isoflop allocators`.")] = "uniform",
    seed: Annotated[int, typer.Option(help="The same seed draws the same samples.")] = 0,
    max_tokens: Annotated[int, typer.Option(help="The longest sample (tokens).")] = _SAMPLING.max_tokens,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = _SAMPLING.temperature,
    top_p: Annotated[float, typer.Option(help="Nucleus (fraction of probability).")] = _SAMPLING.top_p,
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends a sample; may be repeated.")] = None,
    judge: Annotated[str | None, typer.Option(help="The model that rates answers; else each model its own.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="dev or test; both unless told.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many questions of each split.")] = None,
    lookahead: Annotated[
        float, typer.Option(help="Samples under way, in multiples of the model's.")
    ] = _BENCH.lookahead,
    axis: AxisOption = None,
    store: StoreOption = None,
    report: ReportOption = None,
) -> None:
    """Run methods and models on a task under a budget; print the frontier and the plan."""
    bench = Bench(
        task,
        model,
        method or _BENCH.methods,
        [Budget.parse(words) for words in budget or ()],
        allocate,
        seed,
        Sampling(max_tokens, temperature, top_p, tuple(stop or ())),
        judge,
        cast("Sequence[Split]", split or SPLITS),
        limit,
        lookahead,
    )
    finish(run_shown(bench, store), axis, report)


def resume(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run, the beginning of its name, or `last`.")] = "last",
    axis: AxisOption = None,
    store: StoreOption = None,
    report: ReportOption = None,
) -> None:
    """Go on with a run that was stopped or killed; it pays for nothing twice."""
    with Store(store or default_path()) as opened:
        info = opened.run(name)
    budgets = [Budget.parse(words) for words in cast("list[str]", info.config["budgets"])]
    with progress(budgets) as shown:
        study = resume_run(info.run, store, shown)
    finish(study, axis, report)


def run_shown(bench: Bench, store: Path | None) -> Study:
    """Run a bench with its progress on the screen."""
    with progress([b for b in bench.budgets if isinstance(b, Budget)]) as shown:
        return bench.run(store, shown)


def finish(study: Study, axis: str | None, report: Path | None) -> None:
    """Print what a run found out, write the report if wanted, and leave with 1 if the run did not come to its end."""
    if study.records:
        print_study(study, axis_of(study, axis))
    if report:
        write_report(study, report)
    if study.info.status != "done":
        err.print(
            f"run {study.info.run} {study.info.status}; go on with: isoflop resume {study.info.run}", soft_wrap=True
        )
        raise typer.Exit(1)
