"""The contract holds for every method, and refuses methods that break it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from isoflop.cost import Meter
from isoflop.method.base import Method, parts
from isoflop.method.search.problem import Answer, Problem, SearchMethod
from isoflop.run import read_method
from isoflop.testing import check_method


@pytest.mark.parametrize("name", sorted(parts(Method, "isoflop.method.search")))
def test_every_search_method_keeps_the_contract(name):
    check_method(read_method(name))


@pytest.mark.parametrize("name", ["best_of_n", "self_consistency", "weighted_vote"])
@pytest.mark.parametrize("parts", ["n=5,batch=2", "n=8,batch=1,stop=confident(at_least=0.9)"])
def test_with_other_parts(name, parts):
    check_method(read_method(f"{name}:{parts}"))


@pytest.mark.parametrize("value", ["likelihood", "oracle", "judge(max_tokens=4)"])
def test_with_every_value(value):
    check_method(read_method(f"best_of_n:n=6,value={value}"))
    check_method(read_method(f"weighted_vote:n=6,value={value}"))


@dataclass(frozen=True)
class Good(SearchMethod):
    """Asks once."""

    source: ClassVar[str] = "here"
    cost: ClassVar[str] = "1 sample"
    buys: ClassVar[str] = "p"

    def run(self, problem: Problem, meter: Meter, rng: np.random.Generator) -> Iterator[Answer]:
        yield Answer(problem.draw(1)[0].answer)


drawn: list[int] = []


class Forgetful(Good):
    """Draws more each time."""

    def run(self, problem: Problem, meter: Meter, rng: np.random.Generator) -> Iterator[Answer]:
        drawn.append(1)
        problem.draw(len(drawn))
        yield Answer(str(len(drawn)))


class Silent(Good):
    """Says nothing."""

    def run(self, problem: Problem, meter: Meter, rng: np.random.Generator) -> Iterator[Answer]:
        yield from ()


@dataclass
class Changing(Method[Problem, Answer]):
    """Not frozen."""

    source: ClassVar[str] = "here"
    cost: ClassVar[str] = "1 sample"
    buys: ClassVar[str] = "p"
    n: int = 1

    def run(self, problem: Problem, meter: Meter, rng: np.random.Generator) -> Iterator[Answer]:
        yield Answer(problem.draw(1)[0].answer)


class Nameless(Good):
    """Says nothing of where it comes from."""

    source: ClassVar[str] = ""


def test_a_good_method_passes():
    check_method(Good())


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (Forgetful(), "gave other answers or costs a second time"),
        (Silent(), "yielded nothing"),
        (Changing(), "field n can be changed"),
        (Nameless(), "does not say its source"),
    ],
)
def test_a_method_that_breaks_it_is_named(method, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_method(method)
