"""Simulated runs of the law foretell what is larger; runs of another law do not, and the reason is said."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.claim import scaling_mystery as claim
from isoflop.law.base import crossed
from isoflop.law.batch_trajectory import BatchTrajectory


def test_constants_of_small_simulated_runs_foretell_33_billion():
    found = claim._simulated(1)
    assert found.holds is True, "a plain bool, as JSON keeps it"
    assert len(found.measured) == 4


def test_too_much_noise_and_they_do_not(monkeypatch):
    monkeypatch.setattr(claim, "_NOISE", 0.3)
    assert not claim._simulated(1).holds


@pytest.mark.parametrize("floor", [0.0, 1.5])
def test_a_floor_that_the_law_has_not_is_found_out(floor):
    n, data = crossed(np.geomspace(1e6, 6e9, 8), np.geomspace(1e9, 1e12, 8))
    loss = floor + 3.0 * (n / 1e6) ** (-0.3 if floor else -0.07) + (5e8 / data) ** 0.4
    found = claim._held_out("runs", n, data, loss, n > 6e7)
    assert found.holds == (floor == 0.0)
    assert found.measured["mean miss, with a floor"] <= 0.02
    assert ("why not" in found.measured) == (not found.holds)


def test_at_one_large_batch_the_law_is_two_terms():
    """The form that is fitted to public runs is the paper's where the batch is far above the critical one."""
    constants = BatchTrajectory().example()[1]
    n, s = np.array([1e7, 1e8]), np.array([1e4, 1e5])
    whole = BatchTrajectory().value(n, 1e15, s, **constants)
    factors = {k: constants[f"{c}_c"] ** constants[f"alpha_{c}"] for k, c in (("A", "N"), ("B", "S"))}
    two = claim._OneBatch().value(n, s, **factors, alpha=constants["alpha_N"], beta=constants["alpha_S"])
    np.testing.assert_allclose(two, whole, rtol=1e-5)
