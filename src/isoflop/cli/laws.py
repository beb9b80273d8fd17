"""The commands about laws: `fit`, `predict`, `optimum`, `next-run`, `compare`, `laws`."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.table import Table

from isoflop.cli.catalogue import first_line
from isoflop.cli.screen import err, out, put_json
from isoflop.cli.show import JsonOption
from isoflop.cli.show import load as load_run
from isoflop.cost import Budget
from isoflop.frontier.words import amount
from isoflop.law.base import Interval
from isoflop.law.chain import TwoStep
from isoflop.law.choose import Choice, choose, law_classes, wanted_fields
from isoflop.law.columns import BadData, as_columns, numbers, read
from isoflop.law.engine import Objective
from isoflop.law.fit import Uncertainty
from isoflop.law.fit import fit as fit_law
from isoflop.law.fitted import By, Estimate, Fit, Prediction, load
from isoflop.law.iso_flop import bias_of
from isoflop.law.multi_power import MultiPower, from_rates
from isoflop.law.spend import compare as compare_laws
from isoflop.law.spend import next_run as next_runs
from isoflop.law.spend import optimum as best_split
from isoflop.record.file import replacing
from isoflop.report.export import points

_TIMES = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21, "Y": 1e24}
_INTERVALS: tuple[By | Literal["profile"], ...] = ("profile", "covariance", "bootstrap")


def number(words: str) -> float:
    """A positive number with an SI prefix or B for 1e9.

    Raises:
        ValueError: something else.

    >>> number("7B"), number("1.5e24"), number("0.4T")
    (7000000000.0, 1.5e+24, 400000000000.0)
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+\.)\s*(\w?)", words.strip().replace("_", ""))
    times = _TIMES.get("k" if found and found[2] == "K" else found[2] if found else "?")
    if found is None or times is None or not 0 < float(found[1]) * times < np.inf:
        raise ValueError(f"{words!r} is not a positive number such as 1e24, 7B or 2T ({', '.join(_TIMES)[2:]})")
    return float(found[1]) * times


FitArgument = Annotated[Path, typer.Argument(metavar="FIT", help="What `isoflop fit -o FIT` wrote.")]
FlopsOption = Annotated[str, typer.Option(metavar="AMOUNT", help="Compute (FLOP), as 1e24.")]
LevelOption = Annotated[float, typer.Option(min=0.5, max=0.999, help="How often an interval should hold the truth.")]


def fit(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Runs: a .csv, .jsonl or .parquet; or run:NAME, a run of isoflop.")
    ],
    law: Annotated[str, typer.Option(help="One of `isoflop laws`, or auto: what foretells the largest runs.")] = "auto",
    x: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="The inputs, in the law's order.", show_default="the law's")
    ] = None,
    y: Annotated[str | None, typer.Option(metavar="COLUMN", help="The output.", show_default="the law's")] = None,
    objective: Annotated[
        str | None, typer.Option(help="huber, lad or least_squares.", show_default="the law's")
    ] = None,
    clusters: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Equal values mark runs that err together.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only these rows; repeat for several.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Learning rate at each row's step, for multi_power.")
    ] = None,
    counted: Annotated[
        str, typer.Option(metavar="WORDS", help="Which parameters were counted, as 'without embeddings'.")
    ] = "",
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap refits.")] = 1000,
    level: LevelOption = 0.9,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FIT", help="Keep the fit, for the other commands.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .html, .png, .svg or .pdf.")] = None,
    json: JsonOption = False,
) -> None:
    """Fit a law to runs."""
    table = _rows(file, where or [])
    inputs = tuple(name.strip() for name in x.split(",")) if x else ()
    sure = Uncertainty(draws, clusters)
    tried: list[Choice] = []
    if law == "auto":
        aim = None if objective is None else Objective(objective)  # pyright: ignore[reportArgumentType] - it checks
        inputs = inputs or ("params", "tokens")
        y = y or "loss"
        tried, aim = choose(table, inputs, y, aim)
        found = fit_law(table, tried[0].law, inputs, y, aim, sure)
    elif law == "multi_power" and rate is not None:
        chosen, inputs = _with_schedules(table, inputs, rate)
        found = fit_law(table, chosen, inputs, y or "", objective, sure)
    else:
        known = law_classes().get(law)
        if known and (missing := wanted_fields(known)):
            raise ValueError(f"{law} needs its {', '.join(missing)}: name the column of learning rates with --rate")
        found = fit_law(table, law, inputs, y or "", objective, sure)
    found = dataclasses.replace(found, counted=counted)
    estimates = _estimates(found, level)
    if json:
        put_json(_facts(found, estimates, tried))
    else:
        _print_choice(tried)
        _print_fit(found, estimates, level)
    if output is not None:
        with replacing(output) as new:
            found.save(new)
        err.print(f"wrote {output}", soft_wrap=True)
    if plot is not None:
        _draw(found, plot)


