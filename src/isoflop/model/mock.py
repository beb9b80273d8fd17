"""A model of known truth: how often it is right, what it says when it is wrong, how it fails and what it costs."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import final

from scipy.special import betaincinv

from isoflop.cost import Cost, in_parallel
from isoflop.cost.prices import Price
from isoflop.model.base import LM, FinishReason, ModelError, Prompt, Request, Sample, Sampling
from isoflop.model.options import changed, pairs, read, refuse_unknown

_PRICE = Price(input=0.1, output=0.4)  # nominal, so that the axis is filled
_BYTES_PER_PARAMETER = 2  # nominal: 16-bit weights, read once a generated token
_JOULES_PER_FLOP = 1e-11  # nominal: 100 GFLOP/J
_TOKEN = re.compile(r"\s*\S+|\s+")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_LETTERS = str.maketrans("0123456789", "abcdefghij")
_FIRST_STEP = re.compile(r"^Step 1: ", re.MULTILINE)
_STEP = re.compile(r"^Step (\d+): (\S+)$", re.MULTILINE)


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(f"mock: {message}")


@dataclass(frozen=True, slots=True)
class Skill:
    """What a mock knows.

    Args:
        p: probability that a sample is right, the same for all problems; None draws it per problem from `beta`.
        beta: A and B of the Beta distribution of p over problems, (0.441, 0.549) by default: the fit to the published
            GSM8K samples of a 0.5B model. Coverage at k is then 1 - B(A, B+k)/B(A, B).
        wrong: how many different wrong answers a problem has (count).
        lure: the share of the wrong samples that give the same, most tempting answer, the rest being spread evenly;
            0 spreads all evenly. A majority vote is right in the limit if and only if p > (1-p) * max(lure, 1/wrong).
        steps: lines of reasoning before the answer (count). A sample is right if all are; each is with p^(1/steps).
        signal: by how much the mean log-probability of right samples exceeds that of wrong ones (nats; its spread
            within either is 0.25); 0 makes likelihood worthless.

    Raises:
        ValueError: a value out of its range.
    """

    p: float | None = None
    beta: tuple[float, float] = (0.441, 0.549)
    wrong: int = 4
    lure: float = 0.0
    steps: int = 0
    signal: float = 0.0

    def __post_init__(self) -> None:
        _check(self.p is None or 0 <= self.p <= 1, f"p={self.p} must lie in [0, 1]")
        _check(min(self.beta) > 0, f"beta={self.beta[0]}:{self.beta[1]} must be positive")
        _check(self.wrong >= 1, f"wrong={self.wrong} must be at least 1")
        _check(0 <= self.lure <= 1, f"lure={self.lure} must lie in [0, 1]")
        _check(self.steps >= 0, f"steps={self.steps} must not be negative")
        _check(math.isfinite(self.signal), f"signal={self.signal} must be finite")


@dataclass(frozen=True, slots=True)
class Faults:
    """How a mock fails; each share is of all (prompt, seed) pairs, and no pair fails in two ways.

    Args:
        error: share for which no answer can be had (`ModelError`).
        truncate: share cut off half-way: `finish_reason` is `length`, there is no answer, and it is billed.
        hang: share that never returns, until cancelled.
        retry: share that succeeds at the second attempt, the first one wasted.

    Raises:
        ValueError: a share out of [0, 1], or more than 1 in all.
    """

    error: float = 0.0
    truncate: float = 0.0
    hang: float = 0.0
    retry: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.error, self.truncate, self.hang, self.retry)
        _check(min(shares) >= 0 and sum(shares) <= 1, f"faults {shares} must be shares that add up to at most 1")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a mock pretends to run on.

    Args:
        parameters: nominal size (count), from which FLOPs, bytes and joules follow.
        latency_s: time a sample takes (seconds), simulated by sleeping.
        jitter_s: up to this much more, uniformly (seconds).
        concurrency: samples at the same time (count); more wait.

    Raises:
        ValueError: a value out of its range.
    """

    parameters: float = 1e9
    latency_s: float = 0.0
    jitter_s: float = 0.0
    concurrency: int = 32

    def __post_init__(self) -> None:
        _check(self.parameters > 0, f"parameters={self.parameters} must be positive")
        _check(min(self.latency_s, self.jitter_s) >= 0, "latency_s and jitter_s must not be negative")
        _check(self.concurrency >= 1, f"concurrency={self.concurrency} must be at least 1")


