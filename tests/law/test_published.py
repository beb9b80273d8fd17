"""Published constants reproduce every number derived from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from benchmarks.law_published import repeated_runs
from scipy.optimize import minimize_scalar

from isoflop.law.chinchilla import Chinchilla
from isoflop.law.engine import KINDS, Objective
from isoflop.law.equal_hours import steps_in
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.fitted import problem_of
from isoflop.law.float_quantisation import Layout, best_layout, best_mantissa, critical_tokens
from isoflop.law.integer_precision import best_bits
from isoflop.law.iso_flop import Profile, approach_2, parabola_bias, profile
from isoflop.law.multi_power import MultiPower, warm_up
from isoflop.law.over_training import OverTraining
from isoflop.law.published import PUBLISHED, published
from isoflop.law.repeated_data import RepeatedData

QUICK = Uncertainty(draws=0)
Load = Callable[[str], list[dict[str, str]]]


@pytest.mark.parametrize("name", PUBLISHED)
def test_constants_are_those_of_their_law(name: str):
    one = published(name)
    assert len(one.model().theta(**one.values)) == len(one.model().parameters)
    assert one.source
    assert one.units
    assert not one.transplant


def test_unknown_constants():
    with pytest.raises(ValueError, match="unknown constants 'x'; there are hoffmann2022_rounded"):
        published("x")


def test_kaplan():
    assert float(published("kaplan2020_size").value(1e8)) == pytest.approx(2.830, abs=5e-4)
    # At unlimited data the joint law is (N_c/N)^alpha_N with its own N_c.
    assert float(published("kaplan2020_joint").value(1e9, 1e30)) == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-6)


def test_deepseek_exponents_share_the_compute():
    size, tokens = published("deepseek2024_size"), published("deepseek2024_tokens")
    assert size.values["alpha"] + tokens.values["alpha"] == pytest.approx(-1)
    assert float(size.value(1e22) * tokens.value(1e22)) / 1e22 == pytest.approx(1.0001, abs=5e-5)


def test_repeated_data_worked_losses_and_optimum():
    one = published("muennighoff2023")
    assert float(one.value(6.34e9, 242e9, 25e9)) == pytest.approx(2.2256440889984477, rel=1e-8)
    assert float(one.value(8.67e9, 178e9, 25e9)) == pytest.approx(2.2269634075087867, rel=1e-8)
    best = minimize_scalar(
        lambda n: float(one.value(np.exp(n), 1e22 / 6 / np.exp(n), 25e9)), bounds=(20, 25), options={"xatol": 1e-10}
    )
    assert np.exp(best.x) == pytest.approx(7.022e9, rel=2e-3)
    assert 1e22 / 6 / np.exp(best.x) / 25e9 == pytest.approx(9.493, rel=2e-3)
    # Ever more repeats are worth at most 1 + R_D epochs.
    law, c = RepeatedData(), one.values
    limit = float(law.value(1e9, 1e20, 25e9, R_D=c["R_D"], R_N=1e4))
    enough = float(Chinchilla().value(1e9, 25e9 * 16.387756, E=law.E, A=law.A, B=law.B, alpha=law.alpha, beta=law.beta))
    assert limit == pytest.approx(enough, rel=1e-6)


def test_float_layouts_and_critical_data():
    c = published("sun2025").values
    layouts = {3: "E1M1", 4: "E2M1", 5: "E2M2", 6: "E3M2", 8: "E4M3", 10: "E5M4", 16: "E8M7"}
    assert {bits: str(best_layout(bits, c["delta"], c["nu"])) for bits in layouts} == layouts
    for layout, trillions in ((Layout(8, 7), 1730), (Layout(4, 3), 27.3), (Layout(2, 1), 0.39)):
        tokens = float(critical_tokens(1e9, layout, 128, **c))
        assert tokens / 1e12 == pytest.approx(trillions, rel=0.01)
        # There the loss no longer falls with data.
        near = published("sun2025").value(1e9, tokens * np.array([0.99, 1.0, 1.01]), *layout, 128)
        assert near.argmin() == 1
    assert best_mantissa(8, c["delta"], c["nu"]) == pytest.approx(3.345, abs=1e-3)
    assert float(published("sun2025").value(1e9, 1e12, 1, 1, 1)) == pytest.approx(
        69.2343 / 1e9**0.2368 + 68973.0621 / 1e12**0.5162 + 1.9061
    )
    assert np.isinf(critical_tokens(1e9, Layout(2, 1), 1, **c))
    with pytest.raises(ValueError, match="at least 3"):
        best_layout(2, 1.0, 1.0)


def test_best_bits_do_not_depend_on_compute():
    assert best_bits(1.0, 3) == pytest.approx(1.903814, abs=5e-7)
    assert best_bits(1.0, 2) == pytest.approx(1.256431, abs=5e-7)
    assert best_bits(1.0, 1) == 0.0
    assert best_bits(2.6745) == pytest.approx(5.1, abs=0.05)


@pytest.mark.parametrize(("span", "percent"), [(2, 0.327), (4, 1.301), (8, 2.903), (16, 5.100)])
def test_bias_of_parabolas(span: float, percent: float):
    truth = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    assert parabola_bias(1e24, 10.0 ** np.arange(17, 22), span, **truth) == pytest.approx(-percent / 100, abs=5e-6)


def test_approach_2_exponents_are_exact():
    truth = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    profiles: list[Profile] = []
    for c in 10.0 ** np.arange(17, 22):
        centre = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62) * (c / 6) ** (0.28 / 0.62)
        n = centre * np.geomspace(0.25, 4, 15)
        profiles.append(profile(c, n, Chinchilla().value(n, c / 6 / n, **truth)))
    found = approach_2(profiles)
    assert (found.data_exponent, found.size_exponent) == pytest.approx((0.548387, 0.451613), abs=5e-7)


def test_languini_steps():
    cases = [(55416, 6, 128, 18265), (55416, 12, 128, 36529), (55416, 24, 256, 36529), (94781, 6, 80, 49982)]
    assert [steps_in(hours, rate, batch, 512) for rate, hours, batch, _ in cases] == [c[3] for c in cases]
    assert steps_in(12, 36930, 80, 512) == 38950


# On public runs


def test_over_training_predicts_the_large_runs(public: Load):
    rows = [r for r in public("gadre_openlm_runs.csv") if r["dataset"] == "rpj"]
    one = published("gadre2024_rpj")
    for params, ratio, error in ((1.4e9, 640, 0.007103), (6.9e9, 20, 0.007320)):
        wanted = np.log([params, params * ratio])
        run = min(rows, key=lambda r: np.abs(np.log([float(r["params"]), float(r["tokens"])]) - wanted).sum())
        predicted = float(one.value(float(run["params"]), float(run["tokens"])))
        assert abs(predicted / float(run["loss_c4_val"]) - 1) == pytest.approx(error, abs=5e-5)


@pytest.mark.parametrize("size", [25, 100, 400])
def test_multi_power_law_on_its_curves(public: Load, size: int):
    rows = public(f"multipowerlaw_curves_{size}M.csv")
    one = published(f"multipower2025_{size}M")
    names = ["cosine_24000", "constant_24000"]
    for name in names:
        curve = sorted((int(r["step"]), float(r["lr"]), float(r["loss"])) for r in rows if r["curve"] == name)
        step, rate, loss = (np.array(v) for v in zip(*curve, strict=True))
        schedule = warm_up(3e-4, 2160, np.interp(np.arange(2161, step.max() + 1), step, rate))
        some = slice(None, None, 8)
        law = MultiPower((schedule,))
        predicted = law.value(np.ones(len(step[some])), step[some], **one.values)
        assert np.abs(predicted - loss[some]).mean() < 0.008
        # Taking steps together is close; leaving the warm-up out of the sum is not.
        rough = MultiPower((schedule,), stride=40).value(np.ones(len(step[some])), step[some], **one.values)
        assert np.abs(rough - predicted).max() < 1e-3


def test_over_training_refit_of_five_points(public: Load):
    """From all runs below 1e9 parameters to the 6.9e9 one."""
    rows = [r for r in public("gadre_openlm_runs.csv") if r["dataset"] == "rpj"]
    small = [r for r in rows if float(r["params"]) < 1e9]
    x = np.array([[float(r[c]) for r in small] for c in ("params", "tokens")])
    found = fit_arrays(OverTraining(), x, [float(r["loss_c4_val"]) for r in small], uncertainty=QUICK)
    large = [r for r in rows if float(r["params"]) > 6e9]
    there = found.predict(np.array([[float(r[c]) for r in large] for c in ("params", "tokens")]))
    misses = there.value / np.array([float(r["loss_c4_val"]) for r in large]) - 1
    assert np.abs(misses).max() < 0.03


def test_every_start_agrees_on_public_runs(public: Load):
    rows = public("kyo_takano_chinchilla_df.csv")
    x = np.array([[float(r["N"]), float(r["D"])] for r in rows]).T
    y = np.array([float(r["loss"]) for r in rows])
    answers = {kind: fit_arrays(Chinchilla(), x, y, Objective(kind), QUICK) for kind in KINDS}
    assert all(f.agreement == 1.0 for f in answers.values())
    alphas = [f.parameters()[3].value for f in answers.values()]
    assert alphas == pytest.approx([0.34263, 0.34086, 0.35126], abs=2e-5)


def test_porian_exponents(public: Load):
    optima, fits = public("porian_optima.csv"), public("porian_published_fits.csv")
    keys = ("dataset", "hparams", "warmup", "decay", "param_count", "val")
    for kind, tolerance in (("basic", 1e-6), ("weighted", 1e-5)):
        misses: list[float] = []
        for want in (f for f in fits if f["fit"] == kind):
            rows = [r for r in optima if r["n_star"] and all(r[k] == want[k] for k in keys)]
            c, n, spread = (np.array([float(r[v]) for r in rows]) for v in ("flops", "n_star", "n_star_std"))
            profiles = [Profile(float(a), float(b), float(a / 6 / b), 0.0, True) for a, b in zip(c, n, strict=True)]
            weights = None if kind == "basic" else spread**-2.0
            misses.append(approach_2(profiles, weights).size_exponent - float(want["n_exponent"]))
        assert len(misses) == 15
        assert np.abs(misses).max() < tolerance


def test_published_decays_of_repeated_data_are_a_local_optimum_of_their_own_objective(public: Load):
    runs = repeated_runs(public("datablations_c4_runs.csv"))
    assert len(runs) == 182
    x = np.array([[float(r[c]) for r in runs] for c in ("N", "D_total", "U_unique")])
    y = np.array([float(r["val_loss"]) for r in runs])
    found = fit_arrays(RepeatedData(), x, y, uncertainty=QUICK)
    problem = problem_of(found.law, x, y, found.objective)
    theirs = float(problem.value(found.law.theta(R_D=15.387756, R_N=5.309743)[None], np.ones(182))[0])
    assert theirs == pytest.approx(0.0158259, abs=5e-8), "as they print it"
    assert found.agreement == 1
    assert found.minimum < 0.999 * theirs
    assert found.law.reported(found.theta) == pytest.approx([95.4, 1.706], rel=1e-3)
    assert found.profile("R_D").low < 15.4 < found.profile("R_D").high == np.inf