def predict(
    fit: FitArgument,
    params: Annotated[str | None, typer.Option(metavar="N", help="Parameters, as 7B.")] = None,
    tokens: Annotated[str | None, typer.Option(metavar="D", help="Training tokens, as 2T.")] = None,
    flops: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Training compute, at its best split instead.")
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(metavar="INPUT=AMOUNT", help="Any input of the law; repeat for several.")
    ] = None,
    then: Annotated[
        Path | None, typer.Option(metavar="FIT", help="A fit of a task metric to loss: predict that, in two steps.")
    ] = None,
    level: LevelOption = 0.9,
    json: JsonOption = False,
) -> None:
    """Predict what a run would give, with an interval."""
    found = load(fit)
    given = dict(_assigned(words) for words in at or ())
    given |= {name: number(words) for name, words in (("params", params), ("tokens", tokens)) if words is not None}
    if flops is not None:
        if given:
            raise ValueError("give --flops alone, or the inputs one by one")
        split = best_split(found, number(flops), level=level)
        given = {"params": float(split.params.value), "tokens": float(split.tokens.value)}
    where = ", ".join(f"{name} {_count(value)}" for name, value in given.items())
    if then is not None:
        metric = load(then)
        if len(metric.law.inputs) != 1:
            raise ValueError(f"--then {then} takes {', '.join(metric.law.inputs)}; it must take the loss alone")
        both = TwoStep(found, metric).predict(given, level)
        if json:
            put_json({"at": given, **_numbers(both)})
            return
        out.print(f"{metric.law.output} {_shown(both)} at {where}", soft_wrap=True)
        out.print(f"  {_distance(both)}", soft_wrap=True)
        return
    mean, run = (found.predict(given, level, of) for of in ("mean", "run"))
    if json:
        put_json({"at": given, **_numbers(mean), "one_run": [float(run.low), float(run.high)]})
        return
    out.print(f"{found.law.output} {_shown(mean)} at {where}", soft_wrap=True)
    out.print(f"  one more run: {run.low:.4g} .. {run.high:.4g}", soft_wrap=True)
    out.print(f"  {_distance(mean)}", soft_wrap=True)


def optimum(
    fit: FitArgument,
    flops: FlopsOption,
    uses: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Tokens it will process in its life; inference counts too.")
    ] = None,
    level: LevelOption = 0.9,
    json: JsonOption = False,
) -> None:
    """Say how to split compute between parameters and tokens."""
    found = load(fit)
    best = best_split(found, number(flops), number(uses) if uses else 0.0, level)
    if json:
        put_json({name: _numbers(v) if isinstance(v, Interval) else v for name, v in best._asdict().items()})
        return
    for name, value in (("params", best.params), ("tokens", best.tokens)):
        out.print(f"{name} {_count(value.value)} ({_count(value.low)} .. {_count(value.high)})", soft_wrap=True)
    out.print(f"{best.tokens.value / best.params.value:.3g} tokens a parameter", soft_wrap=True)
    out.print(f"{found.law.output} {_shown(best.loss)}", soft_wrap=True)
    out.print(_distance(_there(found, best.params, best.tokens)), soft_wrap=True)
    if best.edge:
        out.print("! the best split lies at the end of the range searched: the law does not show one", soft_wrap=True)


