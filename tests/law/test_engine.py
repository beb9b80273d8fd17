"""The solver: objectives by name, optima checked against SciPy, projection against NNLS."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize, nnls

from isoflop.law.chinchilla import Chinchilla
from isoflop.law.engine import KINDS, Objective, Problem, minimise, project
from isoflop.law.log_linear import LogLinear


def scattered(seed: int = 0, outliers: int = 4) -> tuple[np.ndarray, np.ndarray]:
    law = Chinchilla()
    x, truth = law.example()
    rng = np.random.default_rng(seed)
    y = law.value(*x, **truth) * np.exp(0.01 * rng.standard_normal(x.shape[1]))
    y[rng.choice(len(y), outliers, replace=False)] *= 1.1
    return x, y


def solved(objective: Objective, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, Problem]:
    law = Chinchilla()
    problem = Problem(lambda theta: law.model(x, theta), objective.transform(y), objective, *law.bounds())
    ones = np.ones(len(y))
    found = minimise(problem, law.starts(x, y, ones), ones)
    best = int(np.argmin(found.objective))
    if objective.kind != "lad" and objective.delta >= 1e-3:
        assert np.all(found.objective <= found.objective[best] * (1 + 1e-9)), "every start reaches the optimum"
    return found.theta[best], float(found.objective[best]), problem


@pytest.mark.parametrize("scale", ["log", "linear"])
@pytest.mark.parametrize("kind", ["huber", "lad", "least_squares"])
def test_nothing_lower_is_found_by_scipy(kind: str, scale: str):
    x, y = scattered()
    objective = Objective(kind, scale=scale)  # pyright: ignore[reportArgumentType]
    theta, best, problem = solved(objective, x, y)
    rng = np.random.default_rng(1)
    for _ in range(5):
        start = theta + 0.02 * rng.standard_normal(5) * np.maximum(np.abs(theta), 0.1)
        other = minimize(
            lambda t: float(problem.value(t[None], np.ones(len(y)))[0]),
            start,
            method="Nelder-Mead",
            options={"maxiter": 4000, "maxfev": 4000, "xatol": 1e-10, "fatol": 1e-14},
        )
        assert other.fun >= best * (1 - 1e-9)


def test_the_objectives_give_different_answers_on_the_same_points():
    x, y = scattered()
    alphas = [solved(Objective(kind), x, y)[0][3] for kind in KINDS]
    assert len({round(a, 3) for a in alphas}) == 3


def test_a_wide_huber_is_least_squares_and_a_narrow_one_absolute_deviations():
    x, y = scattered()
    wide, square = solved(Objective("huber", 1e3), x, y), solved(Objective("least_squares"), x, y)
    assert wide[0] == pytest.approx(square[0], rel=1e-6)
    narrow, absolute = solved(Objective("huber", 1e-8), x, y), solved(Objective("lad"), x, y)
    assert narrow[1] / 1e-8 == pytest.approx(absolute[1], rel=1e-4)


def test_absolute_deviations_of_a_line_are_those_of_linear_programming():
    rng = np.random.default_rng(3)
    law, weights = LogLinear(), rng.uniform(0.2, 2.0, 30)
    x = np.geomspace(1, 1e6, 30)[None]
    y = 0.2 + 0.04 * np.log(x[0]) + 0.1 * rng.standard_t(1.5, 30)
    objective = Objective("lad", scale="linear")
    problem = Problem(lambda theta: law.model(x, theta), y, objective, *law.bounds())
    found = minimise(problem, law.starts(x, y, np.ones(30)), weights)
    basis = np.stack([np.ones(30), np.log(x[0])], axis=1)
    eye = np.eye(30)
    exact = linprog(
        np.concatenate([np.zeros(2), weights, weights]),
        A_eq=np.concatenate([basis, eye, -eye], axis=1),
        b_eq=y,
        bounds=[(None, None)] * 2 + [(0, None)] * 60,
    )
    assert found.objective[0] == pytest.approx(exact.fun, rel=1e-10)


def test_problems_are_solved_apart():
    """A batch of data sets and weights gives what each gives alone."""
    law = Chinchilla()
    x, first = scattered(0)
    second = scattered(1)[1]
    objective = Objective()
    weights = np.random.default_rng(0).exponential(size=(2, len(first)))
    start = law.theta(E=1.7, A=400, B=1500, alpha=0.33, beta=0.35)
    alone = [
        minimise(
            Problem(lambda t: law.model(x, t), objective.transform(y), objective, *law.bounds()), start[None], w
        ).theta[0]
        for y, w in zip((first, second), weights)
    ]
    both = Problem(
        lambda t: law.model(x, t), np.stack([objective.transform(y) for y in (first, second)]), objective, *law.bounds()
    )
    assert minimise(both, np.stack([start, start]), weights).theta == pytest.approx(np.stack(alone), rel=1e-5)


def test_a_fixed_parameter_stays_and_bounds_hold():
    x, y = scattered()
    law = Chinchilla()
    problem = Problem(lambda t: law.model(x, t), np.log(y), Objective(), *law.bounds())
    start = law.theta(E=1.0, A=400, B=1500, alpha=0.33, beta=0.35)
    held = minimise(problem, start[None], np.ones(len(y)), np.arange(5) == 0)
    assert held.theta[0, 0] == 1.0
    flat = 5e3 * x[0] ** -0.3  # falls to nothing: no floor, no data term
    none = minimise(
        Problem(problem.model, np.log(flat), Objective("least_squares"), *law.bounds()), start[None], np.ones(49)
    )
    assert none.theta[0, 0] >= 0.0
    assert none.objective[0] < 1e-6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_projection_is_non_negative_least_squares(seed: int):
    rng = np.random.default_rng(seed)
    basis, target, weights = rng.standard_normal((3, 12)), rng.standard_normal(12), rng.uniform(0.1, 2, 12)
    root = np.sqrt(weights)
    exact, _ = nnls((basis * root).T, target * root)
    assert project(basis[None], target, weights, np.ones(3, bool))[0] == pytest.approx(exact, abs=1e-8)
    free = np.linalg.lstsq((basis * root).T, target * root)[0]
    assert project(basis[None], target, weights, np.zeros(3, bool))[0] == pytest.approx(free, abs=1e-8)


def test_objective_says_what_is_wrong():
    with pytest.raises(ValueError, match="unknown objective 'mse'; use one of huber, lad, least_squares"):
        Objective("mse")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="delta"):
        Objective(delta=0.0)
    assert str(Objective()) == "huber delta=0.001 on log residuals"
