"""The law that made the runs is chosen, by what it foretells; laws that do not take the columns are not tried."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.law.choose import candidates, choose, held_out, law_classes, wanted_fields
from isoflop.law.columns import BadData
from isoflop.law.engine import Objective
from isoflop.law.find import names


def test_candidates_are_told_by_name_else_by_number():
    assert {"chinchilla", "kaplan", "over_training"} <= set(candidates(["params", "tokens"], "loss"))
    assert set(candidates(["N", "D"], "nats")) == set(candidates(["params", "tokens"], "loss"))
    assert set(candidates(["params", "tokens", "unique_tokens"], "loss")) == {"repeated_data"}
    assert "sigmoid" in candidates(["flops"], "accuracy")
    assert "sigmoid" not in candidates(["flops"], "loss")
    assert "step_law" in candidates(["params", "tokens"], "learning_rate")
    assert not candidates(["a", "b", "c", "d"], "loss")


def test_every_law_is_known_and_those_that_need_more_than_data_say_what():
    assert set(law_classes()) == set(names())
    assert wanted_fields(law_classes()["multi_power"]) == ["schedules"]
    assert not wanted_fields(law_classes()["chinchilla"])


def test_the_largest_runs_are_held_out():
    held = held_out(np.array([[1.0, 9, 2, 3], [1.0, 1, 9, 1]]))
    assert held.tolist() == [False, True, True, False]


def table(floor: float) -> dict[str, list[float]]:
    x = np.geomspace(1e3, 1e8, 16)
    y = (floor + 20.0 * x**-0.4) * np.exp(0.004 * np.random.default_rng(0).standard_normal(16))
    return {"x": x.tolist(), "y": y.tolist()}


@pytest.mark.parametrize(("floor", "best"), [(0.0, "power"), (0.5, "power_floor")])
def test_a_floor_is_found_where_there_is_one(floor, best):
    tried, aim = choose(table(floor), ["x"], "y", Objective("least_squares"))
    assert tried[0].law == best
    assert aim == Objective("least_squares")
    fitted = [c for c in tried if not c.why_not]
    assert all(np.isfinite([c.miss, c.aicc, c.bic]).all() for c in fitted)


def test_laws_with_too_many_parameters_say_so_and_none_is_an_error():
    few = {name: values[::2] for name, values in table(0.5).items()}
    tried, aim = choose(few, ["x"], "y")
    assert aim == Objective()
    refused = {c.law: c.why_not for c in tried if c.why_not}
    assert "runs are needed" in refused["broken"]
    with pytest.raises(BadData, match="3 rows: choosing a law needs at least"):
        choose({name: values[:3] for name, values in few.items()}, ["x"], "y")
    with pytest.raises(ValueError, match="no law takes a, b, c, d and gives y"):
        choose(few, ["a", "b", "c", "d"], "y")