def next_run(
    fit: FitArgument,
    budget: Annotated[str, typer.Option(metavar="flops=AMOUNT", help="What the run may cost.")],
    flops: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="The compute whose best split is to be foretold.",
            show_default="10 x the largest run",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say which run to buy next to make a forecast surer."""
    found = load(fit)
    limit = Budget.parse(budget)
    if limit.axis != "flops":
        raise ValueError(f"budget {budget!r}: a training run is paid in flops here, as flops=1e20")
    goal = number(flops) if flops else 10 * float(6 * np.prod(found.x, axis=0).max())
    split = best_split(found, goal)
    at = {"params": float(split.params.value), "tokens": float(split.tokens.value)}
    runs = next_runs(found, limit.limit, at)[:5]
    if json:
        put_json({"for_flops": goal, "at": at, "runs": [run._asdict() for run in runs]})
        return
    out.print(f"to foretell the best run of {goal:.3g} FLOP, if the law holds", soft_wrap=True)
    for run in runs:
        words = f"params {_count(run.params)}, tokens {_count(run.tokens)}, {run.flops:.3g} FLOP"
        out.print(f"  {words}: its interval shrinks to {run.kept:.1%}", soft_wrap=True)


def compare(
    fit: FitArgument,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="Another fit.")],
    flops: FlopsOption,
    level: LevelOption = 0.9,
    json: JsonOption = False,
) -> None:
    """Compare two fitted designs at the same compute."""
    first, second = load(fit), load(other)
    by: By = "bootstrap" if len(first.draws) and len(second.draws) else "covariance"
    found = compare_laws(first, second, number(flops), level, by)
    if json:
        values = found._asdict().items()
        put_json({"by": by} | {name: _numbers(v) if isinstance(v, Interval) else v for name, v in values})
        return
    out.print(f"{fit} less {other} at {number(flops):.3g} FLOP: {_shown(found.difference)}", soft_wrap=True)
    out.print(f"{fit} is better in {found.chance_better:.0%} of draws by {by}", soft_wrap=True)
    cross = found.crossing
    if np.isfinite(cross.value):
        out.print(f"they cross at {cross.value:.3g} FLOP ({cross.low:.3g} .. {cross.high:.3g})", soft_wrap=True)
    else:
        out.print("they do not cross within six decades of this compute", soft_wrap=True)


def laws(json: JsonOption = False) -> None:
    """List the laws: inputs, output and source of each."""
    facts = {
        name: {"what": first_line(law), "inputs": list(law.inputs), "output": law.output, "source": law.source}
        for name, law in law_classes().items()
    }
    if json:
        put_json([{"law": name, **about} for name, about in facts.items()])
        return
    for name, about in facts.items():
        out.print(f"{name}: {about['what']}", style="bold", soft_wrap=True)
        out.print(f"  inputs  {', '.join(about['inputs'])}\n  output  {about['output']}", soft_wrap=True)
        out.print(f"  source  {about['source']}", soft_wrap=True)


def _rows(file: str, where: Sequence[str]) -> dict[str, list[object]]:
    """The table of a file, or of a run's curves, with only the rows asked for.

    Raises:
        ValueError: no such column, or no row left.
    """
    table: dict[str, list[object]] = read(file) if not file.startswith("run:") else _points(file.removeprefix("run:"))
    for words in where:
        name, equals, value = (part.strip() for part in words.partition("="))
        if not equals or name not in table:
            raise ValueError(f"--where {words!r} must read COLUMN=VALUE; columns are {', '.join(table)}")
        kept = [i for i, cell in enumerate(table[name]) if str(cell) == value]
        if not kept:
            values = ", ".join(dict.fromkeys(map(str, table[name])))
            raise ValueError(f"--where {words!r} leaves no row; {name} is one of {values}")
        table = {column: [cells[i] for i in kept] for column, cells in table.items()}
    return table


def _points(run: str) -> dict[str, list[object]]:
    return as_columns(list(points(load_run(run, None))))


def _with_schedules(
    table: dict[str, list[object]], inputs: tuple[str, ...], rate: str
) -> tuple[MultiPower, tuple[str, ...]]:
    """The schedule law told by a column of learning rates; curves in the table become numbers."""
    curve, step = inputs or MultiPower.inputs
    if curve not in table:
        raise BadData(f"no column {curve!r}; there are {', '.join(table)}")
    chosen, number = from_rates(table[curve], numbers(table, step), numbers(table, rate, zero=True))
    table[curve] = number.tolist()
    return chosen, (curve, step)


def _estimates(found: Fit, level: float) -> dict[str, list[Estimate]]:
    return {by: found.parameters(level, by) for by in _INTERVALS if by != "bootstrap" or len(found.draws)}


def _facts(found: Fit, estimates: dict[str, list[Estimate]], tried: list[Choice]) -> dict[str, object]:
    return {
        "law": found.law.slug,
        "runs": len(found.y),
        "objective": str(found.objective),
        "parameters": {
            e.name: {
                "value": e.value,
                "note": e.note,
                **{by: [all_[i].low, all_[i].high] for by, all_ in estimates.items()},
            }
            for i, e in enumerate(estimates["profile"])
        },
        "starts_that_agree": found.agreement,
        "condition": found.condition,
        "lack_of_fit": found.lack_of_fit,
        "counted": found.counted,
        "parabola_bias": None if (bias := bias_of(found)) is None else bias._asdict(),
        "warnings": found.warnings(),
        "tried": [choice._asdict() for choice in tried],
    }


def _print_choice(tried: list[Choice]) -> None:
    if not tried:
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("law", "miss on the largest runs", "AICc", "BIC"):
        table.add_column(column, justify="left" if column == "law" else "right")
    for c in tried:
        cells = (c.why_not, "", "") if c.why_not else (f"{c.miss:.2%}", f"{c.aicc:.1f}", f"{c.bic:.1f}")
        table.add_row(c.law, *cells)
    out.print(table)
    out.print()


def _print_fit(found: Fit, estimates: dict[str, list[Estimate]], level: float) -> None:
    out.print(f"{found.law.slug}: {len(found.y)} runs, {found.objective}", style="bold", soft_wrap=True)
    out.print(f"  {'':9}{'value':>11}" + "".join(f"   {f'by {by}':21}" for by in estimates).rstrip(), soft_wrap=True)
    for rows in zip(*estimates.values()):
        value = "?" if rows[0].value is None else f"{rows[0].value:.6g}"
        ends = "".join(f"   {f'{e.low:.4g} .. {e.high:.4g}':21}" for e in rows).rstrip()
        out.print(f"  {rows[0].name:9}{value:>11}{ends}", soft_wrap=True)
    out.print(f"  intervals hold the truth {level:.0%} of the time, if the law is right", soft_wrap=True)
    lack = "not testable" if np.isnan(found.lack_of_fit) else f"p = {found.lack_of_fit:.2g}"
    out.print(
        f"  {found.agreement:.0%} of the starts agree; condition number {found.condition:.2g}; lack of fit {lack}",
        soft_wrap=True,
    )
    if (bias := bias_of(found)) is not None:
        words = (
            f"parabolas through iso-FLOP curves of +-{bias.span:g}x would put the best tokens at {bias.flops:.3g} FLOP"
        )
        out.print(f"  {words} {abs(bias.tokens):.2%} too {'low' if bias.tokens < 0 else 'high'}", soft_wrap=True)
    if "params" in found.law.inputs:
        out.print(f"  parameters counted: {found.counted or 'not said (--counted)'}", soft_wrap=True)
    for warning in found.warnings():
        out.print(f"  ! {warning}", soft_wrap=True)


def _draw(found: Fit, path: Path) -> None:
    """Draw a fit; what draws is imported only now, as it takes a second, or an extra."""
    name = "law_page" if path.suffix.lower() == ".html" else "law_picture"
    try:
        module = importlib.import_module(f"isoflop.report.{name}")
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from error
    module.write(found, path)
    err.print(f"wrote {path}", soft_wrap=True)


def _assigned(words: str) -> tuple[str, float]:
    name, equals, value = words.partition("=")
    if not equals:
        raise ValueError(f"--at {words!r} must read INPUT=AMOUNT, as tokens=2T")
    return name.strip(), number(value)


def _there(found: Fit, params: Interval, tokens: Interval) -> Prediction:
    return found.predict({"params": params.value, "tokens": tokens.value})


def _distance(prediction: Prediction) -> str:
    beyond = float(prediction.beyond)
    return f"{beyond:.1f} decades outside the runs fitted" if beyond > 0 else "inside the range of the runs fitted"


def _numbers(value: Interval | Prediction) -> dict[str, float]:
    return {name: float(v) for name, v in value._asdict().items()}


def _shown(value: Interval | Prediction) -> str:
    return f"{float(value.value):.5g} ({float(value.low):.5g} .. {float(value.high):.5g})"


def _count(x: float | np.ndarray) -> str:
    return amount(float(x)).replace("G", "B")
