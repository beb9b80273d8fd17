"""Loss of training in low floating-point precision, from exponent bits, mantissa bits and block size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike

from isoflop.law.base import Law, Parameter, amplitude, crossed, exponent
from isoflop.law.engine import Floats


@final
@dataclass(frozen=True)
class FloatQuantisation(Law):
    """L = n/N^alpha + d/D^beta + eps + D^beta/N^alpha log2(block) / (gamma (E+.5)^delta (M+.5)^nu).

    The penalty grows with data and shrinks with size: more tokens than `critical_tokens` make the model worse. A
    block of 1 value per scale has no penalty. One sign bit, E exponent bits and M mantissa bits.
    """

    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens", "exponent_bits", "mantissa_bits", "block")
    may_be_zero: ClassVar[tuple[str, ...]] = ("exponent_bits", "mantissa_bits")
    source: ClassVar[str] = "Sun et al. 2025, arXiv 2501.02423, eq. 9"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """n, d, eps, alpha, beta, gamma, delta, nu."""
        return (
            amplitude("n"),
            amplitude("d"),
            Parameter("eps", 0.0, 1e3),
            exponent("alpha", 0.15, 0.35),
            exponent("beta", 0.3, 0.55),
            Parameter("gamma", 1e-10, 1e30, log=True, starts=(1e3, 1e5)),
            Parameter("delta", 1e-2, 20.0, starts=(1.5, 3.5)),
            Parameter("nu", 1e-2, 20.0, starts=(1.5, 3.5)),
        )

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        x = crossed([4e7, 1.5e8, 7e8], [1e10, 5e10, 1e11], [1, 2, 3, 4], [1, 2, 3, 4], [32, 512])
        return x, {
            "n": 69.2343,
            "d": 68973.0621,
            "eps": 1.9061,
            "alpha": 0.2368,
            "beta": 0.5162,
            "gamma": 11334.5197,
            "delta": 3.1926,
            "nu": 2.9543,
        }

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        log_n, log_d = np.log(x[:2])
        log_e, log_m = np.log(x[2:4] + 0.5)
        bits = np.log2(x[4])
        l_n, l_d, eps, alpha, beta, l_g, delta, nu = (theta[:, i : i + 1] for i in range(8))
        by_n, by_d = np.exp(l_n - alpha * log_n), np.exp(l_d - beta * log_d)
        penalty = bits * np.exp(beta * log_d - alpha * log_n - l_g - delta * log_e - nu * log_m)
        columns = [by_n, by_d, np.ones_like(by_n), -(by_n + penalty) * log_n, (penalty - by_d) * log_d]
        columns += [-penalty, -penalty * log_e, -penalty * log_m]
        return by_n + by_d + eps + penalty, np.stack(columns, axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """N^-alpha, D^-beta, 1: the law without quantisation."""
        unit = theta.copy()
        unit[:, :3] = 0.0
        return self.model(x, unit)[1][:, :3]


class Layout(NamedTuple):
    """How the bits of a float are spent; one more is the sign."""

    exponent_bits: int
    mantissa_bits: int

    def __str__(self) -> str:
        return f"E{self.exponent_bits}M{self.mantissa_bits}"


def critical_tokens(params: ArrayLike, layout: Layout, block: float, **constants: float) -> Floats:
    """The data size beyond which more tokens raise the loss: where D^-beta's gain is the penalty's growth (tokens).

    Constants: d, alpha, beta, gamma, delta, nu, by name. Infinite for a block of 1.
    """
    c = constants
    room = (layout.exponent_bits + 0.5) ** c["delta"] * (layout.mantissa_bits + 0.5) ** c["nu"]
    size = np.asarray(params, float) ** c["alpha"]
    with np.errstate(divide="ignore"):
        return (c["d"] * c["gamma"] * size * room / np.log2(block)) ** (1 / (2 * c["beta"]))


def best_layout(bits: int, delta: float, nu: float) -> Layout:
    """The split of `bits`, sign included, with the least penalty: whole bits, searched.

    Raises:
        ValueError: fewer than 3 bits, which leave none for one side.

    >>> str(best_layout(8, delta=3.1926, nu=2.9543))
    'E4M3'
    """
    if bits < 3:
        raise ValueError(f"{bits} bits: at least 3 are needed for a sign, an exponent and a mantissa")
    splits = [Layout(e, bits - 1 - e) for e in range(bits)]
    return max(splits, key=lambda s: delta * np.log(s.exponent_bits + 0.5) + nu * np.log(s.mantissa_bits + 0.5))


def best_mantissa(bits: float, delta: float, nu: float) -> float:
    """The same over real numbers: nu bits/(delta + nu) - 1/2 mantissa bits, the sign counted in `bits`."""
    return nu * bits / (delta + nu) - 0.5
