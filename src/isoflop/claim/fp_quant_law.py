"""Training in few floating-point bits: how to spend them, and how much data is too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.claim.base import Claim, Finding, Size
from isoflop.law.base import crossed
from isoflop.law.engine import Floats, Objective
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.fitted import Fit
from isoflop.law.float_quantisation import FloatQuantisation, Layout, best_layout, critical_tokens

# Sun et al. 2025, arXiv 2501.02423: the fitted constants, the layouts of figure 5, and the critical data sizes of a 1B
# model in units of 1e12 tokens. The sizes come out for blocks of 128 values, which the paper does not say beside them.
PUBLISHED = {
    "n": 69.2343,
    "d": 68973.0621,
    "eps": 1.9061,
    "alpha": 0.2368,
    "beta": 0.5162,
    "gamma": 11334.5197,
    "delta": 3.1926,
    "nu": 2.9543,
}
_LAYOUTS = {3: "E1M1", 4: "E2M1", 5: "E2M2", 6: "E3M2", 8: "E4M3", 10: "E5M4", 16: "E8M7"}
_CRITICAL = {Layout(8, 7): 1730.0, Layout(4, 3): 27.0, Layout(2, 1): 0.4}
_BLOCK = 128
_FLOPS_PER_BIT = 6 / 16  # of training, per parameter, token and bit: the paper's cost of precision
_BUDGETS = (20, 28)  # decades of FLOP in which "a wide range" is tested; ours
_NOISE = 0.003  # between equal runs (standard deviation of log loss); ours
_MISS = 0.03  # of a critical data size against the printed figure, which has two digits


@final
@dataclass(frozen=True)
class FpQuantLaw(Claim):
    """Sun et al. 2025: the best exponent-mantissa split, the critical data size, and the bits that pay, from one law.

    Their 366 runs are not public. So what follows from their constants is worked out anew, by search and by
    minimising the loss itself rather than by their closed forms, and whether such constants can be had from such runs
    is seen on simulated ones. That the law holds for trained models is not tested here.
    """

    paper: ClassVar[str] = "Scaling Laws for Floating Point Quantization Training (arXiv 2501.02423)"
    says: ClassVar[str] = (
        "exponent bits matter a little more than mantissa bits, and each width has a best split; past a critical data "
        "size more tokens make a low-precision model worse; 4 to 8 bits cost least over a wide range of compute"
    )
    tested_by: ClassVar[str] = (
        f"layouts searched for 3 to 16 bits are those of figure 5; the tokens that minimise the loss are within "
        f"{_MISS:.0%} of the printed sizes; the best width is 4 to 8 bits from 1e{_BUDGETS[0]} to 1e{_BUDGETS[1]} FLOP "
        f"and never falls with compute; from simulated runs with {_NOISE:.1%} noise the constants, their intervals and "
        "the layouts come back"
    )

    def findings(self, size: Size) -> list[Finding]:
        """From the published constants, and from 1 (quick) or 20 (full) simulated sets of runs."""
        return [_layouts(), _critical(), _width(), *_recovered(1 if size == "quick" else 20)]


def _layouts() -> Finding:
    found = {bits: str(best_layout(bits, PUBLISHED["delta"], PUBLISHED["nu"])) for bits in _LAYOUTS}
    return Finding(
        "the best layouts of the published constants are those of the paper's figure",
        found == _LAYOUTS,
        {f"fp{bits}": layout for bits, layout in found.items()},
    )


def _loss(n: Floats, d: Floats, layout: Layout) -> Floats:
    return FloatQuantisation().value(n, d, layout.exponent_bits, layout.mantissa_bits, _BLOCK, **PUBLISHED)


def _critical() -> Finding:
    tokens = np.geomspace(1e10, 1e16, 60_001)
    least = {layout: float(tokens[np.argmin(_loss(np.array(1e9), tokens, layout))]) / 1e12 for layout in _CRITICAL}
    return Finding(
        f"1 B parameters, blocks of {_BLOCK}: the loss turns at the printed data sizes (1e12 tokens)",
        all(abs(least[layout] / printed - 1) <= _MISS for layout, printed in _CRITICAL.items()),
        {str(layout): [round(least[layout], 3), printed] for layout, printed in _CRITICAL.items()},
    )


def _width() -> Finding:
    n: Floats = np.geomspace(1e5, 1e15, 2001)
    widths = range(3, 17)
    best: list[float] = []
    for decade in range(_BUDGETS[0], _BUDGETS[1] + 1):
        least: list[float] = []
        for bits in widths:
            layout = best_layout(bits, PUBLISHED["delta"], PUBLISHED["nu"])
            least.append(float(_loss(n, 10.0**decade / (_FLOPS_PER_BIT * bits * n), layout).min()))
        best.append(float(widths[int(np.argmin(least))]))
    return Finding(
        f"from 1e{_BUDGETS[0]} to 1e{_BUDGETS[1]} FLOP the width of least loss is 4 to 8 bits and never falls",
        all(4 <= bits <= 8 for bits in best) and best == sorted(best),
        {"bits_each_decade": best},
    )


def _simulated(seed: int) -> Fit:
    """384 runs, about the paper's number, on sizes and data like the paper's, with noise."""
    layouts: Floats = np.array([(e, m) for e in (1, 2, 3, 4) for m in (1, 2, 4)], float).T
    grid = crossed([4.1e7, 8.5e7, 1.54e8, 6.79e8], [1e10, 2e10, 5e10, 1e11], range(12), [32, 512])
    x = np.concatenate([grid[:2], layouts[:, grid[2].astype(int)], grid[3:]])
    law = FloatQuantisation()
    noise = _NOISE * np.random.default_rng(seed).standard_normal(int(x.shape[1]))
    y = law.value(*x, **PUBLISHED) * np.exp(noise)
    return fit_arrays(law, x, y, Objective("least_squares"), Uncertainty(draws=0))


def _recovered(sets: int) -> list[Finding]:
    held: list[bool] = []
    same: list[bool] = []
    delta_first: list[bool] = []
    ratio: dict[str, list[float]] = {name: [] for name in PUBLISHED}
    for seed in range(sets):
        fit = _simulated(seed)
        low_high = {e.name: (e.low, e.high) for e in fit.parameters(0.9, "covariance")}
        value = dict(zip(PUBLISHED, fit.law.reported(fit.theta).tolist()))
        held += [low_high[name][0] <= truth <= low_high[name][1] for name, truth in PUBLISHED.items()]
        same.append(all(str(best_layout(b, value["delta"], value["nu"])) == s for b, s in _LAYOUTS.items()))
        delta_first.append(value["delta"] > value["nu"])
        for name, truth in PUBLISHED.items():
            ratio[name].append(value[name] / truth)
        ratio.setdefault("critical_tokens_E4M3", []).append(_critical_ratio(value))
    share = float(np.mean(held))
    spread = {name: [round(float(np.min(v)), 3), round(float(np.max(v)), 3)] for name, v in ratio.items()}
    least = 0.6 if sets == 1 else 0.8
    return [
        Finding(
            f"{sets} x 384 simulated runs: at least {least:.0%} of the 90 % intervals hold the true constant",
            share >= least,
            {"share": round(share, 3)} | {f"{name} over truth": ends for name, ends in spread.items()},
        ),
        Finding(
            f"{sets} x 384 simulated runs: the fitted constants give the same layouts, exponent bits first",
            all(same) and all(delta_first),
            {"same_layouts": float(np.mean(same)), "delta_above_nu": float(np.mean(delta_first))},
        ),
    ]


def _critical_ratio(fitted: dict[str, float]) -> float:
    names = ("d", "alpha", "beta", "gamma", "delta", "nu")
    ours, true = (
        float(critical_tokens(1e9, Layout(4, 3), _BLOCK, **{name: c[name] for name in names}))
        for c in (fitted, PUBLISHED)
    )
    return ours / true
