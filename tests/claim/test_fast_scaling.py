"""The rules' bookkeeping on made-up spending, where what should come out is known."""

from __future__ import annotations

import numpy as np

from isoflop.claim import fast_scaling as claim

RULES = {"width": (1.0, 4.0, 1.0), "uniform": (2.5, 1.6, 1.6), "depth": (16.0, 1.0, 1.0), "resolution": (1.0, 1.0, 4.0)}


def spending(bound_by: str) -> np.ndarray:
    flops = np.array([1.0] + [d * w * w * r * r for d, w, r in RULES.values()])
    activations = np.array([1.0] + [d * w * r * r for d, w, r in RULES.values()])
    return np.stack([flops, activations, activations if bound_by == "memory" else flops], axis=1)


def test_where_memory_binds_width_is_fastest():
    assert [f.holds for f in claim._rules(RULES, spending("memory"), 16.0)] == [True, True, True]


def test_where_arithmetic_binds_it_is_said():
    spent = spending("arithmetic")
    spent[1:, 2] *= [1.3, 1.1, 1.0, 1.05]  # width is slowest
    found = claim._rules(RULES, spent, 16.0)
    assert [f.holds for f in found] == [True, False, False]
    assert "bound by arithmetic" in str(found[1].measured["why not"])


def test_activations_that_grow_otherwise_are_found_out():
    spent = spending("memory")
    spent[1, 1] *= 1.5
    assert not claim._rules(RULES, spent, 16.0)[0].holds
