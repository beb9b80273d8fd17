"""The comparison runs on the real model where its files are here; a grid that is worse is found out."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from isoflop.claim import claims
from isoflop.claim.base import CouldNotRunError
from isoflop.claim.squeeze import nupes as claim


def test_quick():
    try:
        evidence = claims()["nupes"].run("quick")
    except CouldNotRunError as missing:
        pytest.skip(str(missing))
    assert evidence.holds, [f for f in evidence.findings if not f.holds]
    assert len(evidence.findings) == 3


def test_what_is_worse_does_not_hold():
    def arms(**cosines):
        return {name.replace("_", ", "): claim._Arm(x, 1, 1.0, 1.0) for name, x in cosines.items()}

    good = {"even": 0.5, "even_clipped": 0.7, "power_clipped": 0.81, "even_learned": 0.85, "power_learned": 0.9}
    assert [f.holds for f in claim._compare(3, arms(**good), "full")] == [True, True, True]
    assert [f.holds for f in claim._compare(3, arms(**good | {"power_clipped": 0.79}), "full")] == [False, True, True]
    assert [f.holds for f in claim._compare(3, arms(**good | {"even_learned": 0.95}), "full")] == [True, True, False]
    assert not claim._compare(3, arms(**good | {"power_learned": 0.8}), "full")[1].holds
