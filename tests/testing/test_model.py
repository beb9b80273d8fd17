"""The contract holds for the mock, and refuses models that break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from isoflop.cost import Cost
from isoflop.model.base import LM, Request, Sample
from isoflop.model.mock import Mock, Skill
from isoflop.testing import check_model


@pytest.mark.parametrize("spec", ["p=0.5", "p=0.2,steps=3,signal=1", "p=0.5,wrong=9,truncate=0.2"])
def test_mocks_keep_the_contract(spec):
    check_model(Mock.open(spec))


class Bent(LM):
    """A mock whose samples pass through `bend`."""

    def __init__(self, bend: Callable[[int, Sample], Sample], digest: str = "bent") -> None:
        self.mock, self.bend = Mock(Skill(p=0.3, steps=2)), bend
        self.name, self.digest = "bent", digest

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        await self.mock.generate(request, lambda slot, s: arrived(slot, self.bend(slot, s)))

    def estimate(self, request: Request) -> Cost:
        return self.mock.estimate(request)


def longer(slot: int, s: Sample) -> Sample:
    return replace(s, cost=replace(s.cost, tokens_out=100))


def dearer(slot: int, s: Sample) -> Sample:
    return replace(s, cost=replace(s.cost, usd=100))


calls: list[int] = []


def moody(slot: int, s: Sample) -> Sample:
    calls.append(slot)
    return replace(s, text=f"{s.text} {len(calls)}")


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (Bent(lambda slot, s: s, digest=""), "no name or no digest"),
        (Bent(lambda slot, s: replace(s, text="same")), "same text in all 8 slots"),
        (Bent(longer), "charged 100 tokens of at most 12"),
        (Bent(dearer), "charged usd=800 after an estimate"),
        (Bent(moody), "another text to the same seed"),
        (Bent(lambda slot, s: replace(s, cost=replace(s.cost, tokens_in=-1))), "less than nothing in tokens_in"),
        (Bent(lambda slot, s: replace(s, token_ids=(1,), logprobs=(-1.0, -1.0))), "to some tokens only"),
    ],
)
def test_a_model_that_breaks_it_is_named(model, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_model(model)
