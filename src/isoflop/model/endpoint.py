"""Any OpenAI-compatible server: chat or completions, over a lean HTTP path."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any, Literal, final
from urllib.parse import parse_qsl, urlsplit

from isoflop.cost import FREE, UNKNOWN, Cost, in_parallel
from isoflop.cost.prices import Price, price_of, price_row
from isoflop.model.base import LM, FinishReason, ModelError, Prompt, Request, Sample
from isoflop.model.http import HttpError, Job, Poster, Reply
from isoflop.model.options import changed, read, refuse_unknown

_KEYS = ("ISOFLOP_API_KEY", "OPENAI_API_KEY")
_FINISH: Mapping[str | None, FinishReason] = {
    "length": "length",
    "content_filter": "content_filter",
    "error": "error",
    "abort": "error",
}
_TRANSIENT = frozenset({408, 409, 425, 429})  # and all from 500 on
_FATAL = frozenset({401, 403, 404})
_TEMPLATE_TOKENS = 64  # room for what a chat template adds around the turns


@dataclass(frozen=True, slots=True)
class Options:
    """What an endpoint is asked for.

    Args:
        api: `chat` sends turns to /chat/completions, `completions` sends plain text to /completions.
        concurrency: calls at the same time (count).
        n: samples of one prompt asked for in one call (count); servers that return fewer are asked again for the rest.
        logprobs: ask for log-probabilities; a server that refuses them is asked without.
        parameters: parameters a token passes through (count), if known: FLOPs are then 2 a parameter and token.
        key_env: environment variable with the API key; by default ISOFLOP_API_KEY, or OPENAI_API_KEY at OpenAI only.

    Raises:
        ValueError: a value out of its range.
    """

    api: Literal["chat", "completions"] = "chat"
    concurrency: int = 32
    n: int = 1
    logprobs: bool = True
    parameters: float = math.nan
    key_env: str = ""

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.n < 1:
            raise ValueError(f"concurrency={self.concurrency} and n={self.n} must be at least 1")


@dataclass(frozen=True, slots=True)
class Patience:
    """What an endpoint does about trouble.

    Args:
        timeout_s: how long an answer may take (seconds).
        retries: further attempts after a failed one (count).
        backoff_s: pause before the first retry (seconds), doubled for each further one, less up to half at random.
        longest_wait_s: the longest pause a server may demand by `Retry-After` (seconds); more is an error.
        lost: what an attempt is charged that was sent and never answered (time-out, connection dropped), since nobody
            knows what it cost: `bound` charges as much as the attempt that was answered in its place, or else the
            most it can have cost, so that budgets hold and the run goes on; `unknown` charges NaN, which spreads.

    Raises:
        ValueError: a value out of its range.
    """

    timeout_s: float = 600.0
    retries: int = 8
    backoff_s: float = 0.5
    longest_wait_s: float = 120.0
    lost: Literal["bound", "unknown"] = "bound"

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.retries < 0 or self.backoff_s < 0 or self.longest_wait_s < 0:
            raise ValueError("timeout_s must be positive; retries, backoff_s and longest_wait_s not negative")


@final
class Endpoint(LM):
    """A model behind an OpenAI-compatible server: `endpoint:http://host:port/v1?api=completions#model-name`.

    Every slot is a call of its own with its own seed, unless `n` puts several into one. Time-outs, dropped connections
    and the statuses 408, 409, 425, 429 and 5xx are tried again, as late as `Retry-After` or a growing pause demands;
    any other status is an error at once, and 401, 403 and 404 end the run. Redirects are not followed, so a key goes
    nowhere but to the host it was meant for; it is never part of a name, a message or a sample.

    Accounting. Tokens are the server's own count (`usage`), reasoning and cut-off samples included, cached prompt
    tokens apart; where a server tells none they are counted from the log-probabilities or else unknown (NaN). The
    shares of the samples of one call add up to it exactly. An answer with an error status is taken to have cost
    nothing. What was sent and never answered is charged as `Patience.lost` says, under the role `retry`, and counted
    in `lost`. A slot that fails for good after such attempts arrives as a sample without text, of finish reason
    `error`, so that its cost is known, before `ModelError` is raised.

    Cancelled, `generate` sends no more and waits for what it has sent: those samples are paid for, so they still
    arrive, for the caller to charge to the role `cancelled`. Cancelled again, or closed, it drops them; they are
    counted in `lost`, and nobody knows their cost.

    Args:
        url: the server's address up to and with `/v1`.
        model: which of its models.
        options: what to ask for.
        patience: what to do about trouble.
        price: USD per million tokens; the dated table's if not given, which knows few hosts and models.

    Raises:
        ValueError: the address is none, or contains a password.
    """

    def __init__(
        self,
        url: str,
        model: str,
        options: Options = Options(),
        patience: Patience = Patience(),
        price: Price | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise ValueError("an endpoint's address must not contain a password; put the key into ISOFLOP_API_KEY")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or not model:
            raise ValueError(
                "an endpoint must read endpoint:http://host:port/v1#model-name, with options as in "
                f"http://host:port/v1?api=completions&concurrency=64#model-name, not {url.partition('?')[0]}#{model}"
            )
        self.url, self.model = url.rstrip("/"), model
        self.options, self.patience = options, patience
        self.concurrency = options.concurrency
        self.lost = 0
        """Calls sent and never answered (count)."""
        row = price_row(parts.hostname, model)
        known = price_of(parts.hostname, model) if price is None else price
        self._price = known
        source = "given" if price is not None else row.source if row else ""
        self.price = f"USD per million: {known}; {source}" if source else "unknown"
        words = changed(options, patience, *([price] if price else []))
        query = "&".join(f"{k}={v}" for k, v in words.items())
        self.name = f"endpoint:{self.url}{'?' if query else ''}{query}#{model}"
        self.digest = f"endpoint:{self.url}?api={options.api}#{model}"
        self._key = _key_for(parts.hostname, options.key_env)
        self._target = self.url + ("/chat/completions" if options.api == "chat" else "/completions")
        self._connect()  # an address or a key that cannot be sent is told now, not in the middle of a run
        self._connections: Poster | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answered = False
        # What the server turned out not to take.
        self._logprobs, self._n, self._limit = options.logprobs, options.n, "max_tokens"

    @classmethod
    def open(cls, rest: str) -> Endpoint:
        """An endpoint from its address, the model's name behind `#`, and options behind `?`.

        Raises:
            ValueError: it is no address, names no model, or has an unknown option.
        """
        parts = urlsplit(rest)
        model, _, late = parts.fragment.partition("?")  # people write the options last, too
        words = dict(parse_qsl("&".join(filter(None, (parts.query, late))), keep_blank_values=True))
        refuse_unknown(words, (Options, Patience, Price), "endpoint")
        price = read(Price, words)
        url = parts._replace(query="", fragment="").geturl()
        return cls(url, model, read(Options, words), read(Patience, words), price if changed(price) else None)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        """Draw one sample for each seed; see `LM.generate`, and above what cancelling does."""
        loop = asyncio.get_running_loop()
        if self._connections is None or self._loop is not loop:
            self._connections, self._loop = self._connect(), loop
        slots = range(len(request.seeds))
        calls = [_Call(slots[i : i + self._n]) for i in slots[:: self._n]]
        for call in calls:
            call.task = loop.create_task(self._answer(request, call, arrived))
        pending = {call.task for call in calls if call.task}
        tasks = frozenset(pending)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
                if any(getattr(_error(task), "fatal", False) for task in done):
                    _withdraw(calls)
        except asyncio.CancelledError:
            _withdraw(calls)
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            for task in tasks:
                _error(task)  # seen, so that the loop does not complain of it
            raise
        errors = [error for task in tasks if (error := _error(task)) is not None]
        if errors:
            raise max(errors, key=lambda error: (not isinstance(error, ModelError), getattr(error, "fatal", False)))

    def estimate(self, request: Request) -> Cost:
        """What `request` can cost at most, retries apart: a prompt has no more tokens than bytes, plus its template.

        Its time is 0: calls run beside each other, and the run's clock keeps that budget.
        """
        slots = len(request.seeds)
        tokens_in = _most_tokens(request.prompt) * -(-slots // self._n)
        return replace(self._cost(tokens_in, 0, slots * request.sampling.max_tokens), tokens_cached=tokens_in)

    async def close(self) -> None:
        """Close the connections; the next call opens them again."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()

    # One call

    async def _answer(self, request: Request, call: _Call, arrived: Callable[[int, Sample], None]) -> None:
        try:
            while call.slots:
                now = call.slots[: self._n]
                samples = await self._attempts(
                    self._body(request, [request.seeds[slot] for slot in now]), call, len(now)
                )
                wasted = self._wasted(call, in_parallel(s.cost for s in samples)) if call.failed else FREE
                for slot, sample in zip(now, samples):
                    if call.failed:
                        sample, wasted = replace(sample, attempts=1 + call.failed, wasted=wasted), FREE
                    arrived(slot, sample)
                if len(samples) < len(now):
                    self._n = 1  # the server does not know `n`: one call a slot from here on
                call.slots = call.slots[len(samples) :]
                call.failed, call.lost, call.failed_s = 0, 0, 0.0
                if call.withdrawn:
                    return
        except ModelError:
            if call.lost:
                most = self.estimate(replace(request, seeds=request.seeds[: len(call.slots[: self._n])]))
                paid = self._wasted(call, replace(most, tokens_cached=0))
                arrived(call.slots[0], Sample("", finish_reason="error", cost=paid, attempts=call.failed))
            raise

    async def _attempts(self, body: bytes, call: _Call, n: int) -> list[Sample]:
        """The samples that the server answers with, after as many attempts as patience allows."""
        while True:
            answer = await self._attempt(body, call, n)
            if isinstance(answer, list):
                return answer
            if answer.dislikes and (other := self._adapt(answer, body)):
                body = other
                continue
            call.failed += 1
            call.lost += answer.lost
            self.lost += answer.lost
            # A server that never answered is more likely absent than busy, and is not waited for as long.
            retries = self.patience.retries if self._answered else min(self.patience.retries, 2)
            if not answer.transient or call.failed > retries or call.withdrawn:
                tried = f" (tried {call.failed} times)" if call.failed > 1 else ""
                raise ModelError(f"{answer.message}{tried}", fatal=answer.fatal or not self._answered)
            if answer.retry_after_s > self.patience.longest_wait_s:
                why = f"{answer.message}; it demands a pause of {answer.retry_after_s:.0f} s, more than longest_wait_s"
                raise ModelError(why)
            if answer.retry_after_s and self._connections:  # the server speaks for all calls
                self._connections.pause(answer.retry_after_s)
            await asyncio.sleep(self.patience.backoff_s * 2 ** (call.failed - 1) * random.uniform(0.5, 1))

    async def _attempt(self, body: bytes, call: _Call, n: int) -> list[Sample] | _Trouble:
        """One call: its samples, or what went wrong."""
        if self._connections is None:
            return _Trouble(f"{self._target} was closed while in use")
        connections, call.job = self._connections, self._connections.post(body)
        try:
            reply = await call.job.reply
        except HttpError as error:
            call.failed_s += 0.0 if call.job.sent_at is None else asyncio.get_running_loop().time() - call.job.sent_at
            hint = "" if self._answered or error.sent else "; is the server running?"
            return _Trouble(f"{error}{hint}", transient=not error.hopeless, fatal=error.hopeless, lost=error.sent)
        except asyncio.CancelledError:
            self.lost += call.job.sent
            connections.give_up(call.job)
            raise
        finally:
            call.job = None
        try:
            answer = self._read(reply.body, n, reply.wall_s) if reply.status == 200 else self._refusal(reply)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            why = f"{self._target} gave an answer that makes no sense ({type(error).__name__})"
            answer = _Trouble(why, transient=True, lost=True)
        self._answered = self._answered or isinstance(answer, list) or reply.status != 200
        call.failed_s += reply.wall_s if isinstance(answer, _Trouble) else 0.0
        return answer

    def _read(self, text: bytes, n: int, wall_s: float) -> list[Sample] | _Trouble:
        reply = json.loads(self._without_key(text, samples=True))
        if not reply.get("choices"):
            why = f"{self._target} answered with an error: {self._message(text)}"
            return _Trouble(why, transient=True, lost=not reply.get("error"))
        return self._samples(reply, n, wall_s)

    def _refusal(self, reply: Reply) -> _Trouble:
        status, headers = reply.status, reply.headers
        if 300 <= status < 400:
            where = self._without_key(headers.get("location", "elsewhere").partition("?")[0].encode()).decode()
            why = f"{self._target} redirects to {where}; redirects are not followed, give the address itself"
            return _Trouble(why, fatal=True)
        message = self._message(reply.body)
        why = f"{self._target} answered {status}: {message}"
        if status in _FATAL or "insufficient_quota" in message:
            hint = "" if self._key else "; no key was sent, put it into ISOFLOP_API_KEY"
            if status == 404:
                hint = "; is that the model's name, and does the address end in /v1?"
            return _Trouble(why + hint, fatal=True)
        return _Trouble(
            why,
            transient=status in _TRANSIENT or status >= 500,
            dislikes=status in (400, 422),
            retry_after_s=_retry_after_s(headers.get("retry-after", "")),
        )

    def _message(self, text: bytes) -> str:
        """What the server says is wrong, on one line."""
        text = self._without_key(text)
        words: Any = text.decode(errors="replace")
        try:
            body: Any = json.loads(text)
            said: Any = body.get("error", body)
            words = said if isinstance(said, str) else said.get("message") or said.get("detail") or words
            if not isinstance(said, str) and said.get("code") == "insufficient_quota":
                words = f"{words} (insufficient_quota)"
        except (ValueError, AttributeError):
            pass
        return " ".join(str(words).split())[:300] or "(no message)"

    def _adapt(self, trouble: _Trouble, body: bytes) -> bytes | None:
        """The call without what the server says it does not take, if that does not change the samples."""
        asked: dict[str, Any] = json.loads(body)
        if "max_completion_tokens" in trouble.message and "max_tokens" in asked:
            self._limit = "max_completion_tokens"
            asked[self._limit] = asked.pop("max_tokens")
        elif "logprobs" in trouble.message and "logprobs" in asked:
            self._logprobs = False
            del asked["logprobs"]
        else:
            return None
        return json.dumps(asked).encode()

    # What is sent and what comes back

    def _body(self, request: Request, seeds: Sequence[int]) -> bytes:
        sampling, prompt = request.sampling, request.prompt
        asked: dict[str, Any] = {"model": self.model}
        if self.options.api == "completions":
            if not isinstance(prompt, str):
                raise ModelError("api=completions takes plain text, not a conversation; use api=chat", fatal=True)
            asked["prompt"] = prompt
        elif isinstance(prompt, str):
            asked["messages"] = [{"role": "user", "content": prompt}]
        else:
            asked["messages"] = [{"role": turn.role, "content": turn.content} for turn in prompt]
        asked[self._limit] = sampling.max_tokens
        asked["temperature"] = sampling.temperature
        if sampling.top_p < 1:
            asked["top_p"] = sampling.top_p
        if sampling.stop:
            asked["stop"] = sampling.stop
        if self._logprobs:
            asked["logprobs"] = True if self.options.api == "chat" else 0
        if len(seeds) > 1:
            asked["n"] = len(seeds)
        asked["seed"] = _seed(seeds)
        return json.dumps(asked).encode()

    def _samples(self, reply: dict[str, Any], most: int, wall_s: float) -> list[Sample]:
        """The samples in an answer, each with its share of the call."""
        choices: list[dict[str, Any]] = reply["choices"][:most]
        logprobs = [_logprobs(choice) for choice in choices]
        tokens_in, cached, tokens_out = _usage(reply.get("usage"))
        counted = [len(levels) if levels is not None else math.nan for levels in logprobs]
        if math.isnan(tokens_out):
            tokens_out = float(sum(counted))
        texts = [
            str(choice["message"].get("content") or "" if "message" in choice else choice["text"]) for choice in choices
        ]
        weights = counted if sum(counted) == tokens_out else [float(1 + len(text)) for text in texts]
        shares = zip(_even(tokens_in - cached, len(choices)), _even(cached, len(choices)), _split(tokens_out, weights))
        return [
            Sample(
                text,
                logprobs=levels,
                finish_reason=_FINISH.get(choice.get("finish_reason"), "stop"),
                cost=self._cost(*share, wall_s),
            )
            for choice, text, levels, share in zip(choices, texts, logprobs, shares, strict=True)
        ]

    def _cost(self, tokens_in: float, tokens_cached: float, tokens_out: float, wall_s: float = 0.0) -> Cost:
        return Cost(
            flops=2 * self.options.parameters * (tokens_in + tokens_out),
            bytes_moved=math.nan,
            peak_bytes=math.nan,
            tokens_in=tokens_in,
            tokens_cached=tokens_cached,
            tokens_out=tokens_out,
            wall_s=wall_s,
            joules=math.nan,
            usd=self._price.usd(tokens_in, tokens_cached, tokens_out),
        )

    def _wasted(self, call: _Call, answered: Cost) -> Cost:
        """What the failed attempts of a call spent; see `Patience.lost`."""
        each = UNKNOWN if self.patience.lost == "unknown" else answered
        return replace(each.times(call.lost) if call.lost else FREE, wall_s=call.failed_s)

    def _connect(self) -> Poster:
        headers = {"Authorization": f"Bearer {self._key.value}"} if self._key else {}
        return Poster(self._target, headers, self.concurrency, self.patience.timeout_s)

    def _without_key(self, text: bytes, *, samples: bool = False) -> bytes:
        """`text` with the key, which a server may echo, blotted out; in samples unless it may be a word by chance."""
        if self._key is None or (samples and len(self._key.value) < 16):
            return text
        return text.replace(self._key.value.encode(), b"***")


