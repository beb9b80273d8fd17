"""What follows from the published constants comes out, and would not from others."""

from __future__ import annotations

import pytest

from isoflop.claim import claims
from isoflop.claim import fp_quant_law as claim


def test_quick():
    evidence = claims()["fp_quant_law"].run("quick")
    assert evidence.holds, [f for f in evidence.findings if not f.holds]
    assert len(evidence.findings) == 5


@pytest.mark.parametrize(
    ("constant", "value", "part"),
    [("delta", 1.0, claim._layouts), ("gamma", 2e4, claim._critical), ("gamma", 1.0, claim._width)],
)
def test_with_another_constant_it_would_not_hold(monkeypatch, constant, value, part):
    assert part().holds
    monkeypatch.setitem(claim.PUBLISHED, constant, value)
    assert not part().holds
