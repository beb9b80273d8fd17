"""Fitting a law to runs, and what the fit can then say, each figure with its interval."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, ndtr, stdtrit

from isoflop.law.base import Interval, Law
from isoflop.law.columns import BadData, Table, as_columns, check_design, numbers
from isoflop.law.engine import Floats, Objective, Problem, minimise
from isoflop.law.find import law as law_named
from isoflop.law.find import law_class, names

By: TypeAlias = Literal["covariance", "bootstrap"]
"""What an interval rests on. `covariance` takes errors to be alike and has the level it says in simulation; `bootstrap`
also holds where noise differs between runs, and is a little too wide for the Huber loss with a small delta."""

AGREE = 1e-9
"""Starts agree when their objectives do to this share."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What intervals are to rest on.

    Args:
        draws: bootstrap refits (count); 0 leaves the covariance and the profile likelihood.
        clusters: column whose equal values mark runs that err together (a model family, a sweep); None: each run alone.
        seed: of the bootstrap weights; fits with the same seed and rows have paired draws.
    """

    draws: int = 1000
    clusters: str | None = None
    seed: int = 0


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


class Optimum(NamedTuple):
    """The best split of a compute budget.

    Args:
        params: model size (count).
        tokens: training tokens (count).
        loss: expected there.
        edge: whether the best split lies at the end of the range that was searched.
    """

    params: Interval
    tokens: Interval
    loss: Interval
    edge: bool


class Candidate(NamedTuple):
    """A run that could be bought.

    Args:
        params: its size (count).
        tokens: its training tokens (count).
        flops: its cost, 6 N D (FLOP).
        kept: the interval's width after it, as a share of the width now.
    """

    params: float
    tokens: float
    flops: float
    kept: float


class Comparison(NamedTuple):
    """Two laws at the same compute.

    Args:
        difference: loss of the first less that of the second; below zero the first is better.
        chance_better: share of draws in which the first has the lower loss.
        crossing: budget at which the two are equal, within six decades of the one asked for (FLOP); NaN if none.
    """

    difference: Interval
    chance_better: float
    crossing: Interval


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
    def _at_best(self) -> tuple[Floats, Floats]:
        r, jac = _problem(self.law, self.x, self.y, self.objective).residuals(self.theta[None], np.arange(1))
        return r[0], jac[0]

    @property
    def residuals(self) -> Floats:
        """h(predicted) - h(measured) of each run (M)."""
        return self._at_best[0]

    @cached_property
    def minimum(self) -> float:
        """The objective at the best parameters."""
        return float(self.objective.rho(self.residuals).sum())

    @cached_property
    def freedom(self) -> int:
        """Independent observations left after fitting: clusters, less the parameters that are not at a bound."""
        return max(len(np.unique(self.cluster)) - int(self._free.sum()), 1)

    @cached_property
    def _free(self) -> NDArray[np.bool_]:
        low, high = self.law.bounds()
        return (self.theta > low) & (self.theta < high)

    @cached_property
    def condition(self) -> float:
        """Condition number of the derivative with its columns scaled to length one; above 1e6 little is separable."""
        jac = self._at_best[1][self._free]
        length = np.linalg.norm(jac, axis=1, keepdims=True)
        return float(np.linalg.cond(jac / np.where(length > 0, length, 1.0)))

    @cached_property
    def _score(self) -> tuple[Floats, float]:
        """psi of each residual, and the mean slope of psi, smoothed over neighbours as few may lie inside delta."""
        r = self.residuals
        if self.objective.kind == "least_squares":
            return r, 1.0
        if self.objective.kind == "lad":
            delta, psi = 1e-12, np.sign(r)
        else:
            delta = self.objective.delta
            psi = np.clip(r, -delta, delta)
        spread = np.std(r) if np.std(r) > 0 else 1e-300
        width = (
            1.06 * min(float(spread), float(np.subtract(*np.percentile(r, [75, 25]))) / 1.34 + 1e-300) * len(r) ** -0.2
        )
        inside = cast("Floats", ndtr((delta - r) / width) - ndtr((-delta - r) / width))
        slope = float(inside.mean())
        return psi, slope / delta if self.objective.kind == "lad" else slope

    @cached_property
    def covariance(self) -> Floats:
        """Of theta, in the solver's parameters and unrounded (P, P): the sandwich, by clusters where there are any."""
        _, jac = self._at_best
        psi, slope = self._score
        runs = len(self.y)
        bread = np.linalg.pinv(_scaled_gram(jac[self._free])[0], hermitian=True)
        scale = _scaled_gram(jac[self._free])[1]
        groups = len(np.unique(self.cluster))
        if groups == runs:
            inner = bread * float((psi * psi).mean()) / slope**2
        else:
            score = np.zeros((groups, int(self._free.sum())))
            np.add.at(score, self.cluster, (jac[self._free] * psi).T / scale)
            inner = bread @ (score.T @ score) @ bread / slope**2
        inner = inner * groups / self.freedom
        out = np.zeros((len(self.theta), len(self.theta)))
        out[np.ix_(self._free, self._free)] = inner / np.outer(scale, scale)
        return out

    @cached_property
    def lack_of_fit(self) -> float:
        """p-value of the law against itself plus a quadratic in the logarithms of its inputs (F test); NaN if too few
        runs.

        Small values say that residuals follow the inputs: the law is not the shape of the data.
        """
        r, jac = self._at_best
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

    def parameters(self, level: float = 0.9, by: By | Literal["profile"] = "covariance") -> list[Estimate]:
        """The parameters as the literature writes them, with intervals; what the runs cannot separate is refused."""
        out: list[Estimate] = []
        half = _t(level, self.freedom) * np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        for i, parameter in enumerate(self.law.parameters):
            note = self._why_refused(i, float(half[i]))
            if by == "profile":
                _, low, high = self.profile(parameter.name, level)
            else:
                ends = self.ends(self.draws_of(by)[:, i], self.theta[i], level)
                low, high = (parameter.outward(np.clip(v, *(b[i] for b in self.law.bounds()))) for v in ends)
            value = None if note else float(parameter.outward(self.theta[i]))
            out.append(Estimate(parameter.name, value, float(low), float(high), note))
        return out

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
        jac = self._at_best[1][self._free]
        length = np.linalg.norm(jac, axis=1, keepdims=True)
        weakest = np.zeros(len(self.theta))
        weakest[self._free] = np.abs(
            np.linalg.svd(jac / np.where(length > 0, length, 1.0), full_matrices=False)[0][:, -1]
        )
        return weakest

    def warnings(self) -> list[str]:
        """What a reader of this fit must know."""
        found = [f"{e.name}: {e.note}" for e in self.parameters() if e.note]
        if self.agreement < 0.5:
            found.append(f"only {self.agreement:.0%} of the starts reached this optimum")
        if self.condition > 1e6:
            found.append(f"condition number {self.condition:.1e}: some parameters trade off against each other")
        if self.lack_of_fit < 0.01:
            found.append(f"lack of fit (p = {self.lack_of_fit:.1e}): residuals follow the inputs")
        if self.freedom < 5:
            found.append(f"{self.freedom} degrees of freedom: intervals rest on few runs")
        if "params" in self.law.inputs and not self.counted:
            found.append("which parameters were counted is not said; with and without embeddings give other exponents")
        return found

    # What the fit says

    def draws_of(self, by: By = "covariance") -> Floats:
        """Draws of theta (R, P), inside the bounds, before the widening of `ends`."""
        if by == "bootstrap":
            if not len(self.draws):
                raise ValueError("this fit has no bootstrap draws: fit again with Uncertainty(draws=1000)")
            return self.draws
        return self._normal_draws

    @cached_property
    def _normal_draws(self) -> Floats:
        rng = np.random.default_rng(0)
        value, vector = np.linalg.eigh(self.covariance)
        spread = vector * np.sqrt(np.maximum(value, 0.0))
        # The covariance is corrected for the fitted parameters already, and `ends` will do it again.
        shrink = np.sqrt(self.freedom / len(np.unique(self.cluster)))
        return np.clip(self.theta + shrink * rng.standard_normal((2000, len(value))) @ spread.T, *self.law.bounds())

    def ends(self, draws: Floats, value: Floats, level: float) -> tuple[Floats, Floats]:
        """Ends of an interval around `value` from draws (R, ...), widened for the parameters that were fitted."""
        groups = len(np.unique(self.cluster))
        widen = np.sqrt(groups / self.freedom) * _t(level, self.freedom) / _t(level, 10**9)
        none = np.isnan(draws).all(axis=0)
        low, high = np.nanpercentile(np.where(none, 0.0, draws), [50 * (1 - level), 50 * (1 + level)], axis=0)
        low, high = np.where(none, np.nan, low), np.where(none, np.nan, high)
        return np.minimum(value + widen * (low - value), value), np.maximum(value + widen * (high - value), value)

    def outputs(self, x: Floats, by: By = "covariance") -> Floats:
        """The law at x (K, M) for each draw (R, M)."""
        return self._outputs(x, self.draws_of(by))

    def _outputs(self, x: Floats, theta: Floats) -> Floats:
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
        value = self._outputs(x, self.theta[None])[0]
        with np.errstate(all="ignore"):
            h = self.objective.transform(self.outputs(x, by))
            centre = self.objective.transform(value)
            if of == "run":
                rng = np.random.default_rng(1)
                h = h + rng.choice(self.residuals, h.shape)
            ends = [self.objective.inverse(end) for end in self.ends(h, centre, level)]
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
            return self._outputs(x, theta) - y

        found = np.exp(_root(surplus, thetas, (float(log_range[0]), float(log_range[1]))))
        with np.errstate(all="ignore"):
            low, high = self.ends(np.log(found[1:]), np.log(found[0]), level)
        return Interval(found[0], np.exp(low), np.exp(high))

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
        psi, slope = self._score
        unit = float((psi * psi).mean()) / slope * len(self.y) / max(len(self.y) - int(self._free.sum()), 1)
        allowed = 0.5 * unit * _t(level, self.freedom) ** 2
        problem = _problem(self.law, self.x, self.y, self.objective)
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

    def optimum(self, flops: float, uses: float = 0.0, level: float = 0.9, by: By = "covariance") -> Optimum:
        """The model size and tokens that give the least loss for a compute budget.

        Training costs 6 N D, and inference 2 N a token (Hoffmann et al. 2022; Sardana et al. 2023, arXiv 2401.00448).

        Args:
            flops: budget for training and inference (FLOP).
            uses: tokens that the model will process in its life, inference included (count).
            level: of the intervals (fraction).
            by: what the intervals rest on.

        Raises:
            ValueError: the law has other inputs than `params` and `tokens`, or the budget is not positive.
        """
        if set(self.law.inputs) != {"params", "tokens"}:
            raise ValueError(f"an optimum needs a law in params and tokens; {self.law.slug} takes {self.law.inputs}")
        if not (flops > 0 and uses >= 0):
            raise ValueError(f"flops={flops:g} must be positive and uses={uses:g} not negative")
        log_n, log_d, h, edge = self._optima(flops, uses, np.concatenate([self.theta[None], self.draws_of(by)]))
        out: list[Interval] = []
        for values, back in ((log_n, np.exp), (log_d, np.exp), (h, self.objective.inverse)):
            low, high = self.ends(values[1:], values[0], level)
            out.append(Interval(back(values[0]), back(low), back(high)))
        return Optimum(out[0], out[1], out[2], edge)

    def _optima(self, flops: float, uses: float, thetas: Floats) -> tuple[Floats, Floats, Floats, bool]:
        """log N, log D and transformed loss of the best split for each theta (S); whether the first is at an edge."""
        # The most that can be paid: at the upper end a single token is trained on.
        limits = (np.log(1e2), np.log(flops / (6.0 + 2.0 * uses)))

        def loss(log_n: Floats, theta: Floats) -> Floats:
            n = np.exp(log_n)
            d = (flops / n - 2.0 * uses) / 6.0
            by_name = {"params": n, "tokens": np.maximum(d, 1e-300)}
            return self._outputs(np.stack([by_name[name] for name in self.law.inputs]), theta)

        log_n, best = _lowest(loss, thetas, (float(limits[0]), float(limits[1])))
        log_d = np.log((flops / np.exp(log_n) - 2.0 * uses) / 6.0)
        edge = bool(log_n[0] - limits[0] < 0.01 or limits[1] - log_n[0] < 0.01)
        return log_n, log_d, self.objective.transform(best), edge

    def next_run(self, budget: float, at: Mapping[str, ArrayLike], steps: int = 25) -> list[Candidate]:
        """Runs that can be bought with `budget`, the one first that would shrink the interval at `at` most.

        By the information matrix: a run at x adds its derivative's outer product, if the law is right and its noise
        that of the runs so far. Noise alone is counted, so it also checks the law's shape only as far as the runs are
        spread.

        Args:
            budget: training compute of the one run, 6 N D (FLOP).
            at: where the prediction matters, by name of input.
            steps: sizes tried (count), each with all the tokens that the budget pays for, a tenth and a hundredth.

        Raises:
            ValueError: the law has other inputs than `params` and `tokens`.
        """
        if set(self.law.inputs) != {"params", "tokens"}:
            raise ValueError(f"next_run needs a law in params and tokens; {self.law.slug} takes {self.law.inputs}")
        n_at, d_at = (self.law.inputs.index(name) for name in ("params", "tokens"))
        sizes: Floats = np.geomspace(float(self.x[n_at].min()) / 10, float(self.x[n_at].max()) * 30, steps)
        n, share = (v.ravel() for v in np.meshgrid(sizes, [1.0, 0.1, 0.01]))
        d = budget * share / (6.0 * n)
        ratio = d / n
        sane = (ratio >= 0.5) & (ratio <= 2e4)
        if not sane.any():
            raise ValueError(
                f"budget {budget:g} FLOP pays for no run of 0.5 to 20000 tokens a parameter near these sizes"
            )
        x = np.empty((2, int(sane.sum())))
        x[n_at], x[d_at] = n[sane], d[sane]
        there, _ = self.inputs(at)
        problem = _problem(self.law, x, np.ones_like(x[0]), self.objective)
        gain = problem.residuals(self.theta[None], np.arange(1))[1][0]
        goal = _problem(self.law, there, np.ones_like(there[0]), self.objective)
        wish = goal.residuals(self.theta[None], np.arange(1))[1][0].mean(axis=1)
        psi, slope = self._score
        noise = float((psi * psi).mean()) / slope**2 * len(self.y) / self.freedom
        before = float(wish @ self.covariance @ wish)
        shared = wish @ self.covariance @ gain
        after = before - shared**2 / (noise + np.einsum("pc,pq,qc->c", gain, self.covariance, gain))
        order = np.argsort(after)
        kept = np.sqrt(np.maximum(after, 0.0) / before)
        return [
            Candidate(float(x[n_at, i]), float(x[d_at, i]), float(6 * x[n_at, i] * x[d_at, i]), float(kept[i]))
            for i in order
        ]

    def compare(self, other: Fit, flops: float, level: float = 0.9, by: By = "covariance") -> Comparison:
        """This law against another, each at its own best split of `flops`, with the budget at which they cross.

        Bootstrap draws with the same seed and rows are paired, so what disturbs both runs alike cancels; draws from the
        covariance are independent.

        Raises:
            ValueError: a law that has no optimum.
        """
        clouds = (self.draws_of(by), other.draws_of(by))
        draws = min(400, *map(len, clouds))
        best = [np.concatenate([f.theta[None], c[:draws]]) for f, c in zip((self, other), clouds)]
        if by == "covariance":
            # The same normal draws would pair what is independent.
            best[1][1:] = best[1][:0:-1]

        def lead(log_flops: float) -> Floats:
            ours, theirs = (f._optima(float(np.exp(log_flops)), 0.0, t) for f, t in zip((self, other), best))
            return self.objective.inverse(ours[2]) - other.objective.inverse(theirs[2])

        now = lead(float(np.log(flops)))
        low, high = self.ends(now[1:], now[0], level)
        grid = np.log(flops) + np.log(10.0) * np.linspace(-6, 6, 25)
        crossings = _crossing(grid, np.stack([lead(float(c)) for c in grid]))
        if np.isfinite(crossings).any():
            # Again where they are, on a finer grid.
            near = np.nanpercentile(crossings, [1, 99])
            grid = np.linspace(float(near[0]) - 1.2, float(near[1]) + 1.2, 25)
            finer = _crossing(grid, np.stack([lead(float(c)) for c in grid]))
            crossings = np.where(np.isfinite(finer), finer, crossings)
        ends = self.ends(crossings[1:], crossings[0], level) if np.isfinite(crossings[0]) else (np.nan, np.nan)
        crossing = Interval(*(np.exp(np.asarray(v)) for v in (crossings[0], *ends)))
        return Comparison(Interval(now[0], low, high), float(np.mean(now[1:] < 0)), crossing)

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


