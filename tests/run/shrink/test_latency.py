"""Modules are timed in turn, each on every example; what the machine did to the figures is said."""

import time

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from isoflop.method.shrink import Data  # noqa: E402
from isoflop.run.shrink.latency import latencies  # noqa: E402


class Counting(nn.Module):
    def __init__(self, order, name):
        super().__init__()
        self.order, self.name = order, name

    def forward(self, x):
        self.order.append((self.name, float(x[0, 0]), torch.get_num_threads()))
        return x


class Asleep(nn.Module):
    def forward(self, x):
        time.sleep(0.002)
        return x


DATA = Data((torch.arange(3.0)[:, None],))


def test_each_round_is_every_module_on_every_example_alone_on_one_thread():
    order = []
    found = latencies([Counting(order, "a"), Counting(order, "b")], DATA, rounds=4)
    assert order[:2] == [("a", 0, 1), ("b", 0, 1)], "once before, so that what is prepared on first use is not timed"
    rounds = [order[2 + 6 * i : 8 + 6 * i] for i in range(4)]
    assert all(sorted(r) == [(n, float(i), 1) for n in "ab" for i in range(3)] for r in rounds)
    assert len(order) == 26
    assert found[0].ratio.value == 1
    assert found[1].wall_s.low <= found[1].wall_s.value <= found[1].wall_s.high


def test_there_are_three_rounds_even_where_they_take_too_long():
    order = []
    latencies([Counting(order, "a")], DATA, rounds=100, at_most_s=0.0)
    assert len(order) == 1 + 3 * 3


def test_calls_without_the_processor_are_told_by_their_processor_time_and_reported():
    (found,) = latencies([Asleep()], DATA, rounds=3)
    assert found.wall_s.value < 0.002
    assert found.trouble.startswith("the machine was busy")
    assert "100% of the calls were disturbed" in found.trouble
