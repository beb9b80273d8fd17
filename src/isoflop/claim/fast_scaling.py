"""Scaling a network's width first costs the fewest activations, and so the least time, for its FLOPs."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from isoflop.claim.base import Claim, CouldNotRunError, Finding, Size, Value
from isoflop.law.base import crossed
from isoflop.law.compound import Compound, fast_compound
from isoflop.law.engine import Floats
from isoflop.law.fit import Uncertainty, fit_arrays

_EXPONENT = 0.1  # by which a fitted exponent may be off; ours
_GROWTH = 0.1  # by which activations may grow otherwise than foretold (fraction); ours
_RULES = {"width": 1.0, "compound, alpha 0.8": 0.8, "uniform": 1 / 3}  # the share of the FLOPs given to width
Scale = tuple[float, float, float]


@final
@dataclass(frozen=True)
class FastScaling(Claim):
    """Dollar et al. 2021 scale convolutional networks; activations, not FLOPs, foretell their time on accelerators.

    Measured on residual networks here, on one processor thread: of FLOPs and activations the counts, of time the
    least of several runs. What the paper says of accuracy needs ImageNet and is not tried.
    """

    paper: ClassVar[str] = "Fast and Accurate Model Scaling (arXiv 2103.06877)"
    says: ClassVar[str] = (
        "FLOPs grow with depth, width squared and resolution squared, activations with depth, width and resolution "
        "squared; for the same FLOPs scaling mostly width raises activations as about the root, and run-time follows "
        "activations"
    )
    tested_by: ClassVar[str] = (
        f"exponents fitted to residual networks within {_EXPONENT} of (1, 2, 2) and (1, 1, 2); activations of the "
        f"rules within {_GROWTH:.0%} of what they foretell; width-first is the fastest at equal FLOPs, and time at "
        "equal FLOPs is foretold better with activations than without"
    )

    def findings(self, size: Size) -> list[Finding]:
        """Quick: up to 4 times the FLOPs. Full: up to 16 times, timed oftener."""
        try:
            network: Any = importlib.import_module("isoflop.claim.network.residual")
        except ModuleNotFoundError as error:
            raise CouldNotRunError(
                f"it measures networks and needs {error.name}: pip install 'isoflop[torch]'"
            ) from error
        most, rounds = (4.0, 5) if size == "quick" else (16.0, 15)
        root = float(np.sqrt(most))
        design = crossed([1, 1.5, root], [1, 1.5, root], [1, 1.5, 2.0]).T
        found = _exponents([tuple(v) for v in design.tolist()], network)
        rules = {name: network.as_built(*fast_compound(most, share)[:3]) for name, share in _RULES.items()}
        rules |= {"depth": network.as_built(most, 1, 1), "resolution": network.as_built(1, 1, root)}
        spent = network.measure([(1.0, 1.0, 1.0), *rules.values()], rounds)
        return [*found, *_rules(rules, np.array(spent), most)]


def _exponents(scales: Sequence[Scale], network: Any) -> list[Finding]:
    x = np.array([network.as_built(*scale) for scale in scales]).T
    spent = np.array(network.measure(scales, 1)).T
    found: list[Finding] = []
    for what, y, claimed in (("FLOPs", spent[0], (1, 2, 2)), ("activations", spent[1], (1, 1, 2))):
        fit = fit_arrays(Compound(), x, y, uncertainty=Uncertainty(draws=0))
        exponents = fit.law.reported(fit.theta)[1:]
        off = float(np.abs(exponents - claimed).max())
        measured: dict[str, Value] = {"exponents": [round(v, 3) for v in exponents.tolist()], "networks": float(len(y))}
        shown = ", ".join(map(str, claimed))
        found.append(
            Finding(f"{what} grow with exponents {shown} of depth, width, resolution", off <= _EXPONENT, measured)
        )
    return found


def _rules(rules: dict[str, Scale], spent: Floats, most: float) -> list[Finding]:
    """What each rule does to FLOPs, activations and time, relative to the network before scaling."""
    flops, activations, seconds = (spent[1:] / spent[0]).T
    foretold = np.array([d * w * r * r for d, w, r in rules.values()])
    off = activations / foretold - 1
    growth: dict[str, Value] = {
        name: [round(float(v), 3) for v in row] for name, row in zip(rules, np.stack([flops, activations, seconds]).T)
    }
    # Whole blocks and channels leave FLOPs a little unequal: time is compared a FLOP.
    each = dict(zip(rules, (seconds / flops).tolist()))
    fastest = min(each, key=each.__getitem__)
    logs = np.log(np.stack([activations / flops, seconds / flops]))
    together = float(np.corrcoef(logs)[0, 1])
    slow: dict[str, Value] = {f"time a FLOP, {name}": round(v, 3) for name, v in each.items()}
    return [
        Finding(
            f"activations at {most:g} x FLOPs are what the rules foretell, within {_GROWTH:.0%}",
            bool(np.abs(off).max() <= _GROWTH),
            {"(FLOPs, activations, time), " + name: v for name, v in growth.items()},
        ),
        Finding(
            f"at {most:g} x FLOPs, scaling width is fastest and depth or resolution slowest",
            fastest == "width" and max(each, key=each.__getitem__) in {"depth", "resolution"},
            slow if fastest == "width" else slow | {"why not": f"{fastest} is: this processor is bound by arithmetic"},
        ),
        Finding(
            "at equal FLOPs, time grows with activations",
            together > 0.5,
            {"correlation of their logarithms": round(together, 3), "rules": float(len(rules))},
        ),
    ]
