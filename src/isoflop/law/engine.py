"""The solver behind every law: many starts, resamples or simulated data sets at once, in NumPy.

Variable projection gives each start its linear parameters (bounded least squares, exact). From there all parameters
move together: Gauss-Newton steps on the Huber loss, whose damping is the IRLS majoriser, so a damped step never goes
up on a linear model and an undamped one is Newton's. A narrow Huber loss is reached from a wide one by narrowing
delta step by step, and least absolute deviations is the end of that road.

Shapes: S problems at once (starts, bootstrap weights, data sets), P parameters, M observations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.intp]
Model: TypeAlias = Callable[[Floats], tuple[Floats, Floats]]
"""theta (S, P) to prediction (S, M) and its derivative (S, P, M)."""

Kind = Literal["huber", "lad", "least_squares"]
Scale = Literal["log", "linear", "log_log"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SCALES: tuple[Scale, ...] = get_args(Scale)


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised: the sum over runs of weight x rho(h(prediction) - h(measured)).

    Huber with delta = 1e-3 on the logarithm is Hoffmann et al.'s (2022); with residuals of some 1e-2 it is close to
    least absolute deviations, and far from least squares.

    Args:
        kind: `huber` (r^2/2 inside delta, delta |r| - delta^2/2 outside), `lad` (|r|), `least_squares` (r^2/2).
        delta: where Huber's loss turns from square to straight (in units of the residual); the others ignore it.
        scale: h: `log`, `linear`, or `log_log` for log(-log y) of a fraction y.
    """

    kind: Kind = "huber"
    delta: float = 1e-3
    scale: Scale = "log"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown objective {self.kind!r}; use one of {', '.join(KINDS)}")
        if self.scale not in SCALES:
            raise ValueError(f"unknown scale {self.scale!r}; use one of {', '.join(SCALES)}")
        if not self.delta > 0:
            raise ValueError(f"delta={self.delta:g} must be positive")

    def rho(self, r: Floats) -> Floats:
        """Loss of each residual."""
        if self.kind == "least_squares":
            return 0.5 * r * r
        size = np.abs(r)
        if self.kind == "lad":
            return size
        return _huber(r, self.delta)

    def transform(self, y: Floats) -> Floats:
        """h(y)."""
        if self.scale == "linear":
            return y
        return np.log(y) if self.scale == "log" else np.log(-np.log(y))

    def inverse(self, h: Floats) -> Floats:
        """The y that h came from."""
        if self.scale == "linear":
            return h
        return np.exp(h) if self.scale == "log" else np.exp(-np.exp(h))

    def slope(self, y: Floats) -> Floats:
        """dh / dy."""
        if self.scale == "linear":
            return np.ones_like(y)
        return 1.0 / y if self.scale == "log" else 1.0 / (y * np.log(y))

    def __str__(self) -> str:
        width = f" delta={self.delta:g}" if self.kind == "huber" else ""
        return f"{self.kind}{width} on {self.scale} residuals"


