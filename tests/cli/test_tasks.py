"""Sets of questions, shipped and one's own."""

from __future__ import annotations

import json
from pathlib import Path

from isoflop.cli import tasks
from isoflop.task.questions import shipped


def test_every_shipped_task_is_listed(isoflop, monkeypatch):
    assert tasks.shipped is shipped
    monkeypatch.setattr(tasks, "shipped", lambda: ["chain", "humaneval", "missing"])  # all of them take seconds
    listed = json.loads(isoflop("tasks", "--json").stdout)
    assert {name: set(row) for name, row in listed.items()} == {
        "chain": {"splits", "graders"},
        "humaneval": {"splits", "graders"},
        "missing": {"missing"},
    }
    assert listed["humaneval"]["graders"] == {"code": 164}
    words = isoflop("tasks").stdout.splitlines()
    assert [line.partition(":")[0] for line in words] == ["chain", "humaneval", "missing"]


def test_a_good_file_is_counted(isoflop):
    result = isoflop("check", "sums.jsonl")
    assert result.exit_code == 0
    assert "24 questions (" in result.stdout
    assert "graded by 24 numeric; every row can be used" in result.stdout


def test_every_bad_row_is_reported(isoflop):
    Path("bad.jsonl").write_text('{"prompt": "a"}\nnot json\n{"prompt": "b", "answer": "x", "grader": "nope"}\n')
    result = isoflop("check", "bad.jsonl")
    assert result.exit_code == 2
    assert [f"line {n}: " in result.stderr for n in (1, 2, 3)] == [True] * 3
