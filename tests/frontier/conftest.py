"""A bench whose truth is known: problems with Beta-distributed success probability, perfect or noisy selection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from isoflop.cost import Cost
from isoflop.record import Graded, Record


@dataclass
class World:
    """P problems, n samples each, drawn once, seen by every method."""

    right: np.ndarray
    tokens: np.ndarray

    @property
    def keys(self) -> list[str]:
        return [f"q{i:05d}" for i in range(len(self.right))]

    def split(self, i: int) -> str:
        return ("dev", "test")[i % 2]

    def best_of_n(self, n: int, batch: int = 1, until_right: bool = False, value: str = "tests") -> list[Record]:
        """Repeated sampling with a perfect verifier, all at once or until the first success."""
        method = f"best_of_n(n={n}, batch={batch}, value={value}{', stop=confident' if until_right else ''})"
        solved = np.logical_or.accumulate(self.right, axis=1).astype(float).tolist()
        spent = self.tokens.cumsum(axis=1).tolist()
        rows: list[Record] = []
        for i, key in enumerate(self.keys):
            for step in range(-(-n // batch)):
                last = min((step + 1) * batch, n) - 1
                quality = solved[i][last]
                rows.append(self.row(method, i, key, step, spent[i][last], quality))
                if until_right and quality:
                    break
        return rows

    def single(self, seed: int = 0) -> list[Record]:
        """The first sample."""
        return [
            self.row("single", i, key, 0, self.tokens[i, 0], float(self.right[i, 0]), seed)
            for i, key in enumerate(self.keys)
        ]

    def row(self, method: str, i: int, key: str, step: int, tokens: float, quality: float, seed: int = 0) -> Record:
        cost = Cost(tokens_out=tokens, flops=2e9 * tokens, usd=float("nan"))
        return Record("mock:", method, "sim", key, self.split(i), seed, step, Cost(), cost, quality)

    def graded(self) -> list[Graded]:
        n = self.right.shape[1]
        return [
            Graded("mock:", key, self.split(i), None, n, int(self.right[i].sum())) for i, key in enumerate(self.keys)
        ]


@pytest.fixture
def world() -> Callable[..., World]:
    def make(problems: int, n: int, a: float = 0.441, b: float = 0.549, seed: int = 0) -> World:
        rng = np.random.default_rng(seed)
        p = rng.beta(a, b, problems)
        right = rng.random((problems, n)) < p[:, None]
        return World(right, rng.integers(50, 150, (problems, n)).astype(float))

    return make