@dataclass(slots=True, eq=False)
class _Call:
    slots: Sequence[int]
    task: asyncio.Task[None] | None = None
    job: Job | None = None
    withdrawn: bool = False
    failed: int = 0
    lost: int = 0
    failed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Trouble:
    message: str
    transient: bool = False
    fatal: bool = False
    lost: bool = False
    dislikes: bool = False
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Key:
    value: str = field(repr=False)  # so that no traceback that shows variables shows it


def _key_for(host: str, variable: str) -> _Key | None:
    """The API key for a host; OpenAI's goes to OpenAI only."""
    if variable:
        value = os.environ.get(variable, "").strip()
        if not value:
            raise ValueError(f"key_env={variable}: that environment variable is not set")
        return _Key(value)
    at_openai = host == "openai.com" or host.endswith(".openai.com")
    value = os.environ.get(_KEYS[0]) or (os.environ.get(_KEYS[1]) if at_openai else None) or ""
    return _Key(value.strip()) if value.strip() else None


def _withdraw(calls: Sequence[_Call]) -> None:
    for call in calls:
        call.withdrawn = True
        if call.task and not (call.job and call.job.sent):
            call.task.cancel()


def _error(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _seed(seeds: Sequence[int]) -> int:
    """The seed of a call; one for several samples is a digest, as servers count up from it to the next samples'."""
    if len(seeds) == 1:
        return seeds[0]
    return int.from_bytes(hashlib.blake2b(repr(list(seeds)).encode(), digest_size=4).digest(), "little") % 2**31


def _most_tokens(prompt: Prompt) -> int:
    turns = [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]
    return sum(len(turn.encode()) + 8 for turn in turns) + _TEMPLATE_TOKENS


def _logprobs(choice: dict[str, Any]) -> tuple[float, ...] | None:
    given: Any = choice.get("logprobs") or {}
    if given.get("content") is not None:
        return tuple(float(token["logprob"]) for token in given["content"])
    levels = given.get("token_logprobs")
    return None if levels is None else tuple(float(x) for x in levels if x is not None)


def _usage(usage: Any) -> tuple[float, float, float]:
    """Prompt tokens, those of them from a cache, and generated tokens; NaN where the server does not tell."""
    told: dict[str, Any] = usage or {}
    tokens_in, tokens_out = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    details: dict[str, Any] = told.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or told.get("prompt_cache_hit_tokens") or 0
    parts: dict[str, Any] = told.get("completion_tokens_details") or {}
    reasoning = parts.get("reasoning_tokens") or 0
    if reasoning and told.get("total_tokens") == tokens_in + tokens_out + reasoning:
        tokens_out += reasoning  # most servers count reasoning among the completion; some beside it
    return tokens_in, min(_count(cached), tokens_in), tokens_out


def _count(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value >= 0 else math.nan


def _even(total: float, n: int) -> list[float]:
    return _split(total, [1.0] * n)


def _split(total: float, weights: Sequence[float]) -> list[float]:
    """A count divided by weight into whole counts that add up to it exactly; NaN stays NaN."""
    if math.isnan(total) or len(weights) == 1:
        return [total] * len(weights)
    whole = sum(weights)
    ideal = [total * w / whole for w in weights]
    shares = [float(math.floor(x)) for x in ideal]
    rest = round(total - sum(shares))
    for i in sorted(range(len(weights)), key=lambda i: shares[i] - ideal[i])[:rest]:
        shares[i] += 1
    return shares


def _retry_after_s(words: str) -> float:
    """The pause a `Retry-After` header demands (seconds): a number, or a date."""
    if not words:
        return 0.0
    try:
        wait_s = float(words)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(words).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(wait_s, 0.0) if math.isfinite(wait_s) else 0.0
