"""What a fit says: intervals, diagnostics, inversion, and that it keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.law.simulated import QUICK, TRUTH, runs

from isoflop.law.chinchilla import Chinchilla
from isoflop.law.engine import Objective
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.fitted import Fit, load
from isoflop.law.kaplan import Kaplan
from isoflop.law.log_linear import LogLinear
from isoflop.law.power import Power
from isoflop.law.power_floor import PowerFloor
from isoflop.law.spend import optimum


def test_predictions_widen_with_distance_and_with_a_runs_noise(found: Fit):
    near, far = found.predict({"params": 1e9, "tokens": 1e10}), found.predict({"params": 1e12, "tokens": 1e13})
    assert near.beyond == 0
    assert far.beyond == pytest.approx(np.log10(1e12 / 3e9))
    assert far.high - far.low > near.high - near.low
    one = found.predict({"params": 1e9, "tokens": 1e10}, of="run")
    assert one.high - one.low > 2 * (near.high - near.low)


def test_the_three_intervals_of_a_parameter_agree_in_size(found: Fit):
    widths = np.array(
        [[e.high - e.low for e in found.parameters(by=by)] for by in ("covariance", "bootstrap", "profile")]
    )
    assert np.all(widths.max(axis=0) / widths.min(axis=0) < 2.5)


def test_a_profile_interval_ends_where_the_others_no_longer_make_up():
    law = PowerFloor()
    x, truth = law.example()
    y = law.value(*x, **truth) * np.exp(0.01 * np.random.default_rng(0).standard_normal(30))
    sure = fit_arrays(law, x, y, Objective("least_squares"), QUICK)
    ends = sure.profile("alpha")
    covariance = next(e for e in sure.parameters(by="covariance") if e.name == "alpha")
    assert ends.low == pytest.approx(covariance.low, rel=0.02)
    assert ends.high == pytest.approx(covariance.high, rel=0.02)
    with pytest.raises(ValueError, match="unknown parameter 'gamma'; there are E, A, alpha"):
        sure.profile("gamma")


def test_a_parameters_own_interval_is_the_profile(found: Fit):
    assert found.parameters() == found.parameters(by="profile") != found.parameters(by="covariance")


def test_profiles_know_of_clusters():
    """The law is straight in its parameters, so its profile is its covariance, which clusters widen."""
    x = np.geomspace(1e3, 1e6, 24)
    cluster = np.arange(24) // 4
    rng = np.random.default_rng(0)
    y = 0.06 * np.log(x) - 0.2 + 0.01 * rng.standard_normal(6)[cluster] + 0.001 * rng.standard_normal(24)
    aim = Objective("least_squares", scale="linear")
    alone, together = (fit_arrays(LogLinear(), x, y, aim, QUICK, c) for c in (None, cluster.tolist()))
    for fit in (alone, together):
        for sure, own in zip(fit.parameters(by="covariance"), fit.parameters(), strict=True):
            assert (own.low, own.high) == pytest.approx((sure.low, sure.high), rel=1e-3)
    widths = [fit.parameters()[1].high - fit.parameters()[1].low for fit in (alone, together)]
    assert widths[1] > 1.3 * widths[0]


def test_invert_undoes_predict(found: Fit):
    loss = float(found.predict({"params": 1e9, "tokens": 5e10}).value)
    tokens = found.invert(loss, params=1e9)
    assert tokens.value == pytest.approx(5e10, rel=1e-9)
    assert tokens.low < 5e10 < tokens.high
    assert np.isnan(found.invert(0.1, params=1e9).value)
    with pytest.raises(ValueError, match="all of params, tokens but one"):
        found.invert(loss)


def test_what_the_design_cannot_separate_is_not_printed():
    law = Chinchilla()
    rng = np.random.default_rng(0)
    # Six models in a narrow range, all with the same tokens a parameter: alpha and beta are one number.
    n = np.array([5e7, 6e7, 7e7, 8e7, 9e7, 1e8])
    x = np.stack([n, 20 * n * np.exp(0.01 * rng.standard_normal(6))])
    y = law.value(*x, **TRUTH) * np.exp(0.003 * rng.standard_normal(6))
    poor = fit_arrays(law, x, y, uncertainty=QUICK)
    values = {e.name: e for e in poor.parameters()}
    assert values["alpha"].value is None
    assert values["beta"].value is None
    assert values["alpha"].note
    assert any("alpha" in w for w in poor.warnings())


def test_two_terms_that_a_design_does_not_show_are_both_refused():
    n = np.repeat(np.geomspace(2e7, 6e8, 4), 4)
    # Tokens far beyond what matters: neither D_c nor alpha_D leaves a trace.
    x = np.stack([n, np.tile(np.geomspace(1e9, 6e10, 4), 4)])
    law = Kaplan()
    _, truth = law.example()
    y = law.value(*x, **truth)
    gone = law.theta(**(truth | {"D_c": 1e-9, "alpha_D": 2.0}))
    fit = replace(fit_arrays(law, x, y, uncertainty=QUICK), theta=gone)
    refused = {e.name for e in fit.parameters() if e.value is None}
    assert {"D_c", "alpha_D"} <= refused


def test_good_runs_raise_no_alarm_and_bent_ones_do(found: Fit):
    assert replace(found, counted="all").warnings() == []
    assert any("parameters were counted" in w for w in found.warnings())
    x, y = runs()
    bent = fit_arrays(Chinchilla(), x, y * np.exp(0.02 * (np.log(x[0]) - 18) * (np.log(x[1]) - 23)), uncertainty=QUICK)
    assert bent.lack_of_fit < 0.01
    assert any("lack of fit" in w for w in bent.warnings())


def test_lack_of_fit_is_uniform_when_the_law_is_right():
    law = PowerFloor()
    x, truth = law.example()
    rng = np.random.default_rng(0)
    ps = [
        fit_arrays(
            law, x, law.value(*x, **truth) * np.exp(0.01 * rng.standard_normal(30)), Objective("least_squares"), QUICK
        ).lack_of_fit
        for _ in range(200)
    ]
    assert 0.02 < np.mean(np.array(ps) < 0.1) < 0.2


def test_refits_have_the_size_of_fits_without_a_run():
    """Straight in its parameters and no bound near: the draws' covariance is the sandwich's, times Student's t."""
    x = np.geomspace(1e3, 1e6, 24)
    noise = np.where(np.arange(24) < 4, 0.05, 0.005) * np.random.default_rng(3).standard_normal(24)
    aim = Objective("least_squares", scale="linear")
    fit = fit_arrays(LogLinear(), x, 0.06 * np.log(x) - 0.2 + noise, aim, Uncertainty(draws=2000))
    draws = fit.draws_of("bootstrap") - fit.theta
    freedom = fit.spread.freedom
    assert draws.T @ draws / len(draws) == pytest.approx(fit.spread.uneven * freedom / (freedom - 2), rel=0.15)
    assert np.all(np.diag(fit.spread.uneven) > 2 * np.diag(fit.covariance)), "the noisy runs lie at one end"
    inch = fit_arrays(LogLinear(), x / 2.54, fit.y, aim, Uncertainty(draws=2000))
    there, again = fit.predict(x, by="bootstrap"), inch.predict(x / 2.54, by="bootstrap")
    assert again.low == pytest.approx(there.low, rel=1e-4), "whatever the units"
    exact = replace(fit, draws=np.tile(fit.theta, (10, 1)))
    assert np.array_equal(exact.draws_of("bootstrap"), exact.draws), "runs without noise"


