"""A working directory with questions in it, and commands run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from isoflop.cli.app import app

Isoflop = Callable[..., Result]


@pytest.fixture
def isoflop(tmp_path, monkeypatch) -> Isoflop:
    """Runs a command where `sums.jsonl` is; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ISOFLOP_STORE", raising=False)
    rows = [{"prompt": f"{i}+{i}?", "answer": 2 * i, "grader": "numeric", "level": i % 3} for i in range(24)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def isoflop(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    return isoflop


@pytest.fixture
def ran(isoflop) -> Isoflop:
    """The same where a run has been made."""
    result = isoflop(
        *("run", "--task", "sums.jsonl", "--model", "mock:p=0.5,signal=0.3", "--budget", "tokens_out=100k"),
        *("--method", "single", "--method", "best_of_n(n=4, batch=2)"),
    )
    assert result.exit_code == 0, result.stderr
    return isoflop
