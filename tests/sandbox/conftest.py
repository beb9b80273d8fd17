from collections.abc import Iterator

import pytest

from isoflop.sandbox import Limits, Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One worker for all tests: a program that harmed it would show in the next."""
    with Sandbox(Limits(cpu_s=5, wall_s=20, memory_bytes=256 << 20, file_bytes=1 << 20), workers=1) as shared:
        yield shared


@pytest.fixture(scope="session")
def strict() -> Iterator[Sandbox]:
    """For programs that run into limits of time, so that they do it soon."""
    limits = Limits(cpu_s=0.3, wall_s=1, memory_bytes=128 << 20, value_bytes=1 << 20, open_files=32, processes=6)
    with Sandbox(limits, workers=1) as shared:
        yield shared
