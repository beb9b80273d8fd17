"""A power law whose exponent changes at breaks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, amplitude, crossed
from isoflop.law.engine import Floats

_WIDTHS = (0.2, 0.6)
_SLOPES = (-0.2, 0.2, 0.6)


@final
@dataclass(frozen=True)
class Broken(Law):
    """y = a + b x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i): segments on a log-log plot with smooth joints.

    Can follow descents in steps and curves that turn; has four parameters more than a power law with floor per break,
    so it needs many runs, and beyond the last break it is no better informed than a power law.

    Args:
        breaks: joints between segments (count).
    """

    breaks: int = 1

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    output: ClassVar[str] = "y"
    source: ClassVar[str] = "Caballero et al. 2022, arXiv 2210.14891, eq. 1"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """a, b, c0, then c_i, d_i, f_i of each break."""
        joints = [
            parameter
            for i in range(1, self.breaks + 1)
            for parameter in (
                Parameter(f"c{i}", -5.0, 5.0, starts=_SLOPES),
                Parameter(f"d{i}", 1e-60, 1e60, log=True, starts=(1.0,)),
                Parameter(f"f{i}", 0.02, 5.0, log=True, starts=_WIDTHS),
            )
        ]
        return (Parameter("a", 0.0, 1e12), amplitude("b"), Parameter("c0", -5.0, 5.0, starts=(0.1, 0.4)), *joints)

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        rise = (
            {"c1": 0.35, "d1": 1e5, "f1": 0.4}
            if self.breaks == 1
            else {
                f"{k}{i}": v
                for i, d in enumerate(np.geomspace(1e3, 1e7, self.breaks + 2)[1:-1], 1)
                for k, v in (("c", 0.3), ("d", float(d)), ("f", 0.3))
            }
        )
        return crossed(np.geomspace(1e2, 1e8, 80)), {"a": 0.5, "b": 8.0, "c0": 0.1, **rise}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        (log_x,) = np.log(x)
        log_term = theta[:, 1:2] - theta[:, 2:3] * log_x
        slopes: list[Floats] = []
        for i in range(3, theta.shape[1], 3):
            c, log_d, width = theta[:, i : i + 1], theta[:, i + 1 : i + 2], np.exp(theta[:, i + 2 : i + 3])
            z = (log_x - log_d) / width
            soft = np.logaddexp(0.0, z)
            share = 1.0 / (1.0 + np.exp(-z))
            log_term = log_term - c * width * soft
            slopes += [-width * soft, c * share, -c * width * (soft - z * share)]
        term = np.exp(log_term)
        columns = [np.ones_like(term), term, -term * log_x, *(term * slope for slope in slopes)]
        return theta[:, :1] + term, np.stack(columns, axis=1)

    def basis(self, x: Floats, theta: Floats) -> Floats:
        """1, and the power term without its factor."""
        unit = theta.copy()
        unit[:, :2] = 0.0
        term = self.model(x, unit)[0]
        return np.stack([np.ones_like(term), term], axis=1)

    def grid(self, x: Floats, y: Floats) -> Floats:
        """Breaks at quantiles of x, in order."""
        del y
        order = np.sort(np.log(x[0]))
        places = np.exp(np.quantile(order, (np.arange(4) + 1) / 5))
        ordered = [d for d in product(places, repeat=self.breaks) if list(d) == sorted(set(d))]
        return np.array(
            [
                [np.nan, np.nan, c0, *(v for c, d, f in zip(slopes, at, widths) for v in (c, d, f))]
                for c0 in (0.1, 0.4)
                for slopes in product(_SLOPES, repeat=self.breaks)
                for at in ordered
                for widths in product(_WIDTHS, repeat=self.breaks)
            ]
        )
