"""The comparison runs on the real model where its files are here; a choice no better than chance is found out."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from isoflop.claim import claims, kept_evidence
from isoflop.claim.base import CouldNotRunError
from isoflop.claim.squeeze import ld_pruner as claim


def test_quick_runs_and_is_what_was_kept():
    try:
        evidence = claims()["ld_pruner"].run("quick")
    except CouldNotRunError as missing:
        pytest.skip(str(missing))
    kept = kept_evidence("ld_pruner", "quick")
    assert [(f.what, f.holds) for f in evidence.findings] == [(f.what, f.holds) for f in kept.findings]


def test_a_choice_below_one_of_the_random_ones_does_not_hold():
    names = ["scored", "random 0", "random 1"]
    assert claim._compare("x", "", names, [0.9, 0.8, 0.7], {}).holds
    assert not claim._compare("x", "", names, [0.75, 0.8, 0.7], {}).holds
