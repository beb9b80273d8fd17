"""The comparison holds where steps make the difference and fails where they do not, or where they are not learned."""

from __future__ import annotations

import pytest
import torch

from isoflop.claim import claims
from isoflop.claim.cot_power import _findings, _sizes

torch.set_num_threads(1)
LENGTHS = [2, 4, 6]


def held(steps, at_once):
    found = _findings("some", 0.2, LENGTHS, dict(zip([*LENGTHS, 8], steps)), dict(zip([*LENGTHS, 8], at_once)))
    return [f.holds for f in found]


def test_steps_that_make_the_difference_hold():
    assert held([1, 1, 0.95, 0.3], [0.9, 0.5, 0.2, 0.2]) == [True, True, True]


@pytest.mark.parametrize(
    ("steps", "at_once", "holds"),
    [
        ([1, 0.5, 0.95, 1], [0.9, 0.5, 0.2, 0.2], [False, True, True]),  # not learned at one length
        ([1, 1, 1, 1], [0.9, 0.9, 0.8, 0.2], [True, False, True]),  # could be done at once
        ([1, 1, 1, 1], [0.3, 0.4, 0.4, 0.2], [True, True, False]),  # gains as much on short words
    ],
)
def test_each_part_can_fail(steps, at_once, holds):
    assert held(steps, at_once) == holds


def test_only_sizes_with_and_without_steps_are_compared():
    assert _sizes("automata") == _sizes("connectivity") == ["33k", "131k"]
    assert _sizes("chain") == []


def test_quick():
    evidence = claims()["cot_power"].run("quick")
    assert len(evidence.findings) == 3 * (len(_sizes("automata")) + len(_sizes("connectivity")))
    assert all(0 <= v <= 1 for f in evidence.findings[::3] for v in f.measured["with_steps"])
