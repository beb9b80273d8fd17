"""Sets of questions, shipped and one's own."""

from __future__ import annotations

import json
from pathlib import Path

from isoflop.task.questions import shipped


def test_every_shipped_task_is_listed(isoflop):
    listed = json.loads(isoflop("tasks", "--json").stdout)
    assert set(listed) == set(shipped())
    words = isoflop("tasks").stdout
    for name in listed:
        assert f"{name}" in words


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
