"""What a fitted law can say, each figure with its interval."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, stdtrit

from isoflop.law.base import Interval, Law
from isoflop.law.columns import BadData
from isoflop.law.engine import Floats, Objective, Problem, minimise
from isoflop.law.find import law as law_named
from isoflop.law.sandwich import Spread, spread

By: TypeAlias = Literal["covariance", "bootstrap"]
"""What an interval rests on. `covariance` takes errors to be alike and, for predictions, holds as often as it says in
simulation; `bootstrap` also holds where noise differs between runs. Parameters have a third, `profile`, which holds
where the law is so curved that covariance misleads, and is therefore theirs unless another is asked for."""

_DRAWS = 2000  # of theta from its covariance


class Prediction(NamedTuple):
    """What a law expects, with its interval.

    Args:
        value: expected output.
        low: lower end.
        high: upper end.
        beyond: how far outside the fitted data, in decades of the input that is furthest out; 0 inside.
    """

    value: Floats
    low: Floats
    high: Floats
    beyond: Floats


class Estimate(NamedTuple):
    """One parameter. `value` is None where the runs cannot tell it, and `note` says why."""

    name: str
    value: float | None
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True)
class Fit:
    """A law fitted to runs.

    Args:
        law: the law.
        x: inputs in the law's order (K, M).
        y: measured output (M).
        objective: what was minimised.
        theta: best parameters, as the solver moves them (P).
        draws: bootstrap refits (R, P).
        agreement: share of the starts that reached the best objective to a relative 1e-9.
        cluster: index of each run's cluster (M).
        counted: which count of parameters the inputs use (with or without embeddings), in words; "" if nobody said.
    """

    law: Law
    x: Floats
    y: Floats
    objective: Objective
    theta: Floats
    draws: Floats
    agreement: float
    cluster: NDArray[np.intp]
    counted: str = ""

    # What the fit is

    @cached_property
    def at_best(self) -> tuple[Floats, Floats]:
        """Residuals (M) and their derivative (P, M) at the best parameters."""
        r, jac = problem_of(self.law, self.x, self.y, self.objective).residuals(self.theta[None], np.arange(1))
        return r[0], jac[0]

    @property
    def residuals(self) -> Floats:
        """h(predicted) - h(measured) of each run (M)."""
        return self.at_best[0]

    @cached_property
    def minimum(self) -> float:
        """The objective at the best parameters."""
        return float(self.objective.rho(self.residuals).sum())

    @cached_property
    def spread(self) -> Spread:
        """How far the parameters may be off, and what that rests on."""
        return spread(*self.at_best, self._free, self.cluster, self.objective)

    @property
    def covariance(self) -> Floats:
        """Of theta, in the solver's parameters and unrounded (P, P): the sandwich, by clusters where there are any."""
        return self.spread.covariance

    @cached_property
    def _free(self) -> NDArray[np.bool_]:
        low, high = self.law.bounds()
        return (self.theta > low) & (self.theta < high)

    @cached_property
    def condition(self) -> float:
        """Condition number of the derivative with its columns scaled to length one; above 1e6 little is separable."""
        jac = self.at_best[1][self._free]
        length = np.linalg.norm(jac, axis=1, keepdims=True)
        return float(np.linalg.cond(jac / np.where(length > 0, length, 1.0)))

    @cached_property
    def lack_of_fit(self) -> float:
        """p-value of the law against itself plus a quadratic in the logarithms of its inputs (F test); NaN if too few
        runs.

        Small values say that residuals follow the inputs: the law is not the shape of the data.
        """
        r, jac = self.at_best
        logs = [np.log(v) - np.log(v).mean() for v in self.x if np.all(v > 0) and np.ptp(v) > 0]
        logs = [v / v.std() for v in logs]
        extra = [a * b for i, a in enumerate(logs) for b in logs[i:]]
        base = np.stack([*jac[self._free], np.ones_like(r)], axis=1)
        base = base / np.maximum(np.linalg.norm(base, axis=0), 1e-300)
        left = len(r) - base.shape[1] - len(extra)
        if not extra or left < 3:
            return float("nan")
        full = np.concatenate([base, np.stack(extra, axis=1)], axis=1)
        before, after = (float(np.sum((r - m @ np.linalg.lstsq(m, r, rcond=1e-10)[0]) ** 2)) for m in (base, full))
        if after <= 0:
            return float("nan")
        statistic = max(before - after, 0.0) / len(extra) / (after / left)
        return cast("float", betainc(0.5 * left, 0.5 * len(extra), left / (left + len(extra) * statistic)))

    def information(self, kind: Literal["aicc", "bic"]) -> float:
        """AICc or BIC: Gaussian likelihood for least squares, Laplace's for Huber and least absolute deviations."""
        runs, free = len(self.y), len(self.theta) + 1
        r = self.residuals
        if self.objective.kind == "least_squares":
            twice = runs * np.log(np.mean(r * r) + 1e-300)
        else:
            twice = 2 * runs * np.log(np.mean(np.abs(r)) + 1e-300)
        # Compared between laws, so on the scale of y itself: the Jacobian of h.
        twice -= 2 * np.log(np.abs(self.objective.slope(self.y))).sum()
        if kind == "bic":
            return float(twice + free * np.log(runs))
        return float(twice + 2 * free + 2 * free * (free + 1) / max(runs - free - 1, 1e-9))

    def parameters(self, level: float = 0.9, by: By | Literal["profile"] = "profile") -> list[Estimate]:
        """The parameters as the literature writes them, with intervals; what the runs cannot separate is refused.

        Cost: some hundred fits a parameter by profile, 0.1 s of CPU in all for a small law; nothing by covariance.

        Args:
            level: how often an interval should hold the truth (fraction).
            by: what the intervals rest on.
        """
        out: list[Estimate] = []
        half = self._half(np.diag(self.covariance), level)
        for i, parameter in enumerate(self.law.parameters):
            note = self._why_refused(i, float(half[i]))
            if by == "profile":
                _, low, high = self.profile(parameter.name, level)
            else:
                ends = (
                    (self.theta[i] - half[i], self.theta[i] + half[i])
                    if by == "covariance"
                    else self.ends(self.draws_of(by)[:, i], self.theta[i], level)
                )
                low, high = (parameter.outward(np.clip(v, *(b[i] for b in self.law.bounds()))) for v in ends)
            value = None if note else float(parameter.outward(self.theta[i]))
            out.append(Estimate(parameter.name, value, float(low), float(high), note))
        return out

    def _half(self, variance: Floats, level: float) -> Floats:
        """Half the width of an interval by Student's t."""
        return _t(level, self.spread.freedom) * np.sqrt(np.maximum(variance, 0.0))

    def _why_refused(self, i: int, half: float) -> str:
        parameter = self.law.parameters[i]
        if not self._free[i]:
            # A floor of zero is a finding; an exponent or a factor at its bound is a term that is not there.
            return "" if parameter.low == 0 == self.theta[i] else "at its bound: this design does not show it"
        if parameter.log and half > np.log(100):
            return f"unknown within a factor of {np.exp(min(half, 50)):.0e}"
        if parameter.starts and not parameter.log and half > abs(self.theta[i]):
            return f"the interval is wider than the value ({self.theta[i]:.2g} +- {half:.2g})"
        if self.condition > 1e7 and self._nearly_null[i] > 0.1:
            return f"not separable in this design (condition number {self.condition:.1e})"
        return ""

    @cached_property
    def _nearly_null(self) -> Floats:
        jac = self.at_best[1][self._free]
        length = np.linalg.norm(jac, axis=1, keepdims=True)
        weakest = np.zeros(len(self.theta))
        vectors, size, _ = np.linalg.svd(jac / np.where(length > 0, length, 1.0), full_matrices=False)
        # Two terms that a design does not show leave two such directions.
        weak = (size <= 1e-7 * size[0]) | (size == size[-1])
        weakest[self._free] = np.linalg.norm(vectors[:, weak], axis=1)
        return weakest

    def warnings(self) -> list[str]:
        """What a reader of this fit must know."""
        found = [f"{e.name}: {e.note}" for e in self.parameters(by="covariance") if e.note]
        if self.agreement < 0.5:
            found.append(f"only {self.agreement:.0%} of the starts reached this optimum")
        if self.condition > 1e6:
            found.append(f"condition number {self.condition:.1e}: some parameters trade off against each other")
        if self.lack_of_fit < 0.01:
            found.append(f"lack of fit (p = {self.lack_of_fit:.1e}): residuals follow the inputs")
        if (freedom := self.spread.freedom) < 5:
            found.append(f"{freedom} degrees of freedom: intervals rest on few runs")
        if "params" in self.law.inputs and not self.counted:
            found.append("which parameters were counted is not said; with and without embeddings give other exponents")
        return found

    # What the fit says

    def draws_of(self, by: By = "covariance") -> Floats:
        """Draws of theta (R, P) inside the bounds, spread as the intervals are.

        Raises:
            ValueError: a bootstrap that was not made.
        """
        if by == "covariance":
            return self._student_draws
        if not len(self.draws):
            raise ValueError("this fit has no bootstrap draws: fit again with Uncertainty(draws=1000)")
        # Each refit is pulled to its runs as the fit was, so they spread too little.
        moves = self.draws - self.theta
        if self.objective.kind == "least_squares":
            wide = _student(self.spread.freedom, len(moves))[:, None]
            moves = wide * _of_size(moves, self.spread.uneven, self._free)
        else:
            # Few runs lie where these losses are curved, fewer where noise is large: only the refits' own size knows.
            moves = self.spread.inflation * moves
        return np.clip(self.theta + moves, *self.law.bounds())

    @cached_property
    def _student_draws(self) -> Floats:
        rng = np.random.default_rng(0)
        value, vector = np.linalg.eigh(self.covariance)
        half = rng.standard_normal((_DRAWS // 2, len(value)))
        # Both signs of each, and a covariance of exactly one: half the noise of plain draws in what is nearly linear.
        white = np.linalg.solve(np.linalg.cholesky(half.T @ half / len(half)), half.T).T
        normal = rng.permutation(np.concatenate([white, -white])) * _student(self.spread.freedom, _DRAWS)[:, None]
        return np.clip(self.theta + normal @ (vector * np.sqrt(np.maximum(value, 0.0))).T, *self.law.bounds())

    def ends(self, draws: Floats, value: Floats, level: float) -> tuple[Floats, Floats]:
        """Ends of an interval around `value` from what draws of theta gave (R, ...); NaN where none gave anything."""
        none = np.isnan(draws).all(axis=0)
        low, high = np.nanpercentile(np.where(none, 0.0, draws), [50 * (1 - level), 50 * (1 + level)], axis=0)
        low, high = np.where(none, np.nan, low), np.where(none, np.nan, high)
        return np.minimum(low, value), np.maximum(high, value)

    def outputs(self, x: Floats, by: By = "covariance") -> Floats:
        """The law at x (K, M) for each draw (R, M)."""
        return self.at(x, self.draws_of(by))

    def at(self, x: Floats, theta: Floats) -> Floats:
        """The law at x (K, M) or (K, S, M) for each theta (S, M)."""
        with np.errstate(all="ignore"):
            return self.law.model(x, theta)[0]

    def inputs(self, inputs: Mapping[str, ArrayLike] | ArrayLike) -> tuple[Floats, tuple[int, ...]]:
        """Inputs as (K, M) in the law's order, and the shape they came in.

        Raises:
            ValueError: an input is missing or unknown, or not positive.
        """
        if isinstance(inputs, Mapping):
            by_name = inputs
            if set(by_name) != set(self.law.inputs):
                raise ValueError(f"give {', '.join(self.law.inputs)}, not {', '.join(by_name)}")
            parts = np.broadcast_arrays(*(np.asarray(by_name[name], float) for name in self.law.inputs))
            shape = parts[0].shape
            x = np.stack([p.ravel() for p in parts])
        else:
            x = np.asarray(inputs, float)
            shape = x.shape[1:] if len(self.law.inputs) > 1 or x.ndim == 2 else x.shape
            x = x.reshape(len(self.law.inputs), -1)
        for name, values in zip(self.law.inputs, x):
            if not np.all(values >= 0 if name in self.law.may_be_zero else values > 0):
                raise ValueError(f"input {name}: every value must be positive")
        return x, shape

    def predict(
        self,
        inputs: Mapping[str, ArrayLike] | ArrayLike,
        level: float = 0.9,
        of: Literal["mean", "run"] = "mean",
        by: By = "covariance",
    ) -> Prediction:
        """The expected output at inputs, given by name or as an array (K, M) in the law's order.

        Args:
            inputs: where.
            level: how often the interval should hold the truth (fraction).
            of: `mean`, the law's own value; `run`, one more run with its noise, so wider.
            by: what the interval rests on.
        """
        x, shape = self.inputs(inputs)
        with np.errstate(all="ignore"):
            value, jac = (v[0] for v in self.law.model(x, self.theta[None]))
            centre = self.objective.transform(value)
            if of == "mean" and by == "covariance":
                gradient = jac * self.objective.slope(value)
                half = self._half(np.einsum("pm,pq,qm->m", gradient, self.covariance, gradient), level)
                ends = centre - half, centre + half
            else:
                h = self.objective.transform(self.outputs(x, by))
                if of == "run":
                    errors = self.residuals / np.sqrt(1.0 - self.spread.leverage)
                    wide = _student(self.spread.freedom, len(h)).reshape(-1, *[1] * (h.ndim - 1))
                    h = h - wide * np.random.default_rng(1).choice(errors, h.shape)
                ends = self.ends(h, centre, level)
            ends = [self.objective.inverse(end) for end in ends]
        low, high = np.minimum(*ends), np.maximum(*ends)
        return Prediction(*(v.reshape(shape) for v in (value, low, high, self.beyond(x))))

    def beyond(self, x: Floats) -> Floats:
        """Decades outside the fitted range, of the input that is furthest out (M)."""
        shift = np.array([[0.5 * (name in self.law.may_be_zero)] for name in self.law.inputs])
        data, asked = (np.log10(v + shift) for v in (self.x, x))
        over, under = asked - data.max(axis=1, keepdims=True), data.min(axis=1, keepdims=True) - asked
        return np.maximum(np.maximum(over, under).max(axis=0), 0.0)

    def invert(self, y: float, level: float = 0.9, by: By = "covariance", **others: float) -> Interval:
        """The input that gives output `y`; of a law with several inputs, the one that is not among `others`.

        NaN where no value of it, within a factor 1e12 of the data, gives y.

        Raises:
            ValueError: not exactly one input is left open.
        """
        open_inputs = [name for name in self.law.inputs if name not in others]
        if len(open_inputs) != 1 or set(others) - set(self.law.inputs):
            raise ValueError(f"give all of {', '.join(self.law.inputs)} but one; got {', '.join(others) or 'none'}")
        at = self.law.inputs.index(open_inputs[0])
        log_range = np.log([self.x[at].min() * 1e-12, self.x[at].max() * 1e12])
        thetas = np.concatenate([self.theta[None], self.draws_of(by)])

        def surplus(log_x: Floats, theta: Floats) -> Floats:
            x = np.stack([np.broadcast_to(others.get(name, 1.0), log_x.shape) for name in self.law.inputs])
            x[at] = np.exp(log_x)
            return self.at(x, theta) - y

        found = np.exp(_root(surplus, thetas, (float(log_range[0]), float(log_range[1]))))
        with np.errstate(all="ignore"):
            low, high = self.ends(np.log(found[1:]), np.log(found[0]), level)
        return Interval(found[0], np.exp(low), np.exp(high))

    def allowed(self, level: float = 0.9) -> Floats:
        """How far above its least the objective may be inside each parameter's profile-likelihood interval (P).

        So far that, were the law straight in its parameters, the interval would be that by covariance.
        """
        return 0.5 * self.spread.noises * self.spread.slope * _t(level, self.spread.freedom) ** 2

    def profile(self, name: str, level: float = 0.9) -> Interval:
        """Profile-likelihood interval of a parameter: how far it can move while the others make up for it.

        An end is infinite where even the parameter's bound is not refuted.

        Raises:
            ValueError: no such parameter.
        """
        order = [p.name for p in self.law.parameters]
        if name not in order:
            raise ValueError(f"unknown parameter {name!r}; there are {', '.join(order)}")
        i = order.index(name)
        allowed = float(self.allowed(level)[i])
        problem = problem_of(self.law, self.x, self.y, self.objective)
        step = float(np.sqrt(self.covariance[i, i])) or 0.1 * max(abs(float(self.theta[i])), 1.0)
        limits = (float(problem.low[i]), float(problem.high[i]))
        fixed = np.arange(len(order)) == i
        ends: list[float] = []
        for sign, limit in ((-1, limits[0]), (1, limits[1])):
            inside, outside = 0.0, np.inf
            reach = sign * (limit - float(self.theta[i]))
            width = min(4 * step, reach)
            for _ in range(8):
                # A ladder of values at once, then a finer one between the last inside and the first outside.
                ladder = inside + (width if np.isinf(outside) else outside - inside) * np.arange(1, 17) / 16
                theta = np.repeat(self.theta[None], len(ladder), axis=0)
                theta[:, i] = np.clip(self.theta[i] + sign * ladder, *limits)
                excess = minimise(problem, theta, np.ones(len(self.y)), fixed).objective - self.minimum - allowed
                over = np.flatnonzero(excess > 0)
                if len(over):
                    first = int(over[0])
                    outside = float(ladder[first])
                    inside = float(ladder[first - 1]) if first else inside
                    if outside - inside < 1e-4 * step:
                        break
                elif ladder[-1] >= reach * (1 - 1e-12):
                    break
                else:
                    inside = float(ladder[-1])
                    width = min(width * 8, reach - inside)
            ends.append(sign * np.inf if np.isinf(outside) else float(self.theta[i]) + sign * 0.5 * (inside + outside))
        parameter = self.law.parameters[i]
        value, low, high = (parameter.outward(np.array(v)) for v in (self.theta[i], *ends))
        return Interval(value, low, high)

    # Keeping it

    def save(self, path: str | Path) -> None:
        """Write the fit as JSON; nothing is rounded."""
        Path(path).write_text(json.dumps(self.as_json()), encoding="utf-8")

    def as_json(self) -> dict[str, object]:
        """The fit as plain values."""
        return {
            "isoflop_fit": 1,
            "law": self.law.slug,
            "fields": asdict(cast("Any", self.law)),
            "objective": asdict(self.objective),
            "agreement": self.agreement,
            "counted": self.counted,
            **{name: getattr(self, name).tolist() for name in ("x", "y", "theta", "draws", "cluster")},
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Fit:
        """The fit that `as_json` wrote.

        Raises:
            ValueError: the values are not those of a fit.
        """
        if values.get("isoflop_fit") != 1:
            raise ValueError("not a fit written by this version of isoflop (no isoflop_fit: 1)")
        law = law_named(values["law"], **values["fields"])
        theta = np.array(values["theta"], float)
        return Fit(
            law,
            np.array(values["x"], float),
            np.array(values["y"], float),
            Objective(**values["objective"]),
            theta,
            np.array(values["draws"], float).reshape(-1, len(theta)),
            float(values["agreement"]),
            np.array(values["cluster"], np.intp),
            str(values["counted"]),
        )


def load(path: str | Path) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Raises:
        ValueError: the file is not a fit.
        OSError: it cannot be opened.
    """
    try:
        values: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        return Fit.from_json(values)
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a fit: {error}") from error


def problem_of(law: Law, x: Floats, y: Floats, objective: Objective) -> Problem:
    """What is minimised when a law is fitted to runs.

    Raises:
        BadData: an output without a residual on the objective's scale.
    """
    with np.errstate(all="ignore"):
        target = objective.transform(y)
    if not np.all(np.isfinite(target)):
        bad = int(np.argmin(np.isfinite(target)))
        raise BadData(f"row {bad + 1}: the output {y[bad]:g} has no {objective.scale} residual; use scale='linear'")
    low, high = law.bounds()
    return Problem(lambda theta: law.model(x, theta), target, objective, low, high)


def _root(surplus: Callable[[Floats, Floats], Floats], thetas: Floats, limits: tuple[float, float]) -> Floats:
    """Where surplus(log_x (S, 1), theta) is zero, by bisection for each theta; NaN where its sign does not change."""
    low, high = (np.full((len(thetas), 1), end) for end in limits)
    at_low, at_high = surplus(low, thetas), surplus(high, thetas)
    crosses = np.sign(at_low) * np.sign(at_high) < 0
    for _ in range(80):
        middle = 0.5 * (low + high)
        same = np.sign(surplus(middle, thetas)) == np.sign(at_low)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.where(crosses, 0.5 * (low + high), np.nan)[:, 0]


def _of_size(moves: Floats, covariance: Floats, free: NDArray[np.bool_]) -> Floats:
    """Moves (R, P) with the covariance given (P, P), by the symmetric map of those that are whitened: in no units."""
    if not moves[:, free].any():
        return moves
    unit = np.sqrt(np.mean(moves[:, free] ** 2, axis=0))
    unit = np.where(unit > 0, unit, 1.0)
    own = moves[:, free] / unit
    size, axes = np.linalg.eigh(own.T @ own / len(own))
    root = np.sqrt(np.maximum(size, 1e-12 * size[-1]))
    wanted = axes.T @ (covariance[np.ix_(free, free)] / np.outer(unit, unit)) @ axes / np.outer(root, root)
    stretch, turns = np.linalg.eigh(wanted)
    by = (turns * np.sqrt(np.maximum(stretch, 0.0))) @ turns.T
    out = moves.copy()
    out[:, free] = unit * ((own @ axes / root) @ by * root @ axes.T)
    return out


def _student(freedom: int, count: int) -> Floats:
    """Factors that turn normal draws into Student's t."""
    return np.sqrt(freedom / np.random.default_rng(2).chisquare(freedom, count))


def _t(level: float, freedom: int) -> float:
    quantile: Any = stdtrit
    return float(quantile(freedom, 0.5 + level / 2))