def fit_arrays(
    law: Law,
    x: ArrayLike,
    y: ArrayLike,
    objective: Objective | None = None,
    uncertainty: Uncertainty | None = None,
    cluster: Sequence[object] | None = None,
) -> Fit:
    """Fit a law to arrays: inputs x (K, M) or (M), measured y (M).

    Args:
        law: what to fit.
        x: inputs in the law's order.
        y: outputs.
        objective: what to minimise; the law's own choice if not given.
        uncertainty: number of bootstrap draws and seed.
        cluster: labels (M) of runs that err together; each run alone if not given.

    Raises:
        BadData: data that no fit could use.
    """
    aim = law.objective if objective is None else objective
    sure = Uncertainty() if uncertainty is None else uncertainty
    columns = np.asarray(x, float).reshape(len(law.inputs), -1)
    out = np.asarray(y, float).ravel()
    if columns.shape[1] != len(out):
        raise BadData(f"x has {columns.shape[1]} rows, y has {len(out)}")
    check_design(dict(zip(law.inputs, columns)), out, len(law.parameters))
    problem = _problem(law, columns, out, aim)
    ones = np.ones(len(out))
    with np.errstate(all="ignore"):
        found = minimise(problem, law.starts(columns, out, ones), ones)
    best = int(np.argmin(found.objective))
    if not np.isfinite(found.objective[best]):
        raise BadData(
            f"no start of {law.slug} gave a finite loss on these {len(out)} runs: is it the right law for them?"
        )
    lowest = float(found.objective[best])
    agree = float(np.mean(found.objective <= lowest + AGREE * max(abs(lowest), 1e-12 * len(out))))
    labels = np.arange(len(out)) if cluster is None else _codes(cluster)
    draws = _bootstrap(problem, found.theta[best], labels, sure)
    return Fit(law, columns, out, aim, found.theta[best], draws, agree, labels)


