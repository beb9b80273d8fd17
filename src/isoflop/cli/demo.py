"""The main job on a fresh machine: `demo`, which `make run` calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import typer

from isoflop.cli.run import finish, run_shown
from isoflop.cli.screen import err, out
from isoflop.cli.show import StoreOption
from isoflop.model.base import ModelError, Sampling
from isoflop.model.load import load
from isoflop.run import Bench

MAIN_JOB = Bench(
    task="questions",
    models=["gguf:smollm2-135m"],
    methods=["single", "best_of_n", "self_consistency", "weighted_vote"],
    budgets=["tokens_out=40k", "wall_s=2min"],
    sampling=Sampling(max_tokens=16, temperature=0.8),
    lookahead=2.0,  # what is under way when the clock runs out takes its time, too
)
"""About a minute on two cores; the clock ends it where the machine is slower or busy."""
INSTEAD = "mock:p=0.3,signal=0.2"
"""What runs where the main job's model cannot be had."""
_MOCK = "These are results of the mock, NO REAL MODEL: it shows what isoflop does, not what a model can."


def demo(
    report: Annotated[Path, typer.Option("--report", "-o", metavar="FILE", help="Where the report goes.")] = Path(
        "report.html"
    ),
    store: StoreOption = None,
) -> None:
    """Compare four methods on a small model, in a minute."""
    bench, note = _bench(MAIN_JOB)
    methods = ", ".join(map(str, bench.methods))
    err.print(f"{bench.task}: {methods} under {', '.join(map(str, bench.budgets))}", soft_wrap=True)
    study = run_shown(bench, store)
    finish(study, None, report)
    if note:
        out.print(note, style="bold yellow", soft_wrap=True)
    out.print(
        'Your own questions, a line each as {"prompt": ..., "answer": ...}:\n'
        f"  isoflop run --task my.jsonl --model {MAIN_JOB.models[0]} --budget tokens_out=20k -o report.html\n"
        "Any server that speaks OpenAI's protocol: --model endpoint:http://host:port/v1#model-name",
        soft_wrap=True,
    )


def _bench(job: Bench) -> tuple[Bench, str]:
    """The job with its model opened, or with the mock and a note that says so where it cannot be had."""
    (name,) = cast("list[str]", job.models)
    try:
        err.print(f"opening {name} (fetched once, then kept)", soft_wrap=True)
        return replace(job, models=[load(name)]), ""
    except ModelError as error:
        err.print(f"{name} cannot be had: {error}", style="bold red", soft_wrap=True)
        err.print(_MOCK, style="bold yellow", soft_wrap=True)
        return replace(job, models=[INSTEAD]), _MOCK
