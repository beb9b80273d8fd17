from __future__ import annotations

from dataclasses import replace

import pytest

from isoflop.report.findings import Findings
from isoflop.report.plot import MARKS, plot


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_and_shows_every_curve(study, width):
    found = Findings(study)
    text = plot(found, width)
    assert text is not None
    lines = text.plain.splitlines()
    assert max(map(len, lines)) <= width
    assert "output tokens a problem" in text.plain
    body = "\n".join(lines[:16])
    assert all(mark in body for mark in MARKS[1:3])
    assert "━" in body
    assert body.count("┤") >= 4


def test_higher_is_higher(study):
    """The best point stands in a line above the cheapest."""
    found = Findings(study)
    text = plot(found)
    assert text is not None
    rows = text.plain.splitlines()[:16]
    ends = [next(i for i, line in enumerate(rows) if edge(line)) for edge in (lambda s: "━" in s, lambda s: "┛" in s)]
    columns = [max(i for i, c in enumerate(line) if c in "━┛┏┃") for line in rows if any(c in line for c in "━┛┏┃")]
    assert ends[0] <= ends[1]
    assert columns == sorted(columns, reverse=True)


def test_one_point_and_equal_qualities_can_be_drawn(study):
    single = [replace(r, quality=0.5) for r in study.records if r.method == "single" and "p=0.7" in r.model]
    assert plot(Findings(replace(study, records=single))) is not None


def test_nothing_is_drawn_of_nothing(empty):
    assert plot(Findings(empty())) is None


def test_free_first_answers_do_not_break_the_log_scale(study):
    free = [
        replace(r, method="free", quality=0.4, per_use=replace(r.per_use, tokens_out=0.0))
        for r in study.records
        if r.method == "single"
    ]
    text = plot(Findings(replace(study, records=[*study.records, *free])))
    assert text is not None
    assert "free on" in text.plain
