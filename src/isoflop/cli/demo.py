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
    task="chain",
    models=[f"tiny:chain-{size}" for size in ("9k", "34k", "132k", "391k")],
    methods=["single", "best_of_n", "self_consistency", "weighted_vote"],
    budgets=["flops=100G", "wall_s=75"],
    sampling=Sampling(max_tokens=24),
)
"""A small model asked often against a larger one asked once: under a minute on two cores; the clock ends it where the
machine is slower or busy."""
INSTEAD = "mock:p=0.3,signal=0.2"
"""What runs where the main job's models cannot be had."""
SECOND = (
    "isoflop run --task questions --model gguf:smollm2-135m --max-tokens 16 --temperature 0.8 "
    "--budget tokens_out=40k --budget wall_s=2min -o report.html"
)
"""The second example: a model that is fetched."""
_MOCK = "These are results of the mock, NO REAL MODEL: it shows what isoflop does, not what a model can."


def demo(
    report: Annotated[Path, typer.Option("--report", "-o", metavar="FILE", help="Where the report goes.")] = Path(
        "report.html"
    ),
    store: StoreOption = None,
) -> None:
    """Compare four methods on four sizes of model."""
    bench, note = _bench(MAIN_JOB)
    methods = ", ".join(map(str, bench.methods))
    err.print(
        f"{bench.task}: {methods}, on each of {len(bench.models)} model(s), under {', '.join(map(str, bench.budgets))}",
        soft_wrap=True,
    )
    study = run_shown(bench, store)
    finish(study, None, report)
    if note:
        out.print(note, style="bold yellow", soft_wrap=True)
    out.print(
        "A real language model next, on questions in English (SmolLM2-135M, 93 MB, fetched once):\n"
        f"  {SECOND}\n"
        'Your own questions, a line each as {"prompt": ..., "answer": ...}: --task my.jsonl\n'
        "Any server that speaks OpenAI's protocol: --model endpoint:http://host:port/v1#model-name",
        soft_wrap=True,
    )


def _bench(job: Bench) -> tuple[Bench, str]:
    """The job with its models opened, or with the mock and a note that says so where they cannot be had."""
    try:
        return replace(job, models=[load(name) for name in cast("list[str]", job.models)]), ""
    except ModelError as error:
        err.print(f"the models of the main job cannot be had: {error}", style="bold red", soft_wrap=True)
        err.print(_MOCK, style="bold yellow", soft_wrap=True)
        return replace(job, models=[INSTEAD]), _MOCK
