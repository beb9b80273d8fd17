"""The contract every law keeps: derivative, recovery of its truth, intervals that cover it."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from isoflop.law.engine import Problem, minimise
from isoflop.law.find import law, names
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.fitted import Fit

QUICK = Uncertainty(draws=0)


def schedules() -> tuple[tuple[float, ...], ...]:
    warm = 3e-4 * np.arange(1, 21) / 20
    cosine = 3e-5 + 1.35e-4 * (1 + np.cos(np.linspace(0, np.pi, 180)))
    steps = np.repeat([3e-4, 1e-4, 3e-5], 60)
    return tuple(tuple(float(v) for v in np.concatenate([warm, rest])) for rest in (np.full(180, 3e-4), cosine, steps))


LAWS: dict[str, dict[str, object]] = {name: {} for name in names()}
LAWS["multi_power"] = {"schedules": schedules()}
CASES = [*LAWS.items(), ("sigmoid", {"of": "linear"}), ("broken", {"breaks": 2})]
IDS = [name + "".join(f"-{v}" for v in fields.values() if isinstance(v, int | str)) for name, fields in CASES]


COVERED = [(name, fields) for name, fields in CASES if name != "multi_power" and "breaks" not in fields]


@cache
def exact(name: str, fields: tuple[tuple[str, object], ...]) -> Fit:
    chosen = law(name, **dict(fields))
    x, truth = chosen.example()
    return fit_arrays(chosen, x, chosen.value(*x, **truth), uncertainty=QUICK)


def test_every_issue_law_is_there():
    assert len(names()) >= 20


@pytest.mark.parametrize(("name", "fields"), CASES, ids=IDS)
def test_derivative(name: str, fields: dict[str, object]):
    chosen = law(name, **fields)
    x, truth = chosen.example()
    theta = chosen.theta(**truth)
    _, jac = chosen.model(x, theta[None])
    for i in range(len(theta)):
        step = np.zeros_like(theta)
        step[i] = 1e-5 * max(1.0, abs(theta[i]))
        up, down = (chosen.model(x, (theta + s)[None])[0][0] for s in (step, -step))
        assert jac[0, i] == pytest.approx((up - down) / (2 * step[i]), abs=1e-6 * np.abs(jac[0, i]).max())


@pytest.mark.parametrize(("name", "fields"), CASES, ids=IDS)
def test_truth_is_recovered(name: str, fields: dict[str, object]):
    chosen = law(name, **fields)
    found = exact(name, tuple(fields.items()))
    x, truth = chosen.example()
    if name != "broken":  # breaks may trade places
        assert found.theta == pytest.approx(chosen.theta(**truth), rel=1e-6, abs=1e-6)
    assert found.predict(x).value == pytest.approx(chosen.value(*x, **truth), rel=1e-8)
    assert found.agreement >= 0.25


@pytest.mark.parametrize(("name", "fields"), COVERED, ids=[n + str(f.get("of", "")) for n, f in COVERED])
def test_intervals_cover(name: str, fields: dict[str, object]):
    """90 % intervals in 150 simulated data sets; two thousand, with all intervals, in benchmarks/law_coverage.py."""
    chosen = law(name, **fields)
    x, truth = chosen.example()
    aim, theta, sets = chosen.objective, chosen.theta(**truth), 150
    clean = aim.transform(chosen.value(*x, **truth))
    h = clean + 0.005 * np.random.default_rng(7).standard_normal((sets, len(clean)))
    problem = Problem(lambda t: chosen.model(x, t), h, aim, *chosen.bounds())
    best = minimise(problem, np.repeat(theta[None], sets, axis=0), np.ones(len(clean))).theta
    far = 3 * x.max(axis=1, keepdims=True)
    want = chosen.value(*far, **truth)[0]
    inside = np.zeros(len(truth) + 1)
    for y, at in zip(h, best, strict=True):
        found = Fit(chosen, x, aim.inverse(y), aim, at, np.empty((0, len(at))), 1.0, np.arange(len(y)))
        inside[:-1] += [e.low <= truth[e.name] <= e.high for e in found.parameters(by="covariance")]
        there = found.predict(far)
        inside[-1] += there.low[0] <= want <= there.high[0]
    assert np.abs(inside / sets - 0.9).max() < 4 * math.sqrt(0.09 / sets)


def test_parameters_by_name():
    chosen = law("power")
    with pytest.raises(ValueError, match="has the parameters A, alpha, not A"):
        chosen.theta(A=1.0)
    assert chosen.reported(chosen.theta(A=2.0, alpha=0.5)) == pytest.approx([2.0, 0.5])


def test_values_keep_the_shape_of_the_inputs():
    assert law("chinchilla").value([[1e8], [1e9]], [1e9, 1e10], E=1.0, A=1.0, B=1.0, alpha=0.3, beta=0.3).shape == (
        2,
        2,
    )