@dataclass(frozen=True, slots=True)
class Solved:
    """Where each problem ended.

    Args:
        theta: parameters (S, P).
        objective: its value there (S).
        converged: whether the last predicted gain was below the tolerance (S).
        evaluations: model evaluations, summed over problems (count).
    """

    theta: Floats
    objective: Floats
    converged: Bools
    evaluations: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A model, the data it is held against, and its bounds.

    Args:
        model: see `Model`; called with any number of rows of theta.
        target: h(measured), (M) or (S, M).
        objective: what is minimised.
        low: lower bounds (P).
        high: upper bounds (P).
    """

    model: Model
    target: Floats
    objective: Objective
    low: Floats
    high: Floats

    def residuals(self, theta: Floats, rows: Indices) -> tuple[Floats, Floats]:
        """Residuals (S, M) and their derivative (S, P, M); infinite where the model has left its domain."""
        target = self.target if self.target.ndim == 1 else self.target[rows]
        with np.errstate(all="ignore"):
            value, by_theta = self.model(theta)
            r = self.objective.transform(value) - target
            if self.objective.scale != "linear":
                by_theta = by_theta * self.objective.slope(value)[:, None, :]
        return r, by_theta

    def value(self, theta: Floats, weights: Floats) -> Floats:
        """The objective at each row of theta (S); weights (M) or (S, M)."""
        r, _ = self.residuals(theta, np.arange(len(theta)))
        return _total(self.objective.rho(r), weights)


def minimise(
    problem: Problem, theta: Floats, weights: Floats, fixed: Bools | None = None, *, tolerance: float = 1e-13
) -> Solved:
    """Minimise from every row of theta.

    Args:
        problem: what to minimise.
        theta: starting points (S, P), inside the bounds.
        weights: of the observations, (M) for all or (S, M).
        fixed: parameters that must not move (P) or (S, P).
        tolerance: stop when the gain that the next step promises is below this share of the objective.
    """
    held = np.zeros(theta.shape, bool) if fixed is None else np.broadcast_to(fixed, theta.shape)
    kind = problem.objective.kind
    state = _Descent(problem, theta.copy(), weights, held)
    if kind == "least_squares":
        converged = state.run(np.full(len(theta), np.inf), tolerance, 200)
    else:
        # A narrow Huber loss has kinks that trap a far start; a wide one is smooth. Narrow it by tens.
        r, _ = problem.residuals(theta, np.arange(len(theta)))
        state.run(np.full(len(theta), np.inf), 1e-6, 60)
        r, _ = problem.residuals(state.theta, np.arange(len(theta)))
        spread = np.median(np.abs(r), axis=1) + 1e-300
        last = np.full(len(theta), problem.objective.delta) if kind == "huber" else 1e-4 * spread
        delta = np.maximum(spread, last)
        while np.any(delta > last):
            state.run(delta, 1e-5, 30)
            delta = np.maximum(0.1 * delta, last)
        converged = state.run(last, tolerance, 200)
    objective = problem.value(state.theta, weights)
    if kind == "lad":
        objective = _to_vertex(problem, state.theta, objective, weights, held)
    return Solved(state.theta, objective, converged, state.evaluations)


def _to_vertex(problem: Problem, theta: Floats, objective: Floats, weights: Floats, held: Bools) -> Floats:
    """Move theta (in place) from near the least absolute deviations to a point that is optimal among its neighbours.

    A vertex passes exactly through as many points as parameters are free. Exchange of one point at a time, as in
    Barrodale and Roberts' simplex method, with Newton steps onto each vertex as the model is curved. Where the curve
    of an edge turns up again before the next vertex, its lowest point is taken (`offset` is the residual there).
    Returns the objective there, never above the one given.
    """
    count = theta.shape[1]
    live: Indices = np.arange(len(theta))
    every = np.broadcast_to(weights, (len(theta), problem.target.shape[-1]))
    r, _ = problem.residuals(theta, live)
    # Equations to choose from: one for each point, then one for each parameter that stays where it is.
    size = np.concatenate([np.where(every > 0, np.abs(r), np.inf), np.full(theta.shape, np.inf)], axis=1)
    size[:, -count:][held | (theta <= problem.low) | (theta >= problem.high)] = -1.0
    chosen: Indices = np.argpartition(size, count - 1, axis=1)[:, :count]
    offset = np.zeros(theta.shape)

    def onto(start: Floats, rows: Indices, chosen: Indices, offset: Floats) -> tuple[Floats, ...]:
        at, r, jac, system = _onto_vertex(problem, start, rows, chosen, offset)
        return at, r, jac, system, _total(problem.objective.rho(r), every[rows])

    at, r, jac, system, value = onto(theta, live, chosen, offset)
    for _ in range(100):
        lower = (value < objective[live] * (1 - 1e-15)) & np.isfinite(value)
        theta[live[lower]], objective[live[lower]] = at[lower], value[lower]
        # The first vertex may lie a little above the point it came from.
        go = np.isfinite(value) & (value < objective[live] * (1 + 1e-3))
        live, chosen, offset, at, value = live[go], chosen[go], offset[go], at[go], value[go]
        if len(live) == 0:
            break
        found = _exchange(problem, (at, r[go], jac[go], system[go]), every[live], held[live], (chosen, offset))
        entered, leaves, enters, sign, excess, step = found
        go = (excess > 1e-12) & np.isfinite(step)
        live, chosen, offset, at, value, entered = live[go], chosen[go], offset[go], at[go], value[go], entered[go]
        leaves, enters, sign, excess, step = leaves[go], enters[go], sign[go], excess[go], step[go]
        rows = np.arange(len(live))
        there = offset.copy()
        there[rows, leaves] = 0.0
        tried = onto(at, live, entered, there)
        # Not lower: the edge turned up. Its slope at the start and its height at the end give a parabola.
        short = np.flatnonzero(~(tried[4] < value * (1 - 1e-15)))
        if len(short):
            rise = np.where(np.isfinite(tried[4]), tried[4] - value, value)[short] + (excess * step)[short]
            middle = 0.5 * (excess * step**2)[short] / np.maximum(rise, 1e-300)
            entered[short], there[short] = chosen[short], offset[short]
            there[short, leaves[short]] += sign[short] * middle
            for old, new in zip(tried, onto(at[short], live[short], entered[short], there[short])):
                old[short] = new
        better = tried[4] < value * (1 - 1e-15)
        live, chosen, offset = live[better], entered[better], there[better]
        at, r, jac, system, value = (v[better] for v in tried)
    return objective


def _exchange(
    problem: Problem,
    vertex: tuple[Floats, Floats, Floats, Floats],
    weights: Floats,
    held: Bools,
    equations: tuple[Indices, Floats],
) -> tuple[Indices, Indices, Indices, Floats, Floats, Floats]:
    """Which equation to drop, and which to take for it: the chosen ones then (S, P), the place of the one that leaves,
    the one that enters, which way the residual that leaves goes, how steeply the objective falls, and how far (S)."""
    (at, r, jac, system), (chosen, offset) = vertex, equations
    runs, count = r.shape[1], at.shape[1]
    rows = np.arange(len(at))
    in_vertex = np.zeros((len(at), runs + count), bool)
    in_vertex[rows[:, None], chosen] = True
    # A point that an edge passes by counts like any other.
    passed = in_vertex.copy()
    passed[rows[:, None], chosen] = offset == 0.0
    weight = np.concatenate([weights, np.zeros_like(at)], axis=1)
    gradient = np.einsum("spm,sm->sp", jac, np.where(passed[:, :-count], 0.0, weights * np.sign(r)))
    dual = -_linear_solve(system.transpose(0, 2, 1), gradient)
    excess = np.abs(dual) - np.where(offset == 0.0, np.take_along_axis(weight, chosen, axis=1), 0.0)
    parameter = chosen - runs
    on = np.maximum(parameter, 0)
    value, fixed = np.take_along_axis(at, on, axis=1), np.take_along_axis(held, on, axis=1)
    into: Bools = ((value <= problem.low[on]) & (dual > 0)) | ((value >= problem.high[on]) & (dual < 0))
    excess[(parameter >= 0) & (fixed | ~into)] = -np.inf
    leaves = np.argmax(excess, axis=1)
    sign = np.sign(dual[rows, leaves])
    unit = np.zeros_like(at)
    unit[rows, leaves] = sign
    along = _linear_solve(system, unit)
    rate = np.concatenate([np.einsum("spm,sp->sm", jac, along), along], axis=1)
    edge = np.where(along > 0, problem.high - at, problem.low - at)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.concatenate([-r, edge], axis=1) / rate
    # The one that leaves may come back to zero from the other side.
    passed[rows, chosen[rows, leaves]] = offset[rows, leaves] == 0.0
    reach[(in_vertex & passed) | ~(reach > 0)] = np.inf
    back = reach[rows, chosen[rows, leaves]]
    reach[rows[:, None], chosen] = np.inf
    reach[rows, chosen[rows, leaves]] = back
    gain = 2 * weight * np.abs(rate)
    gain[:, -count:] = np.inf
    order = np.argsort(reach, axis=1)
    slope = np.cumsum(np.take_along_axis(gain, order, axis=1), axis=1) - excess[rows, leaves][:, None]
    enters = np.take_along_axis(order, np.argmax(slope >= 0, axis=1)[:, None], axis=1)[:, 0]
    entered = chosen.copy()
    entered[rows, leaves] = enters
    return entered, leaves, enters, sign, excess[rows, leaves], reach[rows, enters]


def _onto_vertex(
    problem: Problem, theta: Floats, rows: Indices, chosen: Indices, offset: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """The theta at which the chosen equations hold, with residuals, derivative and the equations' matrix there."""
    at = theta.copy()
    for _ in range(3):
        _, _, system, right = _equations(problem, at, rows, chosen, offset)
        at = np.clip(at + _linear_solve(system, right), problem.low, problem.high)
    r, jac, system, _ = _equations(problem, at, rows, chosen, offset)
    return at, r, jac, system


