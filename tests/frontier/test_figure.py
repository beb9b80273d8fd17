"""The frontier as a figure: a line a curve, and one of steps."""

from isoflop.cost import Cost
from isoflop.frontier import Frontier
from isoflop.record import Record


def test_each_curve_and_the_frontier_are_drawn():
    rows = [
        Record("", method, "toy", f"q{i}", "dev", 0, step, Cost(), Cost(flops=cost * (step + 1)), quality)
        for method, cost, quality in (("a", 1, 0.2), ("b", 5, 0.9))
        for i in range(4)
        for step in range(2)
    ]
    front = Frontier(rows, "flops")
    drawn = front.plot()
    assert [line.name for line in drawn.data] == ["a", "b", "frontier"]
    assert list(drawn.data[0].x) == [1, 2]
    assert list(drawn.data[2].x) == [p.cost.value for p in front.points] + [10]
    assert drawn.layout.xaxis.title.text == "FLOPs for one"
