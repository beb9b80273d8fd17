"""Decoding for many callers at once: one batch, one cache, and for each slot the tokens it would get alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np
import torch

from isoflop.cost import Cost
from isoflop.cost.energy import EnergyMeter
from isoflop.model.base import FinishReason, Sample, Sampling
from isoflop.model.tiny.decoder import PAD, Block, Decoder
from isoflop.model.tiny.kernel import (
    LANES,
    PAGE,
    TILE,
    Floats,
    Ints,
    Rows,
    Slots,
    Weights,
    aligned,
    forward,
    panels,
    record,
)

_NUMBER_BYTES = 4
_ROWS_A_THREAD = 32  # fewer are not worth a thread


@dataclass(eq=False)
class Job:
    """The slots of one prompt.

    Args:
        prompt: its tokens.
        positions: their positions, and that of the first token to draw.
        seeds: one a slot.
        sampling: how to draw.
    """

    prompt: list[int]
    positions: list[int]
    seeds: tuple[int, ...]
    sampling: Sampling
    started: float = field(default_factory=time.perf_counter)
    cancelled: bool = False
    shared: Cost = Cost()
    """What the prompt cost; the first slot bears it, and has the tokens as computed, the others as cached."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A slot that is done."""

    job: Job
    slot: int
    sample: Sample


