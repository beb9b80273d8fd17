"""The comparison runs on the real model where its files are here; what is worse or larger is found out."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from isoflop.claim import claims, kept_evidence
from isoflop.claim.base import CouldNotRunError
from isoflop.claim.squeeze import jlcm as claim


def test_quick_runs_and_is_what_was_kept():
    try:
        evidence = claims()["jlcm"].run("quick")
    except CouldNotRunError as missing:
        pytest.skip(str(missing))
    kept = kept_evidence("jlcm", "quick")
    assert [(f.what, f.holds) for f in evidence.findings] == [(f.what, f.holds) for f in kept.findings]


def test_what_is_worse_or_larger_does_not_hold():
    good = {
        "even, clipped": (0.5, 100),
        "one codebook": (0.6, 100),
        "groups": (0.7, 101),
        "even, learned": (0.7, 100),
        "groups, learned": (0.8, 101),
    }

    def holds(**changes):
        arms = {
            n: claim._Arm(*x, 1.0) for n, x in (good | {k.replace("_", " "): v for k, v in changes.items()}).items()
        }
        return [f.holds for f in claim._compare(2, arms)]

    assert holds() == [True, True, True]
    assert holds(one_codebook=(0.75, 100)) == [False, True, True]
    assert holds(**{"even, learned": (0.9, 100)}) == [True, False, True]
    assert holds(**{"groups, learned": (0.8, 110)}) == [True, True, False]
