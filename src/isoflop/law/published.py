# ruff: noqa: E501 - a table
"""Published constants, each with where it is from, what its N and its loss are, and what it may be used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from isoflop.law.base import Law
from isoflop.law.engine import Floats
from isoflop.law.find import law as law_named


@dataclass(frozen=True, slots=True)
class Published:
    """Constants of one law, as one paper gives them.

    Args:
        law: the law's name.
        values: its parameters.
        source: paper, table or equation.
        counts: which parameters N has in it; "" where the law has no N.
        units: of inputs and output.
        corpus: what the loss was measured on.
        transplant: whether the constants can be expected to hold for another corpus, tokeniser or architecture at all.
        note: what a reader must know.
        fields: fields of the law.
    """

    law: str
    values: Mapping[str, float]
    source: str
    counts: str
    units: str
    corpus: str
    transplant: bool = False
    note: str = ""
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def model(self) -> Law:
        """The law itself."""
        return law_named(self.law, **self.fields)

    def value(self, *inputs: ArrayLike) -> Floats:
        """What these constants predict, inputs in the law's order."""
        return self.model().value(*inputs, **self.values)


_NATS = "params, tokens; nats a token"


def _chinchilla(E: float, A: float, B: float, alpha: float, beta: float) -> dict[str, float]:
    return {"E": E, "A": A, "B": B, "alpha": alpha, "beta": beta}


