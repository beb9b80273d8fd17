"""Our own small reasoners, `tiny:<task>-<parameters>`: shipped in the package, trained from scratch by `train`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from isoflop.cost import Cost, in_parallel
from isoflop.cost.energy import cpu_joules
from isoflop.model.base import LM, ModelError, Prompt, Request, Sample
from isoflop.model.tiny.decoder import Decoder
from isoflop.model.tiny.engine import Engine, Finished, Job, scored
from isoflop.model.tiny.weights import located, names, read

__all__ = ["Tiny"]


class Tiny(LM):
    """A tiny model behind an engine that all callers share.

    A response ends with the model's end character, which is no part of the text; so a continuation that is empty says
    that the response was complete.

    Args:
        decoder: the network.
        name: what rows call it.
        digest: tells its weights apart.
        slots: the most samples at the same time (count).

    >>> len(Tiny.open("chain-34k").sample(Request("50+70:", seeds=(0, 1))))
    2
    """

    price = "free: this machine"

    def __init__(self, decoder: Decoder, name: str, digest: str, slots: int = 256) -> None:
        self.name, self.digest, self.concurrency = name, digest, slots
        self._decoder = decoder
        self._engine = Engine(decoder, slots)
        self._waiting: dict[Job, tuple[Callable[[int, Sample], None], asyncio.Event, list[int]]] = {}
        self._driver: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._failed: Exception | None = None

    @classmethod
    def open(cls, rest: str) -> Tiny:
        """A shipped model by name, such as `chain-34k`, or one that was trained into a folder, by the folder.

        Raises:
            ValueError: there is none of this name; the message lists those that exist.
            ModelError: its weights are missing or corrupt.
        """
        decoder, digest = read(*located(rest))
        return cls(decoder, f"tiny:{rest}", digest)

    @classmethod
    def known(cls) -> Mapping[str, str]:
        """The shipped models and their tasks."""
        return {name: f"trained on the task {name.rpartition('-')[0]}" for name in names()}

    @property
    def parameters(self) -> int:
        """Weights (count)."""
        return self._decoder.architecture.shape.params

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        """Draw one sample for each seed; concurrent calls share one batch. Cancelled, its slots are dropped.

        Raises:
            ModelError: the prompt does not fit; nothing was spent.
        """
        prompt, positions = self._prompt(request.prompt)
        job = Job(prompt, positions, request.seeds, request.sampling)
        done, left = asyncio.Event(), list(range(len(request.seeds)))
        if not left:
            return
        self._waiting[job] = (arrived, done, left)
        self._engine.submit(job)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.get_running_loop().create_task(self._drive())
        try:
            await done.wait()
        finally:
            job.cancelled = True
            self._waiting.pop(job, None)
        if left:
            raise ModelError(f"{self.name} failed: {self._failed}", fatal=True) from self._failed

    def estimate(self, request: Request) -> Cost:
        """What `request` can cost at most; time and energy at the speed of late, as if nothing else ran.

        Raises:
            ModelError: the prompt does not fit.
        """
        prompt, positions = self._prompt(request.prompt)
        a, T = self._decoder.architecture, len(prompt)
        most = min(request.sampling.max_tokens, a.context - positions[-1])
        weights = self._engine.weight_bytes
        flops = a.shape.flops(most - 1, T, logits=most - 1)
        seconds = (a.shape.flops(T) + len(request.seeds) * flops) / self._engine.flops_per_s
        once = Cost(
            flops=a.shape.flops(T),
            bytes_moved=weights + a.shape.kv_traffic(T, value_bytes=4),
            tokens_in=T,
            wall_s=seconds,
            joules=cpu_joules(seconds * self._engine.threads).mid,
        )
        slot = Cost(
            flops=flops,
            bytes_moved=weights * most + sum(a.shape.kv_traffic(1, T + i, 4) for i in range(most)),
            peak_bytes=weights + a.shape.kv_bytes(T + most, 4),
            tokens_cached=T,
            tokens_out=most,
        )
        return in_parallel([once, *[slot] * len(request.seeds)])

    def score(self, prompt: Prompt, texts: Sequence[str]) -> list[Sample]:
        """What the model thinks of given texts: samples with their log-probabilities and costs, nothing drawn.

        Raises:
            ModelError: a text does not fit.
        """
        a = self._decoder.architecture
        asked = _text(prompt)
        samples = list[Sample]()
        for text in texts:
            self._prompt(asked + text)
        for text, logprobs in zip(texts, scored(self._decoder, asked, texts), strict=True):
            T = len(asked) + len(text)
            traffic = self._engine.weight_bytes / len(texts) + a.shape.kv_traffic(T, value_bytes=4)
            cost = Cost(
                flops=a.shape.flops(T, logits=len(text)),
                bytes_moved=traffic,
                tokens_in=T,
                wall_s=math.nan,
                joules=math.nan,
            )
            samples.append(Sample(text, tuple(a.encode(text)), tuple(logprobs), "stop", cost))
        return samples

    async def close(self) -> None:
        """Stop the thread; the model can be used again."""
        if self._driver is not None:
            await self._driver
        self._driver = None
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _prompt(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        a, text = self._decoder.architecture, _text(prompt)
        asked = text.find(a.prompt_end) + 1
        if asked == 0:
            raise ModelError(f"a prompt of {self.name} ends in {a.prompt_end!r}; {text[-40:]!r} has none")
        answered, room = len(text) - asked, a.context - a.prompt_room
        if asked > a.prompt_room:
            raise ModelError(f"the prompt has {asked} characters; {self.name} takes at most {a.prompt_room}")
        if answered >= room:
            raise ModelError(
                f"the prompt has {answered} characters of a response; {self.name} takes less than {room} of them"
            )
        try:
            return a.encode(text), a.positions(text + a.response_end)
        except ValueError as error:
            raise ModelError(f"{self.name} cannot read the prompt: {error}") from error

    async def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        self._thread = self._thread or ThreadPoolExecutor(1, "tiny")
        try:
            while self._engine.busy:
                for finished in await loop.run_in_executor(self._thread, self._engine.step):
                    self._hand_over(finished)
        except Exception as error:
            self._failed, self._engine = error, Engine(self._decoder, self.concurrency)
            for _, done, _ in self._waiting.values():
                done.set()

    def _hand_over(self, finished: Finished) -> None:
        if finished.job in self._waiting:
            arrived, done, left = self._waiting[finished.job]
            left.remove(finished.slot)
            if not left:
                done.set()
            arrived(finished.slot, finished.sample)


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "".join(turn.content for turn in prompt)
