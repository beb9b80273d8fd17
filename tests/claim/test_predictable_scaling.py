"""Curves that are power laws with one exponent hold the claim; curves that are not are reported as such."""

from __future__ import annotations

import numpy as np

from isoflop.claim import predictable_scaling as claim


def curves(exponents, bend=0.0):
    rng = np.random.default_rng(0)
    x = np.geomspace(1e6, 1e9, 11)
    made = {}
    for i, alpha in enumerate(exponents):
        y = 0.3 + (1 + i) * (x / 1e6) ** -alpha + bend * (x >= x[-1])
        made[f"model {i}"] = [(float(a), float(b)) for a, b in zip(x, y * np.exp(0.003 * rng.standard_normal(11)))]
    return made


def test_power_laws_that_only_shift_hold():
    found = claim._domain("simulated", curves([0.4, 0.4, 0.4]), 1)
    assert [f.holds for f in found] == [True, True, True]
    assert "why not" not in {name for f in found for name in f.measured}


def test_another_exponent_is_found_out():
    assert [f.holds for f in claim._domain("simulated", curves([0.3, 0.6]), 1)] == [True, True, False]


def test_a_curve_that_bends_at_its_end_is_not_foretold():
    _, forecast, _ = claim._domain("simulated", curves([0.4, 0.4], bend=0.1), 1)
    assert not forecast.holds
    assert forecast.measured["why not"] == "the curves flatten sooner than their beginnings say"


def test_growth_is_below_one_interval_and_all():
    for exponent, holds in ((0.7, True), (1.1, False)):
        d = np.geomspace(1e8, 1e11, 12)
        noise = np.exp(0.01 * np.random.default_rng(1).standard_normal(12))
        columns = {"t_star": d.tolist(), "n_star": (d**exponent * noise).tolist()}
        for key, value in zip(
            ("dataset", "hparams", "warmup", "decay", "param_count", "val"),
            ("rw", "tuned", "short", "const", "standard", "val"),
        ):
            columns[key] = [value] * 12
        found = claim._growth(columns)
        assert found.holds == holds
        low, high = found.measured["rw"]
        assert low < exponent < high


def test_the_curves_of_the_shipped_families_are_tried_too():
    found = claim._families()
    families = {f.what.split(":")[0] for f in found}
    assert {"tiny models, chain", "tiny models, countdown"} <= families
    assert len(found) == 3 * len(families)
    x, y = np.array(claim._own_curve("chain-34k")).T
    assert (np.diff(x) > 0).all()
    assert y.min() > 0