_HOFFMANN = "all parameters as the paper counts them; four readings move A by 437-493 (Schaeffer et al. 2025)"

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "hoffmann2022_rounded": Published(
            "chinchilla", _chinchilla(1.69, 406.4, 410.7, 0.34, 0.28), "arXiv 2203.15556, eq. 10",
            _HOFFMANN, _NATS, "MassiveText",
            note="rounding alone costs 275 nats of log-likelihood on the paper's own points",
        ),
        "hoffmann2022": Published(
            "chinchilla",
            _chinchilla(float(np.exp(0.5267228)), float(np.exp(6.0073404)), float(np.exp(6.0179186)), 0.33917084,
            0.2849083),
            "arXiv 2203.15556, unrounded in its TeX source, as used in epoch-research/analyzing-chinchilla",
            _HOFFMANN, _NATS, "MassiveText",
        ),
        "besiroglu2024": Published(
            "chinchilla", _chinchilla(1.81686, 482.00572, 2085.4342, 0.34781, 0.36585), "arXiv 2404.10102, table 1",
            _HOFFMANN, _NATS, "MassiveText",
            note="its free scale makes the objective least absolute deviations, not Huber at 1e-3",
        ),
        "besiroglu2024_huber": Published(
            "chinchilla", _chinchilla(1.81722, 477.83, 2143.4, 0.34731, 0.36717),
            "recomputed: Huber 1e-3 on the same 240 points, objective 0.00101827402",
            _HOFFMANN, _NATS, "MassiveText",
        ),
        "kaplan2020_joint": Published(
            "kaplan", {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}, "arXiv 2001.08361, table 2",
            "without embeddings", _NATS, "WebText2", note="not the constants of the one-variable laws",
        ),
        "kaplan2020_size": Published(
            "power", {"A": 8.8e13**0.076, "alpha": 0.076}, "arXiv 2001.08361, eq. 1.1", "without embeddings",
            "params; nats a token", "WebText2",
        ),
        "kaplan2020_data": Published(
            "power", {"A": 5.4e13**0.095, "alpha": 0.095}, "arXiv 2001.08361, eq. 1.2", "", "tokens; nats a token", "WebText2",
        ),
        "kaplan2020_compute": Published(
            "power", {"A": 3.1e8**0.05, "alpha": 0.05}, "arXiv 2001.08361, eq. 1.3", "",
            "compute at the critical batch, PF-days of 8.64e19 FLOP; nats a token", "WebText2",
        ),
        "muennighoff2023": Published(
            "repeated_data", {"R_D": 15.387756, "R_N": 5.309743}, "arXiv 2305.16264, sec. 6 and its notebook",
            "all parameters", "params, tokens, unique tokens; nats a token", "C4",
            note="alpha = beta tied; on its own 182 runs R_D = 95, R_N = 1.7 fit better: a local optimum",
        ),
        **{
            f"gadre2024_{corpus}": Published(
                "over_training", {"a": a, "b": b, "eta": eta, "E": E}, "arXiv 2403.08540, fits of its repository",
                "all parameters (open_lm)", _NATS, f"C4 validation, trained on {name}", note="from five small runs",
            )
            for corpus, name, a, b, eta, E in (
                ("rpj", "RedPajama", 166.21099, 366.6872, 0.27285, 1.83665),
                ("c4", "C4", 113.6926, 189.51552, 0.24247, 1.50826),
                ("refinedweb", "RefinedWeb", 125.0957, 246.20669, 0.25439, 1.73446),
            )
        },
        "gadre2024_error": Published(
            "loss_to_error", {"eps": 0.85699, "k": 2.20649, "gamma": 0.71459}, "arXiv 2403.08540, 17 tasks", "",
            "C4 loss in nats; mean error over 17 tasks", "C4 validation, trained on RedPajama",
        ),
        "steplaw2025_rate": Published(
            "step_law", {"c": 1.79, "a": -0.713, "b": 0.307}, "arXiv 2503.04715, eq. 1", "without embeddings",
            "params, tokens; learning rate", "its own mix",
            note="a user's refit of the released table gives N^-0.767 (stepfun-ai/steplaw issue 10)",
        ),
        "steplaw2025_batch": Published(
            "power", {"A": 0.58, "alpha": -0.571}, "arXiv 2503.04715, eq. 1", "", "tokens; batch in tokens", "its own mix",
        ),
        **{
            f"deepseek2024_{what}": Published(
                "power", {"A": factor, "alpha": -power}, "arXiv 2401.02954, eqs. 1, 4",
                "non-embedding FLOPs a token M, not N", f"training FLOP; {what}", "its own mix",
            )
            for what, factor, power in (
                ("rate", 0.3118, -0.1250), ("batch", 0.2920, 0.3271), ("size", 0.1715, 0.5243), ("tokens", 5.8316,
                0.4757),
            )
        },
        "kumar2024": Published(
            "integer_precision",
            _chinchilla(2.7648, 4299.0, 18060.0, 0.4965, 0.4965) | {"gamma_w": 2.6745, "gamma_a": 2.2102, "gamma_kv":
            0.9578}, "arXiv 2411.04330, table 2", "without embeddings", "params, tokens, bits; nats a token", "Dolma",
            note="alpha = beta tied; its fits also shift P by n_x (.3037, 1.4072, 2.4185), which this form leaves out",
        ),
        "sun2025": Published(
            "float_quantisation",
            {
                "n": 69.2343, "alpha": 0.2368, "d": 68973.0621, "beta": 0.5162, "eps": 1.9061,
                "gamma": 11334.5197, "delta": 3.1926, "nu": 2.9543,
            },
            "arXiv 2501.02423, table 1", "all parameters", "params, tokens, bits, values a scale; nats a token", "Dolma",
            note="its critical data sizes hold for blocks of 128, which it does not say; channel-wise is 2^13.1567",
        ),
        **{
            f"multipower2025_{size}M": Published(
                "multi_power", dict(zip(("L0", "A", "alpha", "B", "C", "beta", "gamma"), values, strict=True)),
                "arXiv 2503.12811 and its repository", "", "curve, step; nats a token", "its own mix",
                note="fits carry the schedule: set the law's field", fields=MappingProxyType({"schedules": ()}),
            )
            for size, values in (
                (25, (3.04045406, 0.52468604, 0.50786857, 363.78751622, 2.06560812, 0.58279013, 0.64142257)),
                (100, (2.6514477, 0.60115152, 0.45295811, 437.9464276, 2.13245612, 0.59785199, 0.65523644)),
                (400, (2.37474466, 0.65421216, 0.42878731, 523.42464371, 2.02462735, 0.59350493, 0.63472457)),
            )
        },
        "clark2022_sbase": Published(
            "routed", {"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "E_start": 1.847, "E_max": 314.478},
            "arXiv 2202.01169, table 3, from memory, not looked up", "dense size without embeddings", "params, experts; nats",
            "MassiveText validation", note="from memory: check before use; 130e9 tokens",
        ),
    }
)  # fmt: skip
"""By name. None of them transplants: a law's form does, its constants are of one corpus, tokeniser and architecture."""


def published(name: str) -> Published:
    """The constants called `name`.

    Raises:
        ValueError: no such constants; the message lists those that exist.

    >>> round(float(published("kaplan2020_size").value(1e8)), 3)
    2.83
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown constants {name!r}; there are {', '.join(PUBLISHED)}")
    return PUBLISHED[name]
