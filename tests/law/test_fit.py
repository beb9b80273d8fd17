"""What a fit says: intervals, diagnostics, optimum, next run, comparison, and that it keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isoflop.law.chinchilla import Chinchilla
from isoflop.law.engine import Objective
from isoflop.law.fit import Fit, Uncertainty, fit, fit_arrays, laws_for, load
from isoflop.law.power_floor import PowerFloor

QUICK = Uncertainty(draws=0)
TRUTH = {"E": 1.8691436784054858, "A": 520.8249516599187, "B": 1487.716093782861, "alpha": 0.3526596, "beta": 0.3526596}


def runs(noise: float = 0.005, seed: int = 0, **truth: float) -> tuple[np.ndarray, np.ndarray]:
    law = Chinchilla()
    x, _ = law.example()
    rng = np.random.default_rng(seed)
    return x, law.value(*x, **(TRUTH | truth)) * np.exp(noise * rng.standard_normal(x.shape[1]))


@pytest.fixture(scope="module")
def found() -> Fit:
    return fit_arrays(Chinchilla(), *runs(), uncertainty=Uncertainty(draws=300))


def test_optimum_is_the_closed_form():
    exact = replace(fit_arrays(Chinchilla(), *runs(0.0), uncertainty=QUICK), theta=Chinchilla().theta(**TRUTH))
    best = exact.optimum(5.76e23)
    # Hoffmann's closed form with Muennighoff's constants.
    assert best.params.value == pytest.approx(69_962_173_313.5, rel=1e-5)
    assert best.tokens.value == pytest.approx(1_372_170_066_384.2, rel=1e-5)
    assert not best.edge


def test_inference_makes_the_best_model_smaller(found: Fit):
    alone, used = found.optimum(1e21), found.optimum(1e21, uses=1e11)
    assert used.params.value < alone.params.value
    spent = 6 * used.params.value * used.tokens.value + 2 * used.params.value * 1e11
    assert spent == pytest.approx(1e21, rel=1e-6)


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
    covariance = next(e for e in sure.parameters() if e.name == "alpha")
    assert ends.low == pytest.approx(covariance.low, rel=0.02)
    assert ends.high == pytest.approx(covariance.high, rel=0.02)
    with pytest.raises(ValueError, match="unknown parameter 'gamma'; there are E, A, alpha"):
        sure.profile("gamma")


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


def test_clusters_widen_intervals_when_runs_err_together():
    law = Chinchilla()
    x, _ = law.example()
    rng = np.random.default_rng(0)
    family = np.repeat(np.arange(7), 7)
    y = law.value(*x, **TRUTH) * np.exp(0.02 * rng.standard_normal(7)[family] + 0.001 * rng.standard_normal(49))
    table = {"params": x[0], "tokens": x[1], "loss": y, "family": [f"f{i}" for i in family]}
    alone = fit(table, objective="least_squares", uncertainty=Uncertainty(draws=100))
    together = fit(table, objective="least_squares", uncertainty=Uncertainty(draws=100, clusters="family"))
    assert np.array_equal(alone.theta, together.theta)
    assert together.freedom < alone.freedom
    for by in ("covariance", "bootstrap"):
        widths = [f.predict({"params": 1e10, "tokens": 1e12}, by=by) for f in (alone, together)]
        assert widths[1].high - widths[1].low > widths[0].high - widths[0].low


def test_next_run_shrinks_the_interval_as_it_says():
    law = Chinchilla()
    x, y = runs()
    before = fit_arrays(law, x, y, Objective("least_squares"), QUICK)
    target = {"params": 7e9, "tokens": 1.4e11}
    offers = before.next_run(1e20, target)
    assert [o.kept for o in offers] == sorted(o.kept for o in offers)
    best = offers[0]
    assert best.flops <= 1e20 * (1 + 1e-9)
    assert best.flops == pytest.approx(6 * best.params * best.tokens)
    with_it = fit_arrays(
        law,
        np.concatenate([x, [[best.params], [best.tokens]]], axis=1),
        np.append(y, float(before.predict({"params": best.params, "tokens": best.tokens}).value)),
        Objective("least_squares"),
        QUICK,
    )
    then, now = (f.predict(target) for f in (with_it, before))
    assert (then.high - then.low) / (now.high - now.low) == pytest.approx(best.kept, rel=0.05)


def test_comparison_finds_the_crossing():
    x, y = runs(0.001)
    # Worse at small budgets, better at large ones.
    y_other = runs(0.001, seed=0, E=1.80, A=600.0, B=2000.0)[1]
    first, second = (fit_arrays(Chinchilla(), x, v, uncertainty=Uncertainty(draws=200)) for v in (y, y_other))
    small, large = (second.compare(first, c, by="bootstrap") for c in (1e18, 1e26))
    assert small.difference.value > 0 > large.difference.value
    assert large.chance_better > 0.95 > 0.05 > small.chance_better
    at = small.crossing.value
    losses = [f.optimum(float(at)).loss.value for f in (first, second)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    # The noise is the same in both, so paired draws know more than independent ones.
    apart = second.compare(first, 1e18)
    assert small.difference.high - small.difference.low < apart.difference.high - apart.difference.low


def test_bootstrap_intervals_need_draws():
    with pytest.raises(ValueError, match="no bootstrap draws"):
        fit_arrays(Chinchilla(), *runs(), uncertainty=QUICK).predict({"params": 1e9, "tokens": 1e10}, by="bootstrap")


def test_a_saved_fit_is_the_same_fit(found: Fit, tmp_path: Path):
    found.save(tmp_path / "fit.json")
    again = load(tmp_path / "fit.json")
    point = {"params": 1e10, "tokens": 1e12}
    for by in ("covariance", "bootstrap"):
        assert np.array_equal(found.predict(point, by=by), again.predict(point, by=by))
    assert again.optimum(1e22) == found.optimum(1e22)
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ValueError, match="not a fit"):
        load(tmp_path / "no.json")


def test_columns_by_other_names_and_laws_by_inputs():
    x, y = runs()
    table = {"N": x[0], "D": x[1], "val_loss": y}
    named = fit(table, "chinchilla", ["N", "D"], "val_loss", uncertainty=QUICK)
    assert np.array_equal(named.theta, fit_arrays(Chinchilla(), x, y, uncertainty=QUICK).theta)
    with pytest.raises(ValueError, match=r"takes 2 inputs \(params, tokens\), not 1"):
        fit(table, "chinchilla", ["N"], "val_loss")
    assert {"chinchilla", "kaplan", "over_training"} <= set(laws_for(["tokens", "params"]))


def test_wrong_inputs_are_named(found: Fit):
    with pytest.raises(ValueError, match="give params, tokens, not params"):
        found.predict({"params": 1e9})
    with pytest.raises(ValueError, match="input tokens: every value must be positive"):
        found.predict({"params": 1e9, "tokens": -1})
