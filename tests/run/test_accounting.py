"""What a run reports is what the server served, role by role."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.accounting import CASES, FAULTY, measure

from isoflop.testing.server import ServerFaults


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_token_served_is_reported(case, tmp_path: Path):
    row = measure(case, FAULTY, tmp_path)
    assert row.reported == row.served
    assert row.by_role["judge"] == row.judge_served
    assert row.by_role["retry"] == row.retry_served
    assert row.retry_served > 0
    assert (row.judge_served > 0) == ("judge" in case.name or "three" in case.name)
    assert (row.by_role["cancelled"] > 0) == (case.interrupt_after > 0)


def test_the_matrix_notices_what_is_not_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("isoflop.model.endpoint.Endpoint._wasted", lambda self, call, answered: answered.times(0))
    row = measure(CASES[0], ServerFaults(drop_every=7), tmp_path)
    assert row.reported < row.served
    assert not row.exact
