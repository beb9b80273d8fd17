"""The contract that every method keeps; third parties check theirs with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from isoflop.cost import AXES, FREE, Axis, Budget, BudgetExhausted, Cost, Meter
from isoflop.method.base import Method, Task
from isoflop.method.search.asked import Asked, prompt_of
from isoflop.model.base import ask_directly
from isoflop.model.mock import Mock, Skill
from isoflop.task import Grader, Question, Questions

_PROBLEMS = 3


def check_method(method: Method[Any, Any], task: Task[Any, Any] | None = None) -> None:
    """Check that a method keeps the contract of all methods, on a few problems of `task`.

    The same seed gives the same answers at the same cost; a meter that allows nothing is never charged; what a budget
    allows is never exceeded, and answers yielded before it ran out stay as they were; the method is a frozen dataclass
    that survives a round trip through JSON, and says of what paper it is, what it costs and what it buys.

    Args:
        method: the method to check.
        task: problems of its family; sums put to a mock model unless given, for search.

    Raises:
        AssertionError: it does not keep the contract; the message says where.
    """
    task = task or _sums()
    _check_facts(method)
    _check_round_trip(method)
    for key in task.keys("test")[:_PROBLEMS]:
        whole = _play(method, task, key, Meter())
        _check(
            whole == _play(method, task, key, Meter()), method, f"gave other answers or costs a second time on {key}"
        )
        _check(bool(whole), method, f"yielded nothing on {key}")
        _check_budget(method, task, key, whole)


def _check_budget(method: Method[Any, Any], task: Task[Any, Any], key: str, whole: list[tuple[Any, Cost]]) -> None:
    nothing = Meter(parent=_Closed())
    _check(not _play(method, task, key, nothing) or whole[0][1] == FREE, method, "answered without being admitted")
    clockless = replace(nothing.spent, wall_s=0, joules=0)  # being refused takes time too
    _check(clockless == FREE, method, "spent although nothing was admitted")
    for axis in AXES:
        total = whole[-1][1][axis]
        if axis == "peak_bytes" or not total > 0:  # memory is given back, so that a budget on it limits single calls
            continue
        meter = Meter([Budget(axis, total / 2)])
        part = _play(method, task, key, meter)
        _check(meter.spent[axis] <= total / 2, method, f"exceeded a budget of {axis}={total / 2:g}")
        _check(part == whole[: len(part)], method, f"answered differently under a budget of {axis}={total / 2:g}")


class _Closed(Meter):
    """A meter that admits nothing that costs anything."""

    def left(self, axis: Axis) -> float:
        return 0.0

    def refuse_if_over(self, estimate: Cost) -> None:
        if estimate != FREE:
            raise BudgetExhausted("tokens_out", 0.0, 0.0, estimate.tokens_out)


def _play(method: Method[Any, Any], task: Task[Any, Any], key: str, meter: Meter) -> list[tuple[Any, Cost]]:
    """Each answer with what was spent up to it, until the method ends or the meter refuses."""
    curve: list[tuple[Any, Cost]] = []
    problem = task.open(key, meter, ask_directly, seed=0)
    try:
        for answer in method.run(problem, meter, np.random.default_rng(0)):
            curve.append((task.describe(answer)[0], replace(meter.spent, wall_s=0, joules=0)))  # these are measured
    except BudgetExhausted:
        pass
    return curve


def _check_facts(method: Method[Any, Any]) -> None:
    for fact in ("source", "cost", "buys"):
        _check(bool(getattr(type(method), fact, "")), method, f"does not say its {fact}")
    _check(bool(type(method).__doc__), method, "has no docstring")


def _check_round_trip(method: Method[Any, Any]) -> None:
    form = json.loads(json.dumps(method.to_json()))
    _check(_same(form, method.to_json()), method, "does not survive JSON")
    for f in fields(method):  # pyright: ignore[reportArgumentType] - a concrete method is a dataclass
        try:
            setattr(method, f.name, None)
        except AttributeError:
            continue
        raise AssertionError(f"{method}: its field {f.name} can be changed; make it a frozen dataclass")


def _same(a: Mapping[str, object], b: Mapping[str, object]) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _check(holds: bool, method: Method[Any, Any], what: str) -> None:
    if not holds:
        raise AssertionError(f"{method} {what}")


class _Number(Grader):
    """The last word of a completion, if it is a number."""

    def extract(self, text: str) -> str | None:
        words = text.split()
        return words[-1].rstrip(".") if words and words[-1].rstrip(".").isdigit() else None

    def canonical(self, answer: str) -> str:
        return answer


def _sums() -> Task[Any, Any]:
    questions = Questions("sums", [Question(f"q{i}", f"{i} + {i}?", str(2 * i), _Number()) for i in range(_PROBLEMS)])
    lm = Mock(Skill(p=0.4))
    lm.know({prompt_of(q): q.answer for q in questions})
    return Asked(questions, lm)
