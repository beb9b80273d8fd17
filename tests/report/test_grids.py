from __future__ import annotations

import pytest

from isoflop.report import grids
from isoflop.report.findings import Findings

MAKERS = [
    grids.frontier,
    grids.methods,
    grids.plans,
    grids.coverage,
    grids.roles,
    grids.ledger,
    grids.budgets,
    grids.problems,
    grids.provenance,
    grids.troubles,
]


@pytest.mark.parametrize("make", MAKERS)
def test_every_row_fills_every_column(make, hostile, empty):
    grid = make(Findings(hostile))
    assert grid.rows
    assert {len(row) for row in grid.rows} == {len(grid.columns)}
    assert all(isinstance(cell, str) for row in grid.rows for cell in row)
    if make is not grids.provenance and make is not grids.budgets:
        assert make(Findings(empty())).rows == []


def test_methods_are_best_first_with_bounds_marked(study):
    grid = grids.methods(Findings(study))
    qualities = [float(row[0].rstrip("%")) for row in grid.rows]
    assert qualities == sorted(qualities, reverse=True)
    assert sum("(bound)" in row[-1] for row in grid.rows) == 2
    assert "bound" in grid.note


def test_coverage_doubles_k_and_ends_with_the_law(study):
    assert [row[0] for row in grids.coverage(Findings(study)).rows] == ["1", "2", "4", "8", "80 by the law"]


def test_problems_show_the_planned_answer_and_its_verdict(study):
    found = Findings(study)
    grid = grids.problems(found)
    answers = found.answers(found.plans[-1].choice)
    assert len(grid.rows) == 60
    for row in grid.rows:
        assert row[-2] == answers[row[0]].answer
        assert row[-1] == ("right" if answers[row[0]].quality else "wrong")


def test_long_tables_say_what_they_leave_out(study, monkeypatch):
    monkeypatch.setattr(grids, "MOST_PROBLEMS", 10)
    grid = grids.problems(Findings(study))
    assert len(grid.rows) == 10
    assert "10 hardest of 60" in grid.note
