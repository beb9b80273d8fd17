"""An OpenAI-like server that knows what it served: the truth to hold a client's accounts against."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, Self

from aiohttp import web

from isoflop.model.base import LM, Message, ModelError, Prompt, Request, Sample, Sampling
from isoflop.model.mock import Mock

Outcome = Literal["ok", "truncated", "error", "limited", "hung", "dropped"]


@dataclass(frozen=True, slots=True)
class ServerFaults:
    """Which calls go wrong: every so many-th, counted from the first; 0 for never. The first that fits counts.

    Args:
        error_every: answered with status 500; nothing was served.
        limit_every: answered with status 429 and `retry_after`; nothing was served.
        hang_every: never answered; nothing was served.
        drop_every: served, but the connection is closed instead of an answer.
        truncate_every: cut off half-way, with finish reason `length`; served and billed.
        retry_after: the header sent with a 429: seconds, or an HTTP date.
    """

    error_every: int = 0
    limit_every: int = 0
    hang_every: int = 0
    drop_every: int = 0
    truncate_every: int = 0
    retry_after: str = "0"

    def of(self, call: int) -> Outcome:
        """What becomes of the `call`-th call (from 1)."""
        kinds: tuple[tuple[Outcome, int], ...] = (
            ("error", self.error_every),
            ("limited", self.limit_every),
            ("hung", self.hang_every),
            ("dropped", self.drop_every),
            ("truncated", self.truncate_every),
        )
        for outcome, every in kinds:
            if every and call % every == 0:
                return outcome
        return "ok"


@dataclass(frozen=True, slots=True)
class Served:
    """One call as the server saw it.

    Args:
        role: what it was for, told from the prompt.
        prompt: its text, turns joined by line ends.
        seed: as asked for, or None.
        n: samples asked for (count).
        outcome: what became of it.
        tokens_in: prompt tokens served (count).
        tokens_out: generated tokens served (count).
    """

    role: str
    prompt: str
    seed: int | None
    n: int
    outcome: Outcome
    tokens_in: float = 0
    tokens_out: float = 0


class Server:
    """Serves a model as OpenAI's chat and completions APIs do, in a thread of its own, and keeps count.

    A `with` statement runs it; synchronous and asynchronous tests may use it alike. Latency is the model's own
    (`Mock(machine=Machine(latency_s=0.05, jitter_s=0.01))`). A subclass that overrides `respond` shapes the answers.

    Args:
        lm: what answers; a `Mock` by default.
        faults: which calls go wrong.
        roles: role of the calls whose prompt contains a text; all others are `generate`.
        takes_n: whether it can draw several samples in a call, or returns one whatever `n` says.

    >>> with Server() as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        lm: LM | None = None,
        faults: ServerFaults = ServerFaults(),
        *,
        roles: Mapping[str, str] | None = None,
        takes_n: bool = True,
    ) -> None:
        self.lm = Mock() if lm is None else lm
        self.faults, self.takes_n = faults, takes_n
        self.roles = {"Rate how likely the proposed answer is right": "judge"} if roles is None else roles
        self.url = ""
        """The address up to and with `/v1`, while it runs."""
        self.served: list[Served] = []
        self.most_at_once = 0
        """Calls that were under way at the same time, at most (count)."""
        self._calls = self._now = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def specification(self, model: str = "mock", **options: object) -> str:
        """What `isoflop.model.load` opens to reach this server."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"endpoint:{self.url}{'?' if query else ''}{query}#{model}"

    def tokens(self, role: str | None = None) -> tuple[float, float]:
        """Prompt and generated tokens served, in all or for one role (counts)."""
        rows = [s for s in self.served if role in (None, s.role)]
        return sum(s.tokens_in for s in rows), sum(s.tokens_out for s in rows)

    def outcomes(self) -> Counter[Outcome]:
        """How many calls ended how."""
        return Counter(s.outcome for s in self.served)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        self._calls += 1
        asked: dict[str, Any] = await request.json()
        outcome = self.faults.of(self._calls)
        prompt = _prompt(asked)
        text = prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)
        role = next((role for mark, role in self.roles.items() if mark in text), "generate")
        seed, n = asked.get("seed"), int(asked.get("n", 1)) if self.takes_n else 1
        if outcome in ("error", "limited", "hung"):
            self.served.append(Served(role, text, seed, n, outcome))
            if outcome == "hung":
                await self._stopping.wait()
            status, headers = (429, {"Retry-After": self.faults.retry_after}) if outcome == "limited" else (500, {})
            return web.json_response({"error": {"message": f"a fault: {outcome}"}}, status=status, headers=headers)
        samples: dict[int, Sample] = {}
        # One seed draws several samples as vLLM does it: the i-th from seed + i.
        drawn = Request(prompt, tuple((seed or 0) + i for i in range(n)), _sampling(asked))
        try:
            await self.lm.generate(drawn, samples.__setitem__)
        except ModelError as error:
            self.served.append(Served(role, text, seed, n, "error"))
            return web.json_response({"error": {"message": str(error)}}, status=500)
        told = [samples[i] for i in range(n)]
        first = told[0].cost
        tokens_in, tokens_out = first.tokens_in + first.tokens_cached, sum(s.cost.tokens_out for s in told)
        self.served.append(Served(role, text, seed, n, outcome, tokens_in, tokens_out))
        if outcome == "dropped" and request.transport:
            request.transport.close()
        usage = {
            "prompt_tokens": int(tokens_in),
            "completion_tokens": int(tokens_out),
            "total_tokens": int(tokens_in + tokens_out),
            "prompt_tokens_details": {"cached_tokens": int(first.tokens_cached)},
        }
        choices = [_choice(asked, i, sample, outcome == "truncated") for i, sample in enumerate(told)]
        return web.json_response({"object": "completion", "choices": choices, "usage": usage}, dumps=json.dumps)

    async def _count(self, request: web.Request) -> web.StreamResponse:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self.respond(request)
        finally:
            self._now -= 1

    async def _start(self) -> None:
        self._stopping = asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._count)
        app.router.add_post("/v1/completions", self._count)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"

    async def _stop(self) -> None:
        self._stopping.set()
        await self._runner.cleanup()
        await self.lm.close()

    def _wait(self, work: Any) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(timeout=30)


def _prompt(asked: dict[str, Any]) -> Prompt:
    if "prompt" in asked:
        return asked["prompt"]
    turns = tuple(Message(turn["role"], turn["content"]) for turn in asked["messages"])
    return turns[0].content if len(turns) == 1 and turns[0].role == "user" else turns


def _sampling(asked: dict[str, Any]) -> Sampling:
    longest = asked.get("max_completion_tokens") or asked.get("max_tokens") or 256
    return Sampling(longest, asked.get("temperature", 1.0), asked.get("top_p", 1.0), tuple(asked.get("stop") or ()))


def _choice(asked: dict[str, Any], index: int, sample: Sample, cut: bool) -> dict[str, Any]:
    text = sample.text[: len(sample.text) // 2] if cut else sample.text
    choice: dict[str, Any] = {"index": index, "finish_reason": "length" if cut else sample.finish_reason}
    levels = None if asked.get("logprobs") is None or asked["logprobs"] is False else sample.logprobs
    if "messages" in asked:
        choice["message"] = {"role": "assistant", "content": text}
        choice["logprobs"] = None if levels is None else {"content": [{"token": "", "logprob": x} for x in levels]}
    else:
        choice["text"] = text
        choice["logprobs"] = None if levels is None else {"token_logprobs": list(levels)}
    return choice
