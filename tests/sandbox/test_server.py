import os
from collections.abc import Iterator

import pytest

from isoflop.sandbox import server
from isoflop.sandbox.server import Desk


@pytest.fixture
def processors() -> Iterator[set[int]]:
    before = os.sched_getaffinity(0)
    if len(before) == 1:
        pytest.skip("one processor")
    yield before
    os.sched_setaffinity(0, before)


def test_neighbours_start_on_different_processors(processors: set[int]) -> None:
    desks = []
    for seat in range(len(processors)):
        os.sched_setaffinity(0, processors)
        desks.append(Desk(seat).processor)
        assert os.sched_getaffinity(0) == {desks[-1]}
    assert set(desks) == processors


def test_a_crowded_desk_is_left_and_an_empty_one_is_not(processors: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.random, "choice", max)
    desk = Desk(0)
    assert desk.processor == min(processors)
    for _ in range(10):
        desk.look_back(worked_s=0.95, elapsed_s=1.0)
    desk.look_back(worked_s=0.01, elapsed_s=0.1)  # too little to tell
    assert desk.processor == min(processors)
    desk.look_back(worked_s=0.4, elapsed_s=1.0)
    assert os.sched_getaffinity(0) == {desk.processor} == {max(processors)}
