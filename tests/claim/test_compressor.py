"""The search is exact; students that are worse are found out."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from isoflop.claim import claims, kept_evidence
from isoflop.claim.base import CouldNotRunError
from isoflop.claim.squeeze import compressor as claim


def test_quick_runs_and_is_what_was_kept():
    try:
        evidence = claims()["compressor"].run("quick")
    except CouldNotRunError as missing:
        pytest.skip(str(missing))
    kept = kept_evidence("compressor", "quick")
    assert [f.what for f in evidence.findings] == [f.what for f in kept.findings]
    assert [f.holds for f in evidence.findings[1:]] == [f.holds for f in kept.findings[1:]]  # the first is timed


def test_another_target_has_another_genome(monkeypatch):
    monkeypatch.setattr(claim, "_MEGABYTES", 4)
    assert not claim._searched(1)[0].holds


def test_students_that_lose_do_not_hold():
    def holds(most, least, labels):
        students = [claim._Student(q, 1.0, "", 1.0, 1.0) for q in (most, least, labels)]
        return [f.holds for f in claim._compare(dict(zip("abc", students)))]

    assert holds(0.97, 0.9, 0.96) == [True, True, True]
    assert holds(0.95, 0.96, 0.97) == [False, False, False]