class Network:
    """A decoder as the kernel takes it, and how its batches are spread over threads.

    Args:
        decoder: the network.
        pages: of 8 tokens, to keep keys and values in (count).
        threads: to compute with (count).
    """

    def __init__(self, decoder: Decoder, pages: int, threads: int) -> None:
        a = self.architecture = decoder.architecture
        if a.head_width != LANES:
            raise ValueError(f"the engine takes heads {LANES} wide, not {a.head_width}")
        with torch.inference_mode():
            self._weights = _arranged(decoder)
        shape = a.layers, pages, 2, a.kv_heads, PAGE * LANES
        self._cache: Floats = aligned(1, prod(shape)).reshape(shape)
        self._columns = self._weights.head.shape[0] * self._weights.head.shape[2]
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "tiny") if threads > 1 else None

    def forward(self, tokens: Ints, positions: Ints, pages: Ints, seen: tuple[Ints, Ints], ends: Ints) -> Floats:
        """The logits [B, V or more] after each of B tokens.

        Args:
            tokens: what they are [B].
            positions: where they stand [B].
            pages: of their sequences [B, P].
            seen: tokens of the prompt before each, and of its own up to each, itself included (count) [B].
            ends: where the batch can be cut in two: rows of one sequence stay together (places, rising, the last B).
        """
        logits = aligned(len(tokens), self._columns)
        parts = min(self._threads, max(len(tokens) // _ROWS_A_THREAD, 1))
        wanted = [len(tokens) * part // parts for part in range(1, parts)]
        cuts = [0, *sorted({int(ends[np.searchsorted(ends, place)]) for place in wanted} - {len(tokens)}), len(tokens)]

        def part(start: int, stop: int) -> None:
            now = slice(start, stop)
            rows = Rows(tokens[now], positions[now], pages[now], seen[0][now], seen[1][now])
            forward(rows, self._weights, self._cache, logits[now])

        if self._pool is None or len(cuts) == 2:
            part(0, len(tokens))
        else:
            list(self._pool.map(part, cuts, cuts[1:]))
        return logits

    def read(self, texts: Sequence[tuple[list[int], list[int]]], pages: Sequence[list[int]]) -> tuple[Floats, Ints]:
        """The logits after each token of texts, one text after the other, and where each text ends.

        Args:
            texts: tokens and positions of each.
            pages: where the keys and values of each go; as many as its tokens fill.
        """
        lengths = [len(tokens) for tokens, _ in texts]
        table = np.zeros((len(texts), max(map(len, pages))), np.int64)
        for row, given in zip(table, pages, strict=True):
            row[: len(given)] = given
        own = np.concatenate([np.arange(1, length + 1) for length in lengths])
        ends = np.cumsum(lengths)
        tokens, positions = (np.array([one for text in texts for one in text[i]], np.int64) for i in (0, 1))
        return self.forward(tokens, positions, np.repeat(table, lengths, 0), (np.zeros_like(own), own), ends), ends


def _arranged(decoder: Decoder) -> Weights:
    a, hidden = decoder.architecture, -(-decoder.architecture.hidden // LANES) * LANES
    qkv, out, gate_up, down = list[Floats](), list[Floats](), list[Floats](), list[Floats]()
    for block in decoder.blocks:
        assert isinstance(block, Block)
        scale = torch.ones(block.qkv.weight.shape[0], 1)
        scale[: a.width] = LANES**-0.5
        qkv.append((block.qkv.weight * block.norm_attention.weight * scale).T.numpy())
        out.append(block.out.weight.T.numpy())
        both = torch.zeros(2, hidden, a.width)
        both[:, : a.hidden] = (block.gate_up.weight * block.norm_forward.weight).view(2, a.hidden, a.width)
        gate_up.append(both.view(-1, a.width).T.numpy())
        narrow = torch.zeros(hidden, a.width)
        narrow[: a.hidden] = block.down.weight.T
        down.append(narrow.numpy())
    head = (decoder.head.weight * decoder.norm.weight).T.numpy()
    layers = [panels(np.stack(matrices)) for matrices in (qkv, out, gate_up, down)]
    turns = aligned(a.context, 2 * LANES)
    turns[:] = torch.cat([decoder.cos, -decoder.sin[:, : LANES // 2], decoder.sin[:, LANES // 2 :]], -1).numpy()
    return Weights._make([turns, decoder.embedding.weight.numpy().copy(), *layers, panels(head)])


def _pages(tokens: int) -> int:
    """How many pages so many tokens fill (count)."""
    return -(-tokens // PAGE)


@dataclass
class _Prompt:
    """A prompt that has been read.

    Args:
        pages: where its keys and values are.
        logits: after its last token [V or more].
        users: slots that are at work on it, and the queue if more of them wait there (count).
    """

    pages: list[int]
    logits: Floats
    users: int = 1


class _Owner(NamedTuple):
    """Whose a row is, and what every row had spent when it became theirs."""

    job: Job
    slot: int
    moved: float
    joules: float


class Engine:
    """A batch of slots with their keys and values, advanced by one token a step.

    Slots of all jobs share the batch, and a slot that ends makes room for the next at once. A prompt is read once, and
    its keys and values are shared by its slots. A slot's tokens depend on its prompt and seed only: its random numbers
    come from (seed, position), and its arithmetic does not depend on its company (see `kernel`).

    Args:
        decoder: the network.
        slots: the most at the same time (count).
        threads: to compute with (count); as many as PyTorch uses unless given.
    """

    def __init__(self, decoder: Decoder, slots: int = 256, threads: int | None = None) -> None:
        a = self._a = decoder.architecture
        S, P = slots, _pages(a.context) + 1  # both the prompt's and its own last page can be half empty
        self._shape = a.shape
        self.weight_bytes = self._shape.params * _NUMBER_BYTES
        self._free = list(range((S + 1) * P))
        self.threads = threads or torch.get_num_threads()
        self._characters, self._end = ("", *a.alphabet), a.end
        self._network = Network(decoder, len(self._free), self.threads)
        self.flops_per_s = 1e10
        """Speed of late; a guess before the first token."""
        self._jobs: deque[Job] = deque()
        self._next = 0  # slot of the first job in the queue
        self._prompts: dict[Job, _Prompt] = {}
        self._owner: list[_Owner | None] = [None] * S  # of each row of the following
        self._pages = np.zeros((S, P), np.int64)
        self._shared = np.zeros(S, np.int64)  # tokens of the prompt
        self._start = np.zeros(S, np.int64)  # position of the first token drawn
        self._slots = Slots(
            tokens=np.zeros((S, a.context + 1), np.int64),
            logprobs=np.zeros((S, a.context + 1)),
            seeds=np.zeros(S, np.uint64),
            drawn=np.zeros(S, np.int64),
            most=np.zeros(S, np.int64),
            temperature=np.ones(S),
            top_p=np.ones(S),
            may_end=np.zeros((S, a.vocabulary), np.bool_),
        )
        self._flops = cache(a.shape.flops)
        self._moved = self._joules = 0.0  # a row's share of the weights' traffic and the energy of all steps so far
        self._energy = EnergyMeter()
        self._busy = time.process_time()

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._jobs or self._prompts)

    def submit(self, job: Job) -> None:
        """Queue a job; safe while another thread is in `step`."""
        self._jobs.append(job)

    def step(self) -> list[Finished]:
        """Take in what waits, draw a token for every slot, and hand out those that ended with it."""
        if not self._prompts:
            self._joules_since()  # whatever the process did meanwhile was not for these slots
        if any(job.cancelled for job in self._prompts):
            for row, owner in enumerate(self._owner):
                if owner is not None and owner.job.cancelled:
                    self._leave(row)
        done = self._admit() if self._jobs else []
        rows = np.flatnonzero(self._slots.most)
        if len(rows):
            done += self._advance(rows)
        return done

    def _joules_since(self) -> float:
        busy, was = time.process_time(), self._busy
        self._busy = busy
        return self._energy.since_last(busy - was).mid

    # Taking in

    def _admit(self) -> list[Finished]:
        """Give rows that are free to slots that wait, and draw their first tokens."""
        free = np.flatnonzero(self._slots.most == 0)
        given, through = list[tuple[Job, range]](), list[Job]()
        places = len(free)
        while self._jobs and (places or self._jobs[0].cancelled):
            job = self._jobs[0]
            stop = len(job.seeds) if job.cancelled else min(self._next + places, len(job.seeds))
            if not job.cancelled:
                given.append((job, range(self._next, stop)))
                places -= stop - self._next
            self._next = stop
            if stop == len(job.seeds):
                through.append(self._jobs.popleft())
                self._next = 0
        self._read([job for job, _ in given if job not in self._prompts])
        rows, at = free[: len(free) - places], 0
        for job, slots in given:
            self._place(job, slots, rows[at : at + len(slots)])
            at += len(slots)
        for job in through:
            self._release(job)
        if not len(rows):
            return []
        # every job here has rows, and so its prompt still
        after = [self._prompts[job].logits for job, slots in given for _ in slots]
        return self._draw(np.stack(after), rows)

    def _read(self, jobs: Sequence[Job]) -> None:
        """Compute the prompts of jobs, in one batch."""
        if not jobs:
            return
        pages = [self._take(_pages(len(job.prompt))) for job in jobs]
        logits, ends = self._network.read([(job.prompt, job.positions[:-1]) for job in jobs], pages)
        joules = self._joules_since() / len(jobs)
        for job, given, last in zip(jobs, pages, logits[ends - 1], strict=True):
            T = len(job.prompt)
            self._prompts[job] = _Prompt(given, last)
            job.shared = Cost(
                flops=self._shape.flops(T, logits=1),
                bytes_moved=self.weight_bytes / len(jobs) + self._shape.kv_traffic(T, value_bytes=_NUMBER_BYTES),
                tokens_in=T,
                joules=joules,
            )

    def _place(self, job: Job, slots: range, rows: Ints) -> None:
        """Make ready the rows of the next slots of a job."""
        a, s, prompt, state = self._a, job.sampling, self._prompts[job], self._slots
        most = min(s.max_tokens, a.context - job.positions[-1])
        prompt.users += len(slots)
        self._pages[rows, : len(prompt.pages)] = prompt.pages
        own = self._take(len(rows) * _pages(most - 1))
        self._pages[rows, len(prompt.pages) : len(prompt.pages) + _pages(most - 1)] = np.reshape(own, (len(rows), -1))
        for row, slot in zip(rows.tolist(), slots, strict=True):
            self._owner[row] = _Owner(job, slot, self._moved, self._joules)
        self._shared[rows], self._start[rows] = len(job.prompt), job.positions[-1]
        state.drawn[rows], state.most[rows] = 0, most
        state.seeds[rows] = [seed & (2**64 - 1) for seed in job.seeds[slots.start : slots.stop]]
        state.temperature[rows], state.top_p[rows] = s.temperature, s.top_p
        may_end = np.zeros(a.vocabulary, np.bool_)
        may_end[[*(a.encode(text)[-1] for text in _known(a.alphabet, s.stop)), a.end]] = True
        state.may_end[rows] = may_end

    def _take(self, count: int) -> list[int]:
        at = len(self._free) - count
        taken, self._free[at:] = self._free[at:], ()
        return taken

    def _leave(self, row: int) -> None:
        """Give back what a row's slot had."""
        owner = self._owner[row]
        assert owner is not None
        first = _pages(len(owner.job.prompt))
        self._free += self._pages[row, first : first + _pages(int(self._slots.most[row]) - 1)].tolist()
        self._owner[row], self._slots.most[row] = None, 0
        self._release(owner.job)

    def _release(self, job: Job) -> None:
        if job in self._prompts:  # not if it was cancelled before
            self._prompts[job].users -= 1
            if not self._prompts[job].users:
                self._free += self._prompts.pop(job).pages

    # One token for every slot

    def _advance(self, rows: Ints) -> list[Finished]:
        n = len(rows)
        all_ = slice(n) if rows[-1] == n - 1 else rows  # without gaps nothing need be copied
        drawn, shared = self._slots.drawn[all_], self._shared[all_]
        ends, began = np.append(np.arange(TILE, n, TILE), n), time.perf_counter()
        last, positions = self._slots.tokens[rows, drawn - 1], self._start[all_] + drawn - 1
        logits = self._network.forward(last, positions, self._pages[all_], (shared, drawn), ends)
        flops = n * self._shape.flops(1, int((shared + drawn).sum()) // n)
        self.flops_per_s = 0.9 * self.flops_per_s + 0.1 * flops / (time.perf_counter() - began)
        self._joules += self._joules_since() / n
        self._moved += self.weight_bytes / n
        return self._draw(logits, rows)

    def _draw(self, logits: Floats, rows: Ints) -> list[Finished]:
        """A token for each of `rows` from its logits [B, V or more]; the slots that end with it."""
        ended = rows[record(logits, rows, self._slots)]
        return self._finished(ended) if len(ended) else []

    def _finished(self, rows: Ints) -> list[Finished]:
        """Those of `rows` that end indeed; they leave."""
        state, now, done = self._slots, time.perf_counter(), list[Finished]()
        for row, tokens, logprobs in zip(map(int, rows), state.tokens[rows], state.logprobs[rows], strict=True):
            count = int(state.drawn[row])
            ids: list[int] = tokens[:count].tolist()
            owner = self._owner[row]
            assert owner is not None
            job, T = owner.job, len(owner.job.prompt)
            text = "".join([self._characters[i] for i in ids])
            stop = next((s for s in job.sampling.stop if s and text.endswith(s)), "")
            reason: FinishReason = "stop" if stop or ids[-1] == self._end else "length"
            if reason == "length" and count < state.most[row]:
                continue
            text = text[:-1] if ids[-1] == self._end else text.removesuffix(stop)
            keys = self._shape.kv_bytes(1, _NUMBER_BYTES)
            cost = Cost(
                flops=self._flops(count - 1, T, count - 1),
                bytes_moved=self._moved - owner.moved + keys * (count - 1) * (T + 1 + count / 2),
                peak_bytes=self.weight_bytes + keys * (T + count),
                tokens_cached=0 if owner.slot == 0 else T,
                tokens_out=count,
                wall_s=now - job.started,
                joules=self._joules - owner.joules,
            )
            if owner.slot == 0:
                cost = cost.then(job.shared)
            sample = Sample(text, tuple(ids), tuple(logprobs[:count].tolist()), reason, cost)
            done.append(Finished(job, owner.slot, sample))
            self._leave(row)
        return done


def scored(decoder: Decoder, prompt: str, texts: Sequence[str]) -> list[list[float]]:
    """Log-probability (nats) of each character of each text after a prompt."""
    a = decoder.architecture
    whole = [(a.encode(prompt + text), a.positions(prompt + text)) for text in texts]
    pages, count = list[list[int]](), 0
    for tokens, _ in whole:
        pages.append([*range(count, count + _pages(len(tokens)))])
        count += len(pages[-1])
    logits, ends = Network(decoder, count, torch.get_num_threads()).read(whole, pages)
    logits = logits[:, : a.vocabulary].astype(np.float64)
    logits[:, PAD] = -np.inf
    logits -= logits.max(1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = list[list[float]]()
    for (tokens, _), end in zip(whole, ends.tolist(), strict=True):
        start = end - len(tokens) + len(prompt)
        found.append(logprobs[np.arange(start - 1, end - 1), tokens[len(prompt) :]].tolist())
    return found


def _known(alphabet: str, stop: Sequence[str]) -> list[str]:
    """The stop strings that can come up at all."""
    return [s for s in stop if s and set(s) <= set(alphabet)]
