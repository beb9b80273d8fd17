"""The whole loss trajectory: loss from model size, batch size and steps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar, final

import numpy as np
from numpy.typing import ArrayLike

from isoflop.law.base import Law, Parameter, crossed
from isoflop.law.engine import Floats


@final
@dataclass(frozen=True)
class BatchTrajectory(Law):
    """L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S, S_min = S / (1 + B_crit(L)/B), B_crit = B_star / L^(1/alpha_B).

    The critical batch grows as the loss falls, so L is on both sides; the right one falls as L grows, so there is one
    root. For unlimited data at a constant learning rate after warm-up; a decaying schedule needs `multi_power`.
    """

    inputs: ClassVar[tuple[str, ...]] = ("params", "batch_tokens", "steps")
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361, eqs. 1.4, 1.6; Su et al. 2024, arXiv 2403.06563"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """N_c, alpha_N, S_c, alpha_S, B_star, alpha_B."""
        return (
            Parameter("N_c", 1e-5, 1e40, log=True, starts=(1.0,)),
            Parameter("alpha_N", 1e-3, 2.0, starts=(0.05, 0.1)),
            Parameter("S_c", 1e-5, 1e20, log=True, starts=(1.0,)),
            Parameter("alpha_S", 1e-2, 3.0, starts=(0.4, 0.8)),
            Parameter("B_star", 1.0, 1e15, log=True, starts=(1e7, 1e9)),
            Parameter("alpha_B", 0.02, 3.0, starts=(0.2,)),
        )

    def grid(self, x: Floats, y: Floats) -> Floats:
        """The terms split the middle loss between them."""
        n, _, s = np.exp(np.log(x).mean(axis=1))
        middle = float(np.median(y))
        rows: list[list[float]] = []
        for alpha_n, alpha_s, share, b_star in product((0.05, 0.15), (0.4, 0.8), (0.7, 0.95), (1e7, 1e9)):
            size, steps = share * middle, (1 - share) * middle
            rows.append([n * size ** (1 / alpha_n), alpha_n, s * steps ** (1 / alpha_s), alpha_s, b_star, 0.2])
        return np.array(rows)

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed([1e6, 1e7, 6e7], [3e4, 3e5, 3e6], np.geomspace(1e3, 1e5, 6)), {
            "N_c": 1.5e14,
            "alpha_N": 0.076,
            "S_c": 2.6e3,
            "alpha_S": 0.67,
            "B_star": 1.7e8,
            "alpha_B": 0.205,
        }

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`; the root by Newton's method, its derivative by the implicit function theorem."""
        log_n, log_b, log_s = np.log(x)
        l_nc, alpha_n, l_sc, alpha_s, l_b, alpha_b = (theta[:, i : i + 1] for i in range(6))
        by_n = np.exp(alpha_n * (l_nc - log_n))

        def rest(log_loss: Floats) -> tuple[Floats, Floats, Floats]:
            """The steps' term, its base's logarithm, and the share of the batch penalty in it."""
            log_ratio = l_b - log_loss / alpha_b - log_b
            log_base = l_sc - log_s + np.logaddexp(0.0, log_ratio)
            return np.exp(alpha_s * log_base), log_base, 1.0 / (1.0 + np.exp(-log_ratio))

        # In log L the residual L - by_n - rest(L) rises and is convex enough for Newton from above.
        low = np.log(by_n)
        log_loss = np.log(by_n + rest(low)[0])
        for _ in range(60):
            term, _, share = rest(log_loss)
            loss = np.exp(log_loss)
            step = (loss - by_n - term) / (loss + term * alpha_s * share / alpha_b)
            following = np.maximum(log_loss - step, low)
            if not np.any(np.abs(following - log_loss) > 1e-13):
                break
            log_loss = following
        term, log_base, share = rest(log_loss)
        loss = np.exp(log_loss)
        feedback = 1.0 + term * alpha_s * share / (alpha_b * loss)
        jac = np.stack(
            [
                by_n * alpha_n,
                by_n * (l_nc - log_n),
                term * alpha_s,
                term * log_base,
                term * alpha_s * share,
                term * alpha_s * share * log_loss / alpha_b**2,
            ],
            axis=1,
        )
        return loss, jac / feedback[:, None, :]


def least_loss(params: ArrayLike, N_c: float, alpha_N: float) -> Floats:
    """The loss that a model of this size tends to with unlimited steps (nats)."""
    return (N_c / np.asarray(params, float)) ** alpha_N


def critical_batch_tokens(loss: ArrayLike, B_star: float, alpha_B: float) -> Floats:
    """The batch at which time and compute are traded evenly, at a given loss (tokens)."""
    return B_star / np.asarray(loss, float) ** (1 / alpha_B)


def steps_to_loss(params: float, batch_tokens: ArrayLike, loss: float, **constants: float) -> Floats:
    """Steps to reach a loss at given batch sizes (count); infinite below the model's least loss.

    At a batch far above the critical one it tends to the least number of steps; steps x batch, far below it, to the
    least number of tokens.
    """
    above = loss - float(least_loss(params, constants["N_c"], constants["alpha_N"]))
    batch = np.asarray(batch_tokens, float)
    if above <= 0:
        return np.full(batch.shape, np.inf)
    least = constants["S_c"] * above ** (-1 / constants["alpha_S"])
    return least * (1.0 + critical_batch_tokens(loss, constants["B_star"], constants["alpha_B"]) / batch)
