"""Public run tables, where this machine has them, and one fit that several files ask."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.law.simulated import runs

from isoflop.law.chinchilla import Chinchilla
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.fitted import Fit

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "law"
Rows = list[dict[str, str]]


@pytest.fixture(scope="session")
def public() -> Callable[[str], Rows]:
    """Rows of a public table; the test is skipped where the data are not."""

    def load(name: str) -> Rows:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"no {name} beside the repository")
        with path.open(newline="", encoding="utf-8") as lines:
            return list(csv.DictReader(lines))

    return load


@pytest.fixture(scope="session")
def found() -> Fit:
    return fit_arrays(Chinchilla(), *runs(), uncertainty=Uncertainty(draws=300))