def test_refits_see_under_hubers_loss_that_some_runs_are_noisier():
    law = Power()
    x, truth = law.example()
    noise = np.where(np.arange(20) < 5, 0.012, 0.003) * np.random.default_rng(31).standard_normal((20, 20))
    widths: list[list[float]] = []
    for own in noise:
        fit = fit_arrays(law, x, law.value(*x, **truth) * np.exp(own), uncertainty=Uncertainty(draws=200))
        widths.append([e.high - e.low for by in ("bootstrap", "covariance") for e in fit.parameters(by=by)[1:]])
    wide, even = np.median(widths, axis=0)
    assert wide > 1.1 * even


def test_bootstrap_intervals_need_draws():
    with pytest.raises(ValueError, match="no bootstrap draws"):
        fit_arrays(Chinchilla(), *runs(), uncertainty=QUICK).predict({"params": 1e9, "tokens": 1e10}, by="bootstrap")


def test_a_saved_fit_is_the_same_fit(found: Fit, tmp_path: Path):
    found.save(tmp_path / "fit.json")
    again = load(tmp_path / "fit.json")
    point = {"params": 1e10, "tokens": 1e12}
    for by in ("covariance", "bootstrap"):
        assert np.array_equal(found.predict(point, by=by), again.predict(point, by=by))
    assert optimum(again, 1e22) == optimum(found, 1e22)
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ValueError, match="not a fit"):
        load(tmp_path / "no.json")


def test_wrong_inputs_are_named(found: Fit):
    with pytest.raises(ValueError, match="give params, tokens, not params"):
        found.predict({"params": 1e9})
    with pytest.raises(ValueError, match="input tokens: every value must be positive"):
        found.predict({"params": 1e9, "tokens": -1})
