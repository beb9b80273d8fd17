"""Every test of compression is on one thread and begins from the same random state."""

import pytest


@pytest.fixture(autouse=True)
def _alike():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
