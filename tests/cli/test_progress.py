"""What a user sees of a run while it runs."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from isoflop.cli import progress as module
from isoflop.cli.progress import line, picture, progress
from isoflop.cost import Budget, Cost
from isoflop.run import Snapshot


def snapshot(trouble="", stopping="", spent=1500.0):
    return Snapshot("20260101-a", 40, 10, 99, 33, 7, Cost(tokens_out=spent, wall_s=3), trouble, stopping)


def words(renderable) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()


def test_a_snapshot_shows_each_budget_and_what_is_replayed():
    shown = words(picture(snapshot(), [Budget("tokens_out", 3000), Budget("wall_s", 60)]))
    assert "10 of 40" in shown
    assert "1.5k of 3k" in shown
    assert "3 of 60" in shown
    assert "99, 33 replayed, 7 in flight" in shown
    assert "10/40 done, 99 samples (33 replayed), 7 in flight; tokens_out 1.5k of 3k" in line(
        snapshot(), [Budget("tokens_out", 3000)]
    )


@pytest.mark.parametrize("budgets", [[], [Budget("usd", 1)]])
def test_an_unknown_cost_and_no_budget_are_shown_too(budgets):
    assert words(picture(snapshot(spent=math.nan), budgets))
    assert "unknown" in line(snapshot(spent=math.nan), [Budget("tokens_out", 5)])


@pytest.mark.parametrize("terminal", [True, False])
def test_trouble_and_stopping_are_said_once(monkeypatch, terminal):
    screen = Console(file=io.StringIO(), width=80, force_terminal=terminal, markup=False, highlight=False)
    monkeypatch.setattr(module, "err", screen)
    with progress([]) as shown:
        for _ in range(3):
            shown(snapshot(trouble="the disk is full"))
        shown(snapshot())
        for _ in range(3):
            shown(snapshot(stopping="interrupted"))
    said = screen.file.getvalue()
    assert said.count("in trouble: the disk is full") == 1
    assert said.count("stopping (interrupted): waiting for 7 samples") == 1
    assert "isoflop resume 20260101-a" in said


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch):
    screen = Console(file=io.StringIO(), width=80, force_terminal=False)
    monkeypatch.setattr(module, "err", screen)
    clock = iter([0.0, 1.0, 9.0, 11.0, 11.0, 12.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress([]) as shown:
        for _ in range(4):
            shown(snapshot())
    assert screen.file.getvalue().count("10/40 done") == 1
    assert "\x1b" not in screen.file.getvalue()
