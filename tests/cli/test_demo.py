"""The main job: with its model, and without."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from isoflop.cli import demo as module
from isoflop.cli.demo import INSTEAD, MAIN_JOB, SECOND
from isoflop.model.base import ModelError
from isoflop.model.load import load
from isoflop.record import Store


@pytest.fixture
def small_job(isoflop, monkeypatch):
    """The main job on few questions, its model replaced."""

    def small_job(model: str):
        monkeypatch.setattr(module, "MAIN_JOB", replace(MAIN_JOB, task="sums.jsonl", models=[model]))
        return isoflop("demo")

    return small_job


def test_it_ends_with_the_frontier_a_report_and_how_to_go_on(small_job):
    result = small_job("mock:p=0.5,signal=0.2")
    assert result.exit_code == 0, result.stderr
    assert "Frontier" in result.stdout
    assert SECOND in result.stdout
    assert "NO REAL MODEL" not in result.output
    assert Path("report.html").stat().st_size > 10_000


def test_without_its_model_it_says_what_is_missing_and_that_a_mock_ran(small_job, monkeypatch):
    def no_registry(name: str):
        if name == INSTEAD:
            return load(name)
        raise ModelError("a tiny model needs torch: pip install 'isoflop[tiny]'", fatal=True)

    monkeypatch.setattr(module, "load", no_registry)
    result = small_job("tiny:chain-9k")
    assert result.exit_code == 0, result.stderr
    assert "the models of the main job cannot be had: a tiny model needs torch" in result.stderr
    assert "NO REAL MODEL" in result.stderr
    assert "NO REAL MODEL" in result.stdout
    assert Path("report.html").exists()
    with Store(".isoflop/store.db") as store:
        assert store.run("last").config["models"] == [load(INSTEAD).name]


def test_the_main_job_compares_four_methods_on_shipped_models_under_a_budget_of_flops():
    assert len(MAIN_JOB.methods) == 4
    assert str(MAIN_JOB.budgets[0]).startswith("flops=")
    sizes = [load(name).parameters for name in MAIN_JOB.models]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 16 * sizes[0]


def test_the_main_job_itself_on_two_problems(isoflop, monkeypatch):
    monkeypatch.setattr(module, "MAIN_JOB", replace(MAIN_JOB, limit=1, methods=["single", "self_consistency(n=4)"]))
    result = isoflop("demo")
    assert result.exit_code == 0, result.stderr
    assert "flops a problem" in result.stdout
    assert "NO REAL MODEL" not in result.output


def test_the_second_example_can_be_asked(isoflop):
    words = shlex.split(SECOND)[1:]
    result = isoflop(*(word.replace("gguf:smollm2-135m", "mock:p=0.3") for word in words), "--limit", "2")
    assert result.exit_code == 0, result.stderr
