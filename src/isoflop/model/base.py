"""What computes: requests in, samples out, each with what it cost."""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from isoflop.cost import FREE, Cost, Hold, Meter, Role, in_parallel

FinishReason = Literal["stop", "length", "content_filter", "error"]


class ModelError(Exception):
    """The model could not answer; what was paid for is kept.

    Args:
        message: what failed, where, and what to do.
        fatal: no later call can succeed either (wrong key, no such model), so a run should stop at once.
    """

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = str | tuple[Message, ...]
"""Plain text (a base model continues it, a chat model takes it as the user's turn), or the turns of a conversation."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw a sample.

    Args:
        max_tokens: the most tokens to generate (count).
        temperature: 0 is greedy.
        top_p: nucleus, a fraction of the probability mass.
        stop: strings that end the sample; they are not part of its text.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens={self.max_tokens} must be at least 1")
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature:g} must not be negative")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p:g} must lie in (0, 1]")


@dataclass(frozen=True, slots=True)
class Request:
    """Samples of one prompt, one for each seed.

    Args:
        prompt: what to continue or answer.
        seeds: one a slot; slots never share a seed, and the same seed gives the same sample where the model can.
        sampling: how to draw them.
    """

    prompt: Prompt
    seeds: tuple[int, ...]
    sampling: Sampling = Sampling()

    def sample_keys(self, model: str) -> list[bytes]:
        """A key a slot (16 bytes): the digest of model, prompt, sampling and seed; equal keys mean the same sample."""
        asked = [model, self.prompt if isinstance(self.prompt, str) else [asdict(m) for m in self.prompt]]
        stem = hashlib.blake2b(json.dumps([*asked, asdict(self.sampling)]).encode(), digest_size=16)
        keys: list[bytes] = []
        for seed in self.seeds:
            slot = stem.copy()
            slot.update(seed.to_bytes(8, "little", signed=True))
            keys.append(slot.digest())
        return keys


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion and what it cost.

    Args:
        text: what was generated, without the stop string.
        token_ids: T ids of the generated tokens, or None where the model does not tell.
        logprobs: T log-probabilities (nats) of those tokens under the model at temperature 1, or None.
        finish_reason: `length` means cut off: billed in full, seldom an answer; `error`: no answer, and yet a cost.
        cost: this sample's own share of what its call spent; the shares of a call add up to the call.
        attempts: calls it took, 1 without retries.
        wasted: what the failed attempts spent, charged to the role `retry`.
    """

    text: str
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    finish_reason: FinishReason = "stop"
    cost: Cost = FREE
    attempts: int = 1
    wasted: Cost = FREE


class LM(ABC):
    """A language model: a batch of slots in, a batch of samples out.

    A subclass is one file `model/<kind>.py` whose class names the kind (`endpoint` -> `Endpoint`) and opens a
    specification `<kind>:<rest>` with its classmethod `open`.
    """

    name: str
    """The specification it was opened with, without any secret."""
    digest: str
    """What tells two models apart whose samples must not be mixed (weights' digest; address and model name)."""
    concurrency: int = 32
    """How many samples it works on at the same time; the runner keeps it supplied with more than that."""

    lost: int = 0
    """Calls that were sent and never answered, so that nobody knows what they cost (count)."""
    price: str = "unknown"
    """What it charges and since when that was known, as the provenance of a run states it."""

    @classmethod
    def open(cls, rest: str) -> LM:
        """The model that the words after `<kind>:` name.

        Raises:
            ValueError: they name none; the message says what to write.
            ModelError: it is there but cannot be used.
        """
        raise ValueError(f"{cls.__name__} cannot be opened by name, only made in Python")

    @classmethod
    def known(cls) -> Mapping[str, str]:
        """Names that `open` takes, each with what is behind it; empty where it takes options or any address."""
        return {}

    @abstractmethod
    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        """Draw one sample for each seed and hand over each as soon as it is there.

        Concurrent calls share the model: an engine merges them into one batch, an endpoint limits its connections.
        Cancelled, a model asks for nothing more, and samples it has paid for already may still arrive before the
        cancellation is done.

        Args:
            request: B slots of one prompt.
            arrived: called at most once a slot, on the event loop, with its place in `request.seeds` and the sample. A
                slot that failed for good and yet cost something arrives without text, of finish reason `error`.

        Raises:
            ModelError: a slot could not be had; those that arrived stay valid and paid for.
        """

    @abstractmethod
    def estimate(self, request: Request) -> Cost:
        """What `request` can cost at most; NaN on an axis that nobody can tell beforehand."""

    async def close(self) -> None:  # noqa: B027 - most models have nothing to give back
        """Give back connections, processes and memory; the next call takes them up again."""

    def sample(self, request: Request) -> list[Sample]:
        """Draw the samples of one request and wait for them; for use outside a run.

        Raises:
            ModelError: a slot could not be had.
        """
        samples: dict[int, Sample] = {}

        async def draw() -> None:
            try:
                await self.generate(request, samples.__setitem__)
            finally:
                await self.close()

        asyncio.run(draw())
        return [samples[slot] for slot in range(len(request.seeds))]


class Ask(Protocol):
    """How a metered model's calls get answered: at once, or by the runner, which has others to serve meanwhile."""

    def __call__(self, lm: LM, request: Request, role: Role, meter: Meter) -> Sequence[Sample]:
        """Admit, compute, charge; see `MeteredLM.sample`."""
        ...


@dataclass(frozen=True, slots=True)
class MeteredLM:
    """A model as a method sees it: every call is admitted by a meter before and charged to it after.

    Args:
        lm: the model.
        ask: answers a call; the runner's keeps other problems going meanwhile.
        meter: who pays.
        role: what its calls are for.
    """

    lm: LM
    ask: Ask
    meter: Meter
    role: Role = "generate"

    def sample(self, request: Request) -> Sequence[Sample]:
        """The samples of one request, paid for.

        Raises:
            BudgetExhausted: they would not fit the budget; nothing was spent.
            ModelError: the model could not answer.
        """
        return self.ask(self.lm, request, self.role, self.meter)


def ask_directly(lm: LM, request: Request, role: Role, meter: Meter) -> Sequence[Sample]:
    """Answer a call at once: for one method on its own, without a run around it."""
    hold = meter.admit(lm.estimate(request))
    try:
        samples = lm.sample(request)
    except BaseException:
        hold.release()
        raise
    settle(hold, samples, role)
    return samples


def settle(hold: Hold, samples: Sequence[Sample], role: Role) -> None:
    """Charge what a call's samples spent, their failed attempts apart."""
    hold.settle(in_parallel(s.cost for s in samples), role)
    if any(s.attempts > 1 for s in samples):
        hold.meter.charge(in_parallel(s.wasted for s in samples), "retry", shared=hold.shared)
