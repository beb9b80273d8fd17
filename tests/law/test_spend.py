"""What compute buys by a fit: the best split, the next run, the better of two designs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.law.simulated import QUICK, TRUTH, runs

from isoflop.law.chinchilla import Chinchilla
from isoflop.law.engine import Objective
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.fitted import Fit
from isoflop.law.spend import compare, next_run, optimum


def test_optimum_is_the_closed_form():
    exact = replace(fit_arrays(Chinchilla(), *runs(0.0), uncertainty=QUICK), theta=Chinchilla().theta(**TRUTH))
    best = optimum(exact, 5.76e23)
    # Hoffmann's closed form with Muennighoff's constants.
    assert best.params.value == pytest.approx(69_962_173_313.5, rel=1e-5)
    assert best.tokens.value == pytest.approx(1_372_170_066_384.2, rel=1e-5)
    assert not best.edge


def test_inference_makes_the_best_model_smaller(found: Fit):
    alone, used = optimum(found, 1e21), optimum(found, 1e21, uses=1e11)
    assert used.params.value < alone.params.value
    spent = 6 * used.params.value * used.tokens.value + 2 * used.params.value * 1e11
    assert spent == pytest.approx(1e21, rel=1e-6)


def test_next_run_shrinks_the_interval_as_it_says():
    law = Chinchilla()
    x, y = runs()
    before = fit_arrays(law, x, y, Objective("least_squares"), QUICK)
    target = {"params": 7e9, "tokens": 1.4e11}
    offers = next_run(before, 1e20, target)
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
    small, large = (compare(second, first, c, by="bootstrap") for c in (1e18, 1e26))
    assert small.difference.value > 0 > large.difference.value
    assert large.chance_better > 0.95 > 0.05 > small.chance_better
    at = small.crossing.value
    losses = [optimum(f, float(at)).loss.value for f in (first, second)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    # The noise is the same in both, so paired draws know more than independent ones.
    apart = compare(second, first, 1e18)
    assert small.difference.high - small.difference.low < apart.difference.high - apart.difference.low