def fit(
    table: Table,
    law: str | Law = "chinchilla",
    x: Sequence[str] = (),
    y: str = "",
    objective: Objective | str | None = None,
    uncertainty: Uncertainty | None = None,
) -> Fit:
    """Fit a law to a run log: a file, rows or columns.

    Args:
        table: .csv, .jsonl or .parquet, a list of rows by name, or columns by name.
        law: its name, or a Law with its fields set.
        x: columns of the law's inputs, in its order; the law's own names if not given.
        y: column of the output; the law's own name if not given.
        objective: an Objective, or the name of its kind.
        uncertainty: draws, clusters, seed.

    Raises:
        BadData: one clear message, with column and row.
        ValueError: unknown law or objective, or the wrong number of inputs.
    """
    chosen = law_named(law) if isinstance(law, str) else law
    columns = as_columns(table)
    wanted = tuple(x) or chosen.inputs
    if len(wanted) != len(chosen.inputs):
        raise ValueError(
            f"{chosen.slug} takes {len(chosen.inputs)} inputs ({', '.join(chosen.inputs)}), not {len(wanted)}"
        )
    zero = [name in chosen.may_be_zero for name in chosen.inputs]
    inputs = np.stack([numbers(columns, name, zero=z) for name, z in zip(wanted, zero)])
    measured = numbers(columns, y or chosen.output, fraction=chosen.fraction)
    aim = replace(chosen.objective, kind=cast("Any", objective)) if isinstance(objective, str) else objective
    sure = Uncertainty() if uncertainty is None else uncertainty
    if sure.clusters is not None and sure.clusters not in columns:
        raise BadData(f"no column {sure.clusters!r} for the clusters; there are {', '.join(columns)}")
    check_design(dict(zip(wanted, inputs)), measured, len(chosen.parameters))
    labels = columns[sure.clusters] if sure.clusters else None
    return fit_arrays(chosen, inputs, measured, aim, sure, labels)