@final
class Mock(LM):
    """A model whose every property is known: the ground truth under tests, and a dry run of a budget.

    A sample is a function of (prompt, seed) alone: temperature changes nothing, `max_tokens` and `stop` cut the text as
    they would a real model's, and different seeds are independent draws. What it says ends with the answer, a line of
    its own; with `steps`, lines `Step 1: <word>` come before. A prompt that ends in such lines, as plain text or as the
    assistant's turn, is continued from there, and no right answer follows a wrong step: a tree search has a truth to
    find (`right_steps` tells it). Tokens are words; all prompt tokens are computed anew for each sample.

    It knows the answers it is given; a problem it was not told has a whole number from 0 to 10 made of the prompt's
    digest as its right answer, which a rating's reader can read, so that a mock may also sit as a worthless judge.

    Args:
        skill: how often it is right, and what it says otherwise.
        faults: how it fails.
        machine: size and speed.
        answers: the right answer of each prompt (a conversation counts as its turns' contents, a line each).
        p: probability of being right for single prompts, over `skill`'s.

    >>> Mock(Skill(p=1), answers={"6 times 7?": "42"}).sample(Request("6 times 7?", seeds=(0,)))[0].text
    '42'
    """

    def __init__(
        self,
        skill: Skill = Skill(),
        faults: Faults = Faults(),
        machine: Machine = Machine(),
        *,
        answers: Mapping[str, str] | Mapping[Prompt, str] | None = None,
        p: Mapping[str, float] | Mapping[Prompt, float] | None = None,
    ) -> None:
        self.skill, self.faults, self.machine = skill, faults, machine
        self.concurrency = machine.concurrency
        words = ",".join(f"{k}={v}" for k, v in changed(skill, faults, machine).items())
        self.name = f"mock:{words}"
        self.price = f"nominal: {_PRICE}"
        self._p = {_text(prompt): value for prompt, value in (p or {}).items()}
        for value in self._p.values():
            _check(0 <= value <= 1, f"p={value} must lie in [0, 1]")
        self._drawn_p: dict[str, float] = {}
        self._answers: dict[str, str] = {}
        self._slots: asyncio.Semaphore | None = None
        self.know(answers or {})

    @classmethod
    def open(cls, rest: str) -> Mock:
        """A mock from options: `p=0.3,wrong=4`, `beta=0.44:0.55,latency_s=0.05`, or nothing.

        Raises:
            ValueError: an unknown option, or a value that does not fit.
        """
        words = pairs(rest.split(","), f"mock:{rest}")
        refuse_unknown(words, (Skill, Faults, Machine), "mock")
        return cls(read(Skill, words), read(Faults, words), read(Machine, words))

    def know(self, answers: Mapping[str, str] | Mapping[Prompt, str]) -> None:
        """Learn the right answers to some prompts, on top of those known; a run tells it those of its task."""
        self._answers.update({_text(prompt): answer for prompt, answer in answers.items()})
        known = (self.name, sorted(self._answers.items()), sorted(self._p.items()))
        self.digest = hashlib.blake2b(repr(known).encode(), digest_size=16).hexdigest()

    # The truth

    def success_probability(self, prompt: Prompt) -> float:
        """Probability that a sample which is not cut off is right."""
        question, prefix = self._split(prompt)
        done = self.right_steps(question, prefix)
        p = self._p_of(question)
        if not done:
            return p
        return p ** (1 - len(done) / self.skill.steps) if all(done) else 0.0

    def distribution(self, prompt: Prompt) -> dict[str, float]:
        """Probability of each answer in a sample which is not cut off, the right one first."""
        question, _ = self._split(prompt)
        p = self.success_probability(prompt)
        answers = [self.right_answer(question), *self._wrong_answers(question)]
        return dict(zip(answers, [p, *((1 - p) * w for w in self._wrong_weights())], strict=True))

    def right_answer(self, prompt: Prompt) -> str:
        """The right answer."""
        question, _ = self._split(prompt)
        return self._answers.get(question) or str(_digest(question, "answer") % 11)

    def right_steps(self, prompt: Prompt, text: str) -> list[bool]:
        """Whether each step in `text` is right: the truth that a process reward model is after."""
        question, _ = self._split(prompt)
        return [word == _step(question, int(i), 0) for i, word in _STEP.findall(text)]

    # The model

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        """Draw one sample for each seed; see `LM.generate`. Cancelled, it drops what has not arrived, at no cost."""
        slots = self._slots = self._slots or asyncio.Semaphore(self.machine.concurrency)
        errors: list[ModelError] = []

        async def draw(slot: int, seed: int) -> None:
            async with slots:
                rng = random.Random(_digest(_text(request.prompt), f"{seed}"))
                fate = self._fate(rng)
                sample = self._draw(request.prompt, request.sampling, rng, cut=fate == "truncate")
                if sample.cost.wall_s:
                    await asyncio.sleep(sample.cost.wall_s)
                if fate == "hang":
                    await asyncio.Event().wait()
                if fate == "error":
                    errors.append(ModelError(f"{self.name} fails on seed {seed}, as its faults demand"))
                else:
                    arrived(slot, replace(sample, attempts=2, wasted=sample.cost) if fate == "retry" else sample)

        async with asyncio.TaskGroup() as group:
            for slot, seed in enumerate(request.seeds):
                group.create_task(draw(slot, seed))
        if errors:
            raise errors[0]

    def estimate(self, request: Request) -> Cost:
        """What `request` can cost at most; exact but for the length of the samples."""
        machine, slots = self.machine, len(request.seeds)
        longest = machine.latency_s + machine.jitter_s
        one = self._cost(len(_TOKEN.findall(_text(request.prompt))), request.sampling.max_tokens, longest)
        attempts = 2 if self.faults.retry else 1
        waves = math.ceil(slots / machine.concurrency)
        return in_parallel([one] * slots * attempts).then(Cost(wall_s=longest * (waves * attempts - 1)))

    async def close(self) -> None:
        """Forget the event loop; the mock can be used again."""
        self._slots = None

    # Drawing

    def _fate(self, rng: random.Random) -> str:
        f, u = self.faults, rng.random()
        for fate, share in (("error", f.error), ("truncate", f.truncate), ("hang", f.hang), ("retry", f.retry)):
            if u < share:
                return fate
            u -= share
        return "answer"

    def _draw(self, prompt: Prompt, sampling: Sampling, rng: random.Random, *, cut: bool) -> Sample:
        question, prefix = self._split(prompt)
        done = self.right_steps(question, prefix)
        steps, p = self.skill.steps, self._p_of(question)
        right = all(done)
        lines: list[str] = []
        for i in range(len(done) + 1, steps + 1):
            right = rng.random() < p ** (1 / steps) and right
            lines.append(f"Step {i}: {_step(question, i, 0 if right else rng.randrange(1, 1 + self.skill.wrong))}")
        if not steps:
            right = rng.random() < p
        wrong = rng.choices(self._wrong_answers(question), self._wrong_weights())[0]
        lines.append(self.right_answer(question) if right else wrong)
        tokens: list[str] = _TOKEN.findall("\n".join(lines))
        finish: FinishReason = "stop"
        if cut:
            tokens, finish = tokens[: len(tokens) // 2], "length"
        if len(tokens) > sampling.max_tokens:
            tokens, finish = tokens[: sampling.max_tokens], "length"
        tokens, text, stopped = _cut_at_stop(tokens, sampling.stop)
        level = -1.0 + rng.gauss(0, 0.25) - (0 if right else self.skill.signal)
        wall_s = self.machine.latency_s + self.machine.jitter_s * rng.random()
        return Sample(
            text,
            token_ids=tuple(_digest(t, "token") % 50_000 for t in tokens),
            logprobs=tuple(min(-1e-9, level + rng.uniform(-0.2, 0.2)) for _ in tokens),
            finish_reason="stop" if stopped else finish,
            cost=self._cost(len(_TOKEN.findall(_text(prompt))), len(tokens), wall_s),
        )

    def _cost(self, tokens_in: int, tokens_out: int, wall_s: float) -> Cost:
        weights = self.machine.parameters * _BYTES_PER_PARAMETER
        flops = 2 * self.machine.parameters * (tokens_in + tokens_out)
        return Cost(
            flops=flops,
            bytes_moved=weights * (1 + tokens_out),  # the prompt in one pass, then a pass a token
            peak_bytes=weights,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            wall_s=wall_s,
            joules=flops * _JOULES_PER_FLOP,
            usd=_PRICE.usd(tokens_in, 0, tokens_out),
        )

    def _p_of(self, question: str) -> float:
        p = self._p.get(question, self.skill.p)
        if p is not None:
            return p
        if question not in self._drawn_p:
            a, b = self.skill.beta
            self._drawn_p[question] = float(betaincinv(a, b, (_digest(question, "p") + 0.5) / 2**64))
        return self._drawn_p[question]

    def _wrong_answers(self, question: str) -> list[str]:
        right, wrong = self.right_answer(question), range(1, self.skill.wrong + 1)
        if number := _NUMBER.search(right):  # another number in its place, far enough away for any tolerance
            value = float(number[0])
            others = (f"{value + i * max(1.0, abs(value)):.12g}" for i in wrong)
            return [right[: number.start()] + other + right[number.end() :] for other in others]
        if re.fullmatch(r"[A-Z]", right) and self.skill.wrong < 26:  # a choice: the letters after it
            return [chr((ord(right) - 65 + i) % 26 + 65) for i in wrong]
        return ["wrong-" + str(i).translate(_LETTERS) for i in wrong]

    def _split(self, prompt: Prompt) -> tuple[str, str]:
        """The question, and the steps written so far."""
        text = _text(prompt)
        first = _FIRST_STEP.search(text) if self.skill.steps else None
        return (text, "") if first is None else (text[: first.start()].strip(), text[first.start() :])

    def _wrong_weights(self) -> list[float]:
        wrong = self.skill.wrong
        first = max(self.skill.lure, 1 / wrong)
        return [first, *([(1 - first) / (wrong - 1)] * (wrong - 1) if wrong > 1 else [])]


def _digest(*words: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest(), "little")


def _step(question: str, i: int, variant: int) -> str:
    return f"{_digest(question, 'step', str(i), str(variant)):016x}"[:6]


def _text(prompt: Prompt) -> str:
    return prompt.strip() if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt).strip()


def _cut_at_stop(tokens: list[str], stop: tuple[str, ...]) -> tuple[list[str], str, bool]:
    text = "".join(tokens)
    ends = [end for s in stop if (end := text.find(s)) >= 0]
    if not ends:
        return tokens, text, False
    end, used, length = min(ends), 0, 0
    while length < end:
        length += len(tokens[used])
        used += 1
    return tokens[: max(used, 1)], text[:end], True
