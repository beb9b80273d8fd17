"""A robust network against one that knows its problems by heart, in figures of which the outcome is known."""

from __future__ import annotations

import pytest
import torch

from isoflop.claim import claims
from isoflop.claim.infinitymath import _findings

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("anew", "fixed", "holds"),
    [
        ((0.8, 0.79), (1.0, 0.1), [True, True, True]),
        ((0.8, 0.6), (1.0, 0.1), [False, True, True]),  # numbers matter to it too
        ((0.8, 0.79), (0.8, 0.79), [True, False, False]),  # fixed numbers taught as much
        ((0.8, 0.79), (1.0, 0.5), [True, True, False]),  # and gained too little
        ((0.8, 0.79), (1.0, 0.0), [True, True, True]),
    ],
)
def test_each_part_can_fail(anew, fixed, holds):
    assert [f.holds for f in _findings({"a": anew, "b": fixed}, 270, 2160)] == holds


def test_a_drop_within_the_noise_of_few_problems_is_none():
    assert [f.holds for f in _findings({"a": (0.8, 0.7), "b": (0.8, 0.7)}, 50, 50)][:2] == [True, False]


def test_quick():
    evidence = claims()["infinitymath"].run("quick")
    assert [len(f.measured) for f in evidence.findings] == [6, 1, 1]
