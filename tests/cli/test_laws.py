"""Fit, predict, optimum, next-run, compare, laws: what they print, what they keep, and one message for each mistake."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from isoflop.cli.laws import number
from isoflop.law.chinchilla import Chinchilla
from isoflop.law.find import names
from isoflop.law.fitted import load

TRUTH = {"E": 1.8, "A": 400.0, "B": 1500.0, "alpha": 0.34, "beta": 0.36}
FIT = ("fit", "runs.csv", "--law", "chinchilla", "--draws", "40")


def rows(seed: int = 0, **changed: float) -> list[dict[str, object]]:
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 2e9, 5), np.geomspace(1e9, 6e10, 5)))
    loss = Chinchilla().value(n, d, **(TRUTH | changed))
    loss = loss * np.exp(0.003 * np.random.default_rng(seed).standard_normal(loss.shape))
    return [{"params": a, "tokens": b, "loss": c, "sweep": i % 5} for i, (a, b, c) in enumerate(zip(n, d, loss))]


def write(name: str, table: list[dict[str, object]]) -> None:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


@pytest.fixture
def fitted(isoflop):
    """Where `runs.csv` is, and a fit of it in `a.json`."""
    write("runs.csv", rows())
    result = isoflop(*FIT, "-o", "a.json", "--counted", "without embeddings")
    assert result.exit_code == 0, result.output
    return isoflop


@pytest.mark.parametrize(
    ("words", "value"),
    [("7B", 7e9), ("2T", 2e12), ("1e24", 1e24), (" 1.5 k", 1500), ("3K", 3000), ("10_000", 1e4), (".5M", 5e5)],
)
def test_numbers_in_words(words, value):
    assert number(words) == pytest.approx(value)


@pytest.mark.parametrize("words", ["", "x", "-1", "0", "7Q", "1e999", "nan", "7 B B", "1e24 FLOP"])
def test_what_is_not_a_number_is_refused(words):
    with pytest.raises(ValueError, match="is not a positive number such as 1e24, 7B or 2T"):
        number(words)


def test_a_fit_prints_all_that_a_reader_must_know(fitted):
    words = fitted(*FIT, "--clusters", "sweep").stdout
    for name in TRUTH:
        assert re.search(rf"^ +{name} +[0-9.?]+ +[0-9.]+ \.\. [0-9.e+]+ +", words, re.MULTILINE), words
    assert "chinchilla: 25 runs, huber delta=0.001 on log residuals" in words
    assert "by covariance" in words
    assert "by bootstrap" in words
    assert "by profile" in words
    assert re.search(r"\d+% of the starts agree; condition number \d.*; lack of fit p = ", words)
    assert "parameters counted: not said (--counted)" in words
    assert "! 4 degrees of freedom: intervals rest on few runs" in words
    assert "parameters counted: without embeddings" in fitted(*FIT, "--counted", "without embeddings").stdout


def test_a_fit_as_json_has_the_same_and_the_objective_is_the_users(fitted):
    said = json.loads(fitted(*FIT, "--objective", "least_squares", "--json").stdout)
    assert said["objective"] == "least_squares on log residuals"
    for name, truth in TRUTH.items():
        said_of = said["parameters"][name]
        for by in ("covariance", "bootstrap", "profile"):
            low, high = said_of[by]
            assert low < said_of["value"] < high
        assert 0.5 < said_of["value"] / truth < 2
    assert said["starts_that_agree"] == 1.0
    assert said["condition"] > 1
    assert 0 <= said["lack_of_fit"] <= 1
    assert said["tried"] == []
    assert "bootstrap" not in json.loads(fitted(*FIT[:4], "--draws", "0", "--json").stdout)["parameters"]["E"]


def test_auto_takes_the_law_that_foretells_the_largest_runs(fitted):
    result = fitted("fit", "runs.csv", "--draws", "0", "--objective", "least_squares", "--json")
    said = json.loads(result.stdout)
    assert said["law"] == "chinchilla"
    tried = {c["law"]: c for c in said["tried"]}
    assert {"chinchilla", "kaplan", "over_training"} <= set(tried)
    assert "step_law" not in tried, "gives a learning rate, not a loss"
    assert tried["chinchilla"]["miss"] < tried["kaplan"]["miss"]
    assert tried["chinchilla"]["aicc"] < tried["kaplan"]["aicc"]
    assert "miss on the largest runs" in fitted("fit", "runs.csv", "--draws", "0").stdout


def test_columns_by_any_name(isoflop):
    write("runs.csv", [{"N": r["params"], "D": r["tokens"], "nats": r["loss"]} for r in rows()])
    named = ("--x", "N, D", "--y", "nats", "--draws", "0")
    assert "chinchilla: 25 runs" in isoflop(*FIT[:4], *named).stdout
    assert "miss on" in isoflop("fit", "runs.csv", *named).stdout
    assert "power_floor" in isoflop("fit", "runs.csv", "--x", "D", "--y", "nats", "--draws", "0").stdout


def test_prediction(fitted):
    said = json.loads(fitted("predict", "a.json", "--params", "7B", "--tokens", "0.2T", "--json").stdout)
    truth = float(Chinchilla().value(7e9, 2e11, **TRUTH))
    assert said["at"] == {"params": 7e9, "tokens": 2e11}
    assert said["low"] < said["value"] < said["high"]
    assert said["value"] == pytest.approx(truth, rel=0.02)
    assert said["one_run"][0] < said["low"]
    assert said["beyond"] == pytest.approx(np.log10(7e9 / 2e9))
    words = fitted("predict", "a.json", "--at", "params=7B", "--at", "tokens=0.2T").stdout
    assert words.startswith(f"loss {said['value']:.5g} (")
    assert "at params 7B, tokens 200B" in words
    assert "0.5 decades outside the runs fitted" in words
    assert "inside the range" in fitted("predict", "a.json", "--params", "1B", "--tokens", "20B").stdout


def test_prediction_at_a_budget_is_the_one_at_its_best_split(fitted):
    best = json.loads(fitted("optimum", "a.json", "--flops", "1e22", "--json").stdout)
    said = json.loads(fitted("predict", "a.json", "--flops", "1e22", "--json").stdout)
    assert said["value"] == pytest.approx(best["loss"]["value"])
    assert 6 * said["at"]["params"] * said["at"]["tokens"] == pytest.approx(1e22)


def test_optimum_counts_what_inference_costs(fitted):
    plain, used = (
        json.loads(fitted("optimum", "a.json", "--flops", "1e22", "--level", "0.99", *uses, "--json").stdout)
        for uses in ((), ("--uses", "1T"))
    )
    assert used["params"]["value"] < plain["params"]["value"]
    spent = (6 * used["tokens"]["value"] + 2e12) * used["params"]["value"]
    assert spent == pytest.approx(1e22)
    t = TRUTH
    size = (t["alpha"] * t["A"] / t["beta"] / t["B"]) ** (1 / (t["alpha"] + t["beta"]))
    size *= (1e22 / 6) ** (t["beta"] / (t["alpha"] + t["beta"]))
    assert plain["params"]["low"] < size < plain["params"]["high"]
    words = fitted("optimum", "a.json", "--flops", "1e22").stdout
    assert re.match(r"params \S+ \(\S+ \.\. \S+\)\ntokens \S+ \(\S+ \.\. \S+\)\n\S+ tokens a parameter\nloss ", words)


def test_next_run_costs_no_more_than_the_budget_and_helps(fitted):
    said = json.loads(fitted("next-run", "a.json", "--budget", "flops=1e21", "--json").stdout)
    kept = [run["kept"] for run in said["runs"]]
    assert kept == sorted(kept)
    assert 0 < kept[0] < 1
    assert all(run["flops"] <= 1e21 * 1.000001 for run in said["runs"])
    assert said["for_flops"] == pytest.approx(10 * 6 * 2e9 * 6e10)
    words = fitted("next-run", "a.json", "--budget", "flops=1e21", "--flops", "1e24").stdout
    assert words.startswith("to foretell the best run of 1e+24 FLOP")


def test_compare_finds_the_better_design_and_where_they_cross(fitted):
    write("runs.csv", rows(seed=1, E=1.7, A=900.0))
    assert fitted(*FIT, "-o", "b.json").exit_code == 0
    said = json.loads(fitted("compare", "a.json", "b.json", "--flops", "1e19", "--json").stdout)
    assert said["difference"]["high"] < 0
    assert said["chance_better"] == 1.0
    assert said["by"] == "bootstrap", "same rows and seed: paired draws"
    assert 1e19 < said["crossing"]["value"] < 1e24
    words = fitted("compare", "a.json", "b.json", "--flops", "1e19").stdout
    assert "a.json less b.json at 1e+19 FLOP: -" in words
    assert "a.json is better in 100% of draws by bootstrap" in words
    assert "they cross at " in words
    assert "they do not cross" in fitted("compare", "a.json", "a.json", "--flops", "1e19").stdout


def test_the_bias_of_parabolas_is_said_for_the_runs_own_law(fitted):
    said = json.loads(fitted(*FIT, "--json").stdout)["parabola_bias"]
    assert said["flops"] == pytest.approx(10 * 6 * 2e9 * 6e10)
    assert 0 < abs(said["tokens"]) < 0.05, "low where alpha is the larger exponent, else high"
    assert re.search(r"iso-FLOP curves of .-4x would put the best tokens at .* too (low|high)", fitted(*FIT).stdout)
    one = ("fit", "runs.csv", "--law", "kaplan", "--draws", "0", "--json")
    assert json.loads(fitted(*one).stdout)["parabola_bias"] is None


def test_only_some_rows(isoflop):
    write("runs.csv", [r | {"corpus": "web" if i % 2 else "books"} for i, r in enumerate(rows())])
    some = json.loads(isoflop(*FIT, "--where", "corpus=books", "--json").stdout)
    assert some["runs"] == 13
    result = isoflop(*FIT, "--where", "corpus=code")
    assert result.exit_code == 2
    assert "leaves no row; corpus is one of books, web" in result.stderr
    assert "must read COLUMN=VALUE; columns are params" in isoflop(*FIT, "--where", "books").stderr


def test_a_run_of_isoflop_can_be_fitted(isoflop):
    made = isoflop(
        *("run", "--task", "sums.jsonl", "--model", "mock:p=0.2,signal=0.3", "--budget", "tokens_out=100k"),
        *("--method", "single", "--method", "best_of_n(n=16, batch=1)"),
    )
    assert made.exit_code == 0, made.stderr
    one = ("fit", "run:last", "--law", "log_linear", "--x", "tokens_out", "--y", "quality", "--draws", "0", "--json")
    said = json.loads(isoflop(*one, "--where", "method=best_of_n(n=16)").stdout or "{}")
    if not said:  # the method's own words
        words = isoflop(*one, "--where", "method=x").stderr
        name = next(part for part in re.findall(r"best_of_n\([^)]*\)", words))
        said = json.loads(isoflop(*one, "--where", f"method={name}").stdout)
    assert said["runs"] == 16
    assert said["parameters"]["b"]["value"] > 0, "more samples solve more"


def test_learning_rates_need_their_curve(isoflop):
    write("curves.csv", [{"curve": "flat", "step": s, "lr": 3e-4, "loss": 3.0 + 1 / s} for s in range(1, 12)])
    command = ("fit", "curves.csv", "--law", "multi_power", "--rate", "lr", "--x", "run,step")
    assert "no column 'run'; there are curve, step, lr, loss" in isoflop(*command).stderr
    assert "name the column of learning rates with --rate" in isoflop(*command[:4]).stderr


def test_two_steps_from_loss_to_accuracy(fitted):
    loss = np.linspace(2.0, 4.0, 25)
    accuracy = 0.25 + 0.6 / (1 + np.exp(4 * (loss - 2.8))) + 0.002 * np.random.default_rng(0).standard_normal(25)
    write("tasks.csv", [{"loss": a, "error": 1 - b} for a, b in zip(loss, accuracy)])
    made = fitted("fit", "tasks.csv", "--law", "loss_to_error", "--draws", "0", "-o", "t.json")
    assert made.exit_code == 0, made.stderr
    ask = ("predict", "a.json", "--params", "1B", "--tokens", "20B")
    said = json.loads(fitted(*ask, "--then", "t.json", "--json").stdout)
    first = json.loads(fitted(*ask, "--json").stdout)["value"]
    second = json.loads(fitted("predict", "t.json", "--at", f"loss={first}", "--json").stdout)
    assert said["value"] == pytest.approx(second["value"])
    assert said["low"] < said["value"] < said["high"]
    assert fitted(*ask, "--then", "t.json").stdout.startswith("error ")
    assert "must take the loss alone" in fitted(*ask, "--then", "a.json").stderr


def test_the_kept_fit_is_the_fit(fitted):
    assert load("a.json").counted == "without embeddings"
    assert load("a.json").draws.shape == (40, 5)


def test_plots(fitted, tmp_path):
    assert "wrote p.html" in fitted(*FIT, "--plot", "p.html").stderr
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "runs, and the best split of each budget" in page
    assert not re.search(r"<script[^>]* src=", page)
    pytest.importorskip("matplotlib")
    one = ("fit", "runs.csv", "--law", "power_floor", "--x", "tokens", "--y", "loss", "--draws", "0")
    assert fitted(*one, "--plot", "p.png").exit_code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    result = fitted(*one, "--plot", "p.gif")
    assert result.exit_code == 2
    assert "isoflop: p.gif: the ending must be .html for a page, or .png, .svg, .pdf" in result.stderr


def test_the_list_is_generated(isoflop):
    said = json.loads(isoflop("laws", "--json").stdout)
    assert {law["law"] for law in said} == set(names())
    assert all(law["inputs"] and law["output"] and law["source"] and law["what"] for law in said)
    words = isoflop("laws").stdout
    assert "chinchilla: Loss L(N, D) = E + A/N^alpha + B/D^beta" in words


def faulty(change):
    table = rows()
    return change(table) or table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: [{"params": r["params"], "loss": r["loss"]} for r in t],
            "no column 'tokens'; there are params, loss",
        ),
        (lambda t: [r | {"params": 1e8} for r in t], "column 'params': all 25 rows are 1e+08"),
        (lambda t: t[3].update(loss=-1.0), "column 'loss', row 4: -1 is not positive"),
        (lambda t: t[6].update(loss="nan"), "column 'loss', row 7: nan is not a finite number"),
        (lambda t: t[6].update(loss="2,5"), "column 'loss', row 7: '2,5' is not a number"),
        (lambda t: t[2].update(tokens=""), "column 'tokens', row 3: no value"),
        (lambda t: [*t, t[1]], "rows 2 and 26 are the same in 'params', 'tokens'"),
        (lambda t: t[:3], "3 rows for 5 parameters: at least 6 runs are needed"),
        (lambda t: t[0].update(params=20.0), "mixed units? Write all rows in one unit"),
        (lambda t: t[0].update(tokens=0), "column 'tokens', row 1: 0 is not positive"),
    ],
)
def test_malformed_runs_give_one_clear_message(isoflop, tmp_path, change, message):
    write("runs.csv", faulty(change))
    result = isoflop(*FIT, "-o", "a.json", "--plot", "p.html")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("isoflop: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not (tmp_path / "a.json").exists()
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "nothing.csv"), "nothing.csv"),
        (("fit", "sums.txt"), "only .csv, .jsonl and .parquet are read"),
        (("fit", "runs.csv", "--law", "hoffman"), "unknown law 'hoffman'; there are "),
        (("fit", "runs.csv", "--law", "multi_power"), "multi_power needs its schedules"),
        (("fit", "runs.csv", "--objective", "hubr"), "unknown objective 'hubr'; use one of huber, lad"),
        (("fit", "runs.csv", "--law", "chinchilla", "--x", "tokens"), "takes 2 inputs (params, tokens), not 1"),
        (("fit", "runs.csv", "--x", "params,tokens,sweep,loss"), "no law takes params, tokens, sweep, loss"),
        ((*FIT, "--clusters", "family"), "no column 'family' for the clusters"),
        (("predict", "a.json", "--params", "7B"), "give params, tokens, not params"),
        (("predict", "a.json", "--params", "7Q"), "'7Q' is not a positive number such as 1e24, 7B or 2T"),
        (("predict", "a.json", "--at", "params"), "must read INPUT=AMOUNT"),
        (("predict", "a.json", "--flops", "1e22", "--params", "7B"), "give --flops alone"),
        (("predict", "runs.csv", "--flops", "1e22"), "runs.csv is not a fit"),
        (("predict", "none.json", "--flops", "1e22"), "none.json"),
        (("next-run", "a.json", "--budget", "usd=3"), "is paid in flops here"),
        (("next-run", "a.json", "--budget", "flops=1"), "pays for no run"),
        (("optimum", "one.json", "--flops", "1e22"), "an optimum needs a law in params and tokens"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(fitted, words, message):
    one = ("fit", "runs.csv", "--law", "power", "--x", "tokens", "--y", "loss", "--draws", "0", "-o", "one.json")
    assert fitted(*one).exit_code == 0
    result = fitted(*words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("isoflop: ")
    assert message in result.stderr
    assert result.stdout == ""
