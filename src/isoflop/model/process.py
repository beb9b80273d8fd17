"""Process rewards as a model that judges: the value heads of tiny models, `process:<name>`."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from isoflop.cost import Cost, in_parallel
from isoflop.cost.energy import EnergyMeter
from isoflop.model.base import LM, ModelError, Prompt, Request, Sample
from isoflop.model.tiny.value import StepValue, open_values, valued
from isoflop.model.tiny.weights import kept, located


class Process(LM):
    """The value head of a tiny model: asked with a question and a response so far, it tells for each step how likely
    the response will end right, as numbers with a space between them.

    It draws nothing: every seed gives the same text. Each call computes question and response anew.

    Args:
        value: the head with its network.
        name: what rows call it.
        digest: tells its weights apart.
    """

    price = "free: this machine"

    def __init__(self, value: StepValue, name: str, digest: str) -> None:
        self._value, self.name, self.digest = value, name, digest

    @classmethod
    def open(cls, rest: str) -> Process:
        """The value head of a tiny model, such as `chain-132k`, or of one in a folder.

        Raises:
            ValueError: there is no model of this name; the message lists those that exist.
            ModelError: it has no value head, or a file is corrupt.
        """
        name, folder = located(rest)
        value = open_values(name, folder)
        digests = (kept(stem, folder)[1] for stem in (name, f"{name}.value"))
        return cls(value, f"process:{rest}", hashlib.sha256("".join(digests).encode()).hexdigest())

    @classmethod
    def known(cls) -> Mapping[str, str]:
        """The shipped heads."""
        return {name: f"values of the steps of tiny:{name}" for name in valued()}

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        """Hand over the values for each seed.

        Raises:
            ModelError: the prompt does not fit the model; nothing was spent.
        """
        question, text = self._split(request.prompt)
        for slot in range(len(request.seeds)):
            arrived(slot, await asyncio.to_thread(self._judged, question, text))

    def estimate(self, request: Request) -> Cost:
        """What `request` costs, but for the steps, which are taken to be as many as characters.

        Raises:
            ModelError: the prompt does not fit the model.
        """
        question, text = self._split(request.prompt)
        one = replace(self._value.cost(len(question), len(text), len(text)), wall_s=math.nan, joules=math.nan)
        return in_parallel([one] * len(request.seeds))

    def _judged(self, question: str, text: str) -> Sample:
        energy, began, busy = EnergyMeter(), time.perf_counter(), time.process_time()
        (values,), cost = self._value.of(question, [text])
        joules = energy.since_last(time.process_time() - busy).mid
        spent = replace(cost, wall_s=time.perf_counter() - began, joules=joules)
        return Sample(" ".join(f"{value:.4f}" for value in values), cost=spent)

    def _split(self, prompt: Prompt) -> tuple[str, str]:
        text = prompt if isinstance(prompt, str) else "".join(turn.content for turn in prompt)
        a = self._value.architecture
        asked = text.find(a.prompt_end) + 1
        if not 0 < asked <= a.prompt_room or len(text) - asked > a.context - a.prompt_room:
            raise ModelError(
                f"{self.name} judges at most {a.prompt_room} characters of a question, which end in {a.prompt_end!r}, "
                f"and {a.context - a.prompt_room} of a response; {text[-40:]!r} has {asked} and {len(text) - asked}"
            )
        try:
            a.encode(text)
        except ValueError as error:
            raise ModelError(f"{self.name} cannot read the prompt: {error}") from error
        return text[:asked], text[asked:]
