"""Loss when tokens are seen more than once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.law.base import Law, Parameter, crossed
from isoflop.law.engine import Floats


@final
@dataclass(frozen=True)
class RepeatedData(Law):
    """Chinchilla's law in effective parameters and tokens: each repeat is worth less, by a decay R_D.

    D' = U + U R_D (1 - exp(-(D/U - 1)/R_D)) for U unique tokens, which saturates at U (1 + R_D); N' likewise with R_N
    beyond the size that is compute-optimal for U. The two decays are fitted; the five constants of the unrepeated law
    are fields, fitted before on runs without repeats (as in the paper), and their own uncertainty is not carried on.

    Args:
        E: irreducible loss (nats).
        A: factor of the size term.
        B: factor of the data term.
        alpha: exponent of the size term.
        beta: exponent of the data term.
    """

    E: float = 1.8691436784054858
    A: float = 520.8249516599187
    B: float = 1487.716093782861
    alpha: float = 0.3526596
    beta: float = 0.3526596

    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens", "unique_tokens")
    source: ClassVar[str] = "Muennighoff et al. 2023, arXiv 2305.16264, eq. 5; constants of its C4 fit"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """R_D, R_N."""
        return tuple(Parameter(name, 1e-2, 1e4, log=True, starts=(1.0, 5.0, 20.0)) for name in ("R_D", "R_N"))

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed([1e8, 1e9, 6e9], [5e9, 2e10, 1e11, 5e11], [1e9, 5e9]), {"R_D": 15.4, "R_N": 5.3}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        n, d, unique = x
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        unique = np.minimum(unique, d)
        enough = np.minimum(ratio * (unique * ratio) ** (self.beta / self.alpha), n)
        terms: list[Floats] = []
        slopes: list[Floats] = []
        for i, (total, base, factor, power) in enumerate(
            ((d, unique, self.B, self.beta), (n, enough, self.A, self.alpha))
        ):
            decay = np.exp(theta[:, i : i + 1])
            repeats = total / base - 1.0
            kept = np.exp(-repeats / decay)
            worth = base * (1.0 + decay * (1.0 - kept))
            term = factor * worth**-power
            terms.append(term)
            slopes.append(-power * term / worth * base * (decay * (1.0 - kept) - repeats * kept))
        return self.E + terms[0] + terms[1], np.stack(slopes, axis=1)
