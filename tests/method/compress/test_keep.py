"""Doing nothing keeps everything."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from isoflop.cost import FREE, Meter  # noqa: E402
from isoflop.method.compress.keep import Keep  # noqa: E402
from isoflop.method.shrink import Data, Shrinking, Workload, digest  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


def test_it_keeps_the_contract_and_the_model():
    data = Data((torch.ones(4, 3),), torch.ones(4, 2))
    task = Shrinking(nn.Linear(3, 2), Workload("toy", data, data, data, lambda o, t: -((o - t) ** 2).mean(1)))
    check_method(Keep(), task)
    meter = Meter()
    (kept,) = Keep().run(task.open("toy", meter, None, 0), meter, None)
    assert digest(kept.module) == digest(task.module)
    assert meter.spent == FREE