def laws_for(inputs: Sequence[str]) -> list[str]:
    """Names of the laws that take these inputs, in any order."""
    return [name for name in names() if sorted(law_class(name).inputs) == sorted(inputs)]


def _problem(law: Law, x: Floats, y: Floats, objective: Objective) -> Problem:
    with np.errstate(all="ignore"):
        target = objective.transform(y)
    if not np.all(np.isfinite(target)):
        bad = int(np.argmin(np.isfinite(target)))
        raise BadData(f"row {bad + 1}: the output {y[bad]:g} has no {objective.scale} residual; use scale='linear'")
    low, high = law.bounds()
    return Problem(lambda theta: law.model(x, theta), target, objective, low, high)


def _bootstrap(problem: Problem, theta: Floats, cluster: NDArray[np.intp], sure: Uncertainty) -> Floats:
    """Refits under random weights (R, P).

    Weights are exponential (Rubin's Bayesian bootstrap): their refits spread as those of resampled rows do, and no
    model size ever drops out of a small design.
    """
    if sure.draws == 0:
        return np.empty((0, len(theta)))
    rng = np.random.default_rng(sure.seed)
    weights = rng.standard_exponential((sure.draws, int(cluster.max()) + 1))
    weights = (weights / weights.mean(axis=1, keepdims=True))[:, cluster]
    return minimise(problem, np.repeat(theta[None], sure.draws, axis=0), weights, tolerance=1e-8).theta


