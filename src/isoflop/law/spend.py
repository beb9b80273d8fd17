"""What compute buys by a fitted law: the best split of a budget, the next run, the better of two designs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isoflop.law.base import Interval
from isoflop.law.engine import Floats
from isoflop.law.fitted import By, Fit, problem_of


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


def optimum(fit: Fit, flops: float, uses: float = 0.0, level: float = 0.9, by: By = "covariance") -> Optimum:
    """The model size and tokens that give the least loss for a compute budget.

    Training costs 6 N D, and inference 2 N a token (Hoffmann et al. 2022; Sardana et al. 2023, arXiv 2401.00448).

    Args:
        fit: of a law in params and tokens.
        flops: budget for training and inference (FLOP).
        uses: tokens that the model will process in its life, inference included (count).
        level: of the intervals (fraction).
        by: what the intervals rest on.

    Raises:
        ValueError: the law has other inputs than `params` and `tokens`, or the budget is not positive.
    """
    if set(fit.law.inputs) != {"params", "tokens"}:
        raise ValueError(f"an optimum needs a law in params and tokens; {fit.law.slug} takes {fit.law.inputs}")
    if not (flops > 0 and uses >= 0):
        raise ValueError(f"flops={flops:g} must be positive and uses={uses:g} not negative")
    log_n, log_d, h, edge = _optima(fit, flops, uses, np.concatenate([fit.theta[None], fit.draws_of(by)]))
    out: list[Interval] = []
    for values, back in ((log_n, np.exp), (log_d, np.exp), (h, fit.objective.inverse)):
        low, high = fit.ends(values[1:], values[0], level)
        out.append(Interval(back(values[0]), back(low), back(high)))
    return Optimum(out[0], out[1], out[2], edge)


def _optima(fit: Fit, flops: float, uses: float, thetas: Floats) -> tuple[Floats, Floats, Floats, bool]:
    """log N, log D and transformed loss of the best split for each theta (S); whether the first is at an edge."""
    # The most that can be paid: at the upper end a single token is trained on.
    limits = (np.log(1e2), np.log(flops / (6.0 + 2.0 * uses)))

    def loss(log_n: Floats, theta: Floats) -> Floats:
        n = np.exp(log_n)
        d = (flops / n - 2.0 * uses) / 6.0
        by_name = {"params": n, "tokens": np.maximum(d, 1e-300)}
        return fit.at(np.stack([by_name[name] for name in fit.law.inputs]), theta)

    log_n, best = _lowest(loss, thetas, (float(limits[0]), float(limits[1])))
    log_d = np.log((flops / np.exp(log_n) - 2.0 * uses) / 6.0)
    edge = bool(log_n[0] - limits[0] < 0.01 or limits[1] - log_n[0] < 0.01)
    return log_n, log_d, fit.objective.transform(best), edge


def next_run(fit: Fit, budget: float, at: Mapping[str, ArrayLike], steps: int = 25) -> list[Candidate]:
    """Runs that can be bought with `budget`, the one first that would shrink the interval at `at` most.

    By the information matrix: a run at x adds its derivative's outer product, if the law is right and its noise
    that of the runs so far. Noise alone is counted, so it also checks the law's shape only as far as the runs are
    spread.

    Args:
        fit: of a law in params and tokens.
        budget: training compute of the one run, 6 N D (FLOP).
        at: where the prediction matters, by name of input.
        steps: sizes tried (count), each with all the tokens that the budget pays for, a tenth and a hundredth.

    Raises:
        ValueError: the law has other inputs than `params` and `tokens`.
    """
    if set(fit.law.inputs) != {"params", "tokens"}:
        raise ValueError(f"next_run needs a law in params and tokens; {fit.law.slug} takes {fit.law.inputs}")
    n_at, d_at = (fit.law.inputs.index(name) for name in ("params", "tokens"))
    sizes: Floats = np.geomspace(float(fit.x[n_at].min()) / 10, float(fit.x[n_at].max()) * 30, steps)
    n, share = (v.ravel() for v in np.meshgrid(sizes, [1.0, 0.1, 0.01]))
    d = budget * share / (6.0 * n)
    ratio = d / n
    sane = (ratio >= 0.5) & (ratio <= 2e4)
    if not sane.any():
        raise ValueError(f"budget {budget:g} FLOP pays for no run of 0.5 to 20000 tokens a parameter near these sizes")
    x = np.empty((2, int(sane.sum())))
    x[n_at], x[d_at] = n[sane], d[sane]
    there, _ = fit.inputs(at)
    problem = problem_of(fit.law, x, np.ones_like(x[0]), fit.objective)
    gain = problem.residuals(fit.theta[None], np.arange(1))[1][0]
    goal = problem_of(fit.law, there, np.ones_like(there[0]), fit.objective)
    wish = goal.residuals(fit.theta[None], np.arange(1))[1][0].mean(axis=1)
    before = float(wish @ fit.covariance @ wish)
    shared = wish @ fit.covariance @ gain
    after = before - shared**2 / (fit.spread.noise + np.einsum("pc,pq,qc->c", gain, fit.covariance, gain))
    order = np.argsort(after)
    kept = np.sqrt(np.maximum(after, 0.0) / before)
    return [
        Candidate(float(x[n_at, i]), float(x[d_at, i]), float(6 * x[n_at, i] * x[d_at, i]), float(kept[i]))
        for i in order
    ]


def compare(first: Fit, second: Fit, flops: float, level: float = 0.9, by: By = "covariance") -> Comparison:
    """The first law against the second, each at its own best split of `flops`, with the budget at which they cross.

    Bootstrap draws with the same seed and rows are paired, so what disturbs both runs alike cancels; draws from the
    covariance are independent.

    Raises:
        ValueError: a law that has no optimum.
    """
    clouds = (first.draws_of(by), second.draws_of(by))
    draws = min(400, *map(len, clouds))
    best = [np.concatenate([f.theta[None], c[:draws]]) for f, c in zip((first, second), clouds)]
    if by == "covariance":
        # The same normal draws would pair what is independent.
        best[1][1:] = best[1][:0:-1]

    def lead(log_flops: float) -> Floats:
        ours, theirs = (_optima(f, float(np.exp(log_flops)), 0.0, t) for f, t in zip((first, second), best))
        return first.objective.inverse(ours[2]) - second.objective.inverse(theirs[2])

    now = lead(float(np.log(flops)))
    low, high = first.ends(now[1:], now[0], level)
    grid = np.log(flops) + np.log(10.0) * np.linspace(-6, 6, 25)
    crossings = _crossing(grid, np.stack([lead(float(c)) for c in grid]))
    if np.isfinite(crossings).any():
        # Again where they are, on a finer grid.
        near = np.nanpercentile(crossings, [1, 99])
        grid = np.linspace(float(near[0]) - 1.2, float(near[1]) + 1.2, 25)
        finer = _crossing(grid, np.stack([lead(float(c)) for c in grid]))
        crossings = np.where(np.isfinite(finer), finer, crossings)
    ends = first.ends(crossings[1:], crossings[0], level) if np.isfinite(crossings[0]) else (np.nan, np.nan)
    crossing = Interval(*(np.exp(np.asarray(v)) for v in (crossings[0], *ends)))
    return Comparison(Interval(now[0], low, high), float(np.mean(now[1:] < 0)), crossing)


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
