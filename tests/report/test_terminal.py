from __future__ import annotations

import io

import pytest
from rich.console import Console

from isoflop.frontier import FrontierError
from isoflop.report.terminal import tables


def printed(study, **kwargs) -> str:
    console = Console(file=io.StringIO(), width=80)
    for part in tables(study, **kwargs):
        console.print(part)
    return console.file.getvalue()


def test_everything_is_on_the_screen_and_fits(study):
    text = printed(study)
    assert max(map(len, text.splitlines())) <= 80
    for title in ("Frontier", "Methods", "Plan", "Coverage", "Spent", "Budgets"):
        assert f"\n{title}" in text
    assert "Failed or skipped" not in text
    assert "single" in text
    assert "charged" in text


def test_markup_in_names_is_text(hostile):
    text = printed(hostile)
    assert "[bold]" in text.replace("\n", "")
    assert "Failed or skipped" in text
    assert "The run is not complete" in text


def test_another_axis(study):
    assert "FLOPs a problem" in printed(study, axis="flops")
    with pytest.raises(FrontierError, match="wall_s"):
        printed(study, axis="wall_s")


def test_a_run_without_records_says_so(empty):
    text = printed(empty())
    assert "no records" in text
    assert "stopped: interrupted" in text