def _equations(
    problem: Problem, at: Floats, rows: Indices, chosen: Indices, offset: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Residuals, derivative, and the chosen equations' matrix and right side; residuals are infinite where singular."""
    count = at.shape[1]
    r, jac = problem.residuals(at, rows)
    points = np.minimum(chosen, r.shape[1] - 1)[:, None, :]
    system = np.take_along_axis(jac, points, axis=2).transpose(0, 2, 1)
    right = offset - np.take_along_axis(r, points[:, 0], axis=1)
    stays = chosen >= r.shape[1]
    system[stays] = np.eye(count)[chosen[stays] - r.shape[1]]
    right[stays] = 0.0
    usable = np.isfinite(np.einsum("spq->s", system) + right.sum(axis=1))
    conditions: Floats = np.linalg.cond(system[usable])
    singular = np.concatenate([np.flatnonzero(~usable), np.flatnonzero(usable)[conditions > 1e14]])
    system[singular], right[singular], r[singular] = np.eye(count), 0.0, np.inf
    return r, jac, system, right


class _Descent:
    """Damped Gauss-Newton on Huber losses of given widths, one damping per problem."""

    def __init__(self, problem: Problem, theta: Floats, weights: Floats, held: Bools) -> None:
        self.problem, self.theta, self.weights, self.held = problem, theta, weights, held
        self.evaluations = 0

    def run(self, delta: Floats, tolerance: float, steps: int) -> Bools:
        """Descend until the promised gain is small; which problems got there."""
        problem = self.problem
        done = np.zeros(len(self.theta), bool)
        live = np.arange(len(self.theta))
        damping = np.full(len(self.theta), 1e-2 if np.isinf(delta).all() else 0.1)
        r, jac = problem.residuals(self.theta, live)
        self.evaluations += len(live)
        diagonal = list(range(self.theta.shape[1]))
        for _ in range(steps):
            if len(live) == 0:
                break
            theta, width = self.theta[live], delta[live, None]
            weight = self.weights if self.weights.ndim == 1 else self.weights[live]
            size = np.abs(r)
            inner = size <= width
            with np.errstate(divide="ignore", invalid="ignore"):
                majorant = np.where(inner, 1.0, width / size)
                pull = np.where(inner, r, np.copysign(width, r))
            now = _total(_huber(r, width), weight)
            gradient = np.einsum("spm,sm->sp", jac, weight * pull)
            stuck = (theta <= problem.low) & (gradient > 0) | (theta >= problem.high) & (gradient < 0) | self.held[live]
            damper = damping[live, None] * (weight * majorant)
            hessian = (jac * (weight * inner + damper)[:, None, :]) @ jac.transpose(0, 2, 1)
            # Marquardt's ridge, as large as the damping where columns are collinear and damping alone does not hold.
            hessian[:, diagonal, diagonal] += 1e-3 * np.einsum("spm,spm,sm->sp", jac, jac, damper)
            step, promised = _bounded_step(hessian, gradient, stuck, (problem.low - theta, problem.high - theta))
            trial = np.clip(theta + step, problem.low, problem.high)
            r_next, jac_next = problem.residuals(trial, live)
            self.evaluations += len(live)
            after = _total(_huber(r_next, width), weight)
            better = after < now
            self.theta[live[better]] = trial[better]
            gain = np.where(better, (now - after) / np.maximum(promised, 1e-300), 0.0)
            factor = np.where(gain > 0.75, 0.2, np.where(gain > 0.25, 1.0, np.where(better, 3.0, 8.0)))
            small = (promised >= 0) & (promised * (1.0 + damping[live]) <= tolerance * now)
            damping[live] = np.clip(damping[live] * factor, 1e-4, 1e12)
            ended = small | (damping[live] >= 1e12) | (now == 0)
            done[live[small | (now == 0)]] = True
            r = np.where(better[:, None], r_next, r)
            jac = np.where(better[:, None, None], jac_next, jac)
            if ended.any():
                go = ~ended
                live, r, jac = live[go], r[go], jac[go]
        return done


def project(basis: Floats, target: Floats, weights: Floats, positive: Bools) -> Floats:
    """Coefficients c (S, Q) that minimise sum w (basis . c - target)^2, those marked `positive` not below zero.

    Exact: for the few coefficients of a law every set of zero ones is tried, all problems at once.

    Args:
        basis: (S, Q, M).
        target: (M).
        weights: (M).
        positive: which coefficients are bounded (Q).
    """
    gram = (basis * weights) @ basis.transpose(0, 2, 1)
    right = np.einsum("sqm,m->sq", basis, weights * target)
    count = basis.shape[1]
    may_vanish = [int(i) for i in np.flatnonzero(positive)]
    best = np.zeros(right.shape)
    best_gain = np.zeros(len(right))
    for size in range(len(may_vanish) + 1):
        for zeros in combinations(may_vanish, size):
            stuck = np.zeros(right.shape, bool)
            stuck[:, list(zeros)] = True
            if stuck.all():
                continue
            found, half_gain = _solve(gram, -right, stuck)
            feasible = np.all((found >= 0) | ~positive, axis=1) & (half_gain > best_gain)
            best[feasible], best_gain[feasible] = found[feasible], half_gain[feasible]
    assert best.shape == (len(basis), count)
    return best


def _bounded_step(
    hessian: Floats, gradient: Floats, stuck: Bools, room: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """A Newton step and the gain it promises; what would leave its bound goes there, and the rest is solved anew."""
    step, promised = _solve(hessian, gradient, stuck)
    out = (step < room[0]) | (step > room[1])
    rows = np.flatnonzero(out.any(axis=1))
    if len(rows):
        moved = np.where(out[rows], np.clip(step[rows], room[0][rows], room[1][rows]), 0.0)
        pulled = gradient[rows] + np.einsum("spq,sq->sp", hessian[rows], moved)
        rest, gain = _solve(hessian[rows], pulled, stuck[rows] | out[rows])
        step[rows] = np.where(out[rows], moved, rest)
        promised[rows] = gain - np.einsum("sp,sp->s", moved, 0.5 * (gradient[rows] + pulled))
    return step, promised


def _solve(hessian: Floats, gradient: Floats, stuck: Bools) -> tuple[Floats, Floats]:
    """Newton step (S, P) with some parameters stuck, and the gain that it promises (S)."""
    free = ~stuck
    size = np.sqrt(np.einsum("spp->sp", hessian))
    scale = np.where(free & (size > 0) & np.isfinite(size), 1.0 / np.where(size > 0, size, 1.0), 0.0)
    scaled = hessian * scale[:, :, None] * scale[:, None, :]
    scaled[~np.isfinite(scaled)] = 0.0
    diagonal = list(range(hessian.shape[1]))
    # Columns have length one now; 1e-13 keeps a truly collinear pair solvable and moves nothing else.
    scaled[:, diagonal, diagonal] = 1.0 + 1e-13
    downhill = np.nan_to_num(-gradient * scale, posinf=0.0, neginf=0.0)
    move = _linear_solve(scaled, downhill)
    return move * scale, 0.5 * np.einsum("sp,sp->s", move, downhill)


def _linear_solve(matrix: Floats, right: Floats) -> Floats:
    """One system for each problem: (S, P, P) and (S, P) to (S, P)."""
    return np.asarray(np.linalg.solve(matrix, right[:, :, None])[:, :, 0], float)


def _huber(r: Floats, delta: Floats | float) -> Floats:
    size = np.abs(r)
    with np.errstate(invalid="ignore"):
        return np.where(size <= delta, 0.5 * r * r, delta * (size - 0.5 * np.minimum(delta, 1e300)))


def _total(losses: Floats, weights: Floats) -> Floats:
    total = np.einsum("sm,m->s", losses, weights) if weights.ndim == 1 else np.einsum("sm,sm->s", losses, weights)
    return np.where(np.isfinite(total), total, np.inf)