def _codes(labels: Sequence[object]) -> NDArray[np.intp]:
    order = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels], np.intp)


def _scaled_gram(jac: Floats) -> tuple[Floats, Floats]:
    scale = np.sqrt(np.einsum("pm,pm->p", jac, jac))
    scale = np.where(scale > 0, scale, 1.0)
    return (jac @ jac.T) / np.outer(scale, scale), scale


def _t(level: float, freedom: int) -> float:
    quantile: Any = stdtrit
    return float(quantile(freedom, 0.5 + level / 2))


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


def _crossing(grid: Floats, leads: Floats) -> Floats:
    """Where each column of leads (G, S) first changes sign, by linear interpolation; NaN where it does not."""
    changes = np.sign(leads[1:]) != np.sign(leads[:-1])
    first = np.argmax(changes, axis=0)
    columns = list(range(leads.shape[1]))
    a, b = leads[first, columns], leads[first + 1, columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        place = grid[first] + (grid[first + 1] - grid[first]) * a / (a - b)
    return np.where(changes.any(axis=0), place, np.nan)


def _lowest(
    loss: Callable[[Floats, Floats], Floats], thetas: Floats, limits: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Where loss(log_x (S, G), theta) is least, on ever finer grids; the place (S) and the value (S)."""
    low, high = (np.full((len(thetas), 1), end) for end in limits)
    rows = np.arange(len(thetas))
    at = low[:, 0]
    value = np.full(len(thetas), np.inf)
    for _ in range(7):
        grid = low + (high - low) * np.linspace(0, 1, 25)
        values = np.nan_to_num(loss(grid, thetas), nan=np.inf)
        best = np.argmin(values, axis=1)
        at, value = grid[rows, best], values[rows, best]
        step = (high - low)[:, 0] / 24
        low, high = (np.clip(at + s * step, *limits)[:, None] for s in (-1, 1))
    return at, value
