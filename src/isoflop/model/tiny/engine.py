"""Decoding for many callers at once: one batch, one cache, and for each slot the tokens it would get alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from isoflop.cost import Cost
from isoflop.cost.energy import EnergyMeter
from isoflop.model.base import FinishReason, Sample, Sampling
from isoflop.model.tiny.decoder import PAD, Block, Decoder, rotate

_ROWS = 16  # rows of a matrix product come in multiples of this
_KEYS = 32  # and so do the keys of an attention
_NUMBER_BYTES = 4


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


def uniforms(seed: int, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) for the positions of a slot, from its seed and the position alone (splitmix64).

    >>> bool((uniforms(7, 3) == uniforms(7, 5)[:3]).all())
    True
    """
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x += _mixed(np.array([seed & (2**64 - 1)], np.uint64))
        return (_mixed(x) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Engine:
    """A batch of slots with their keys and values, advanced by one token a step.

    Slots of all jobs share the batch, and a slot that ends makes room for the next at once. A prompt is computed once
    and its keys and values are copied to its slots. A slot's tokens depend on its prompt and seed only: its random
    numbers come from (seed, position), and its arithmetic does not depend on its company, because products are made
    with a multiple of 16 rows and attention with a multiple of 32 keys, masked ones adding exact zeros; for such shapes
    each row of a product was found to be the same bits whatever the number of rows and threads (a test holds that).

    Args:
        decoder: the network.
        slots: the most at the same time (count).
    """

    def __init__(self, decoder: Decoder, slots: int = 256) -> None:
        a = self._a = decoder.architecture
        self._decoder = decoder
        self._slots = -(-slots // _ROWS) * _ROWS
        keys = -(-a.context // _KEYS) * _KEYS
        shape = (a.layers, self._slots, a.kv_heads, keys, a.head_width)
        self._k, self._v = torch.zeros(shape), torch.zeros(shape)
        self._mask = torch.full((self._slots, 1, keys), -torch.inf)
        self._mask[:, :, 0] = 0
        self._jobs: deque[Job] = deque()
        self._next = 0  # slot of the first job in the queue
        self._prefix: tuple[Tensor, Tensor, Tensor] | None = None
        self._owner: list[tuple[Job, int]] = []
        S = self._slots
        self._length = np.zeros(S, np.int64)  # tokens in the cache
        self._position = np.zeros(S, np.int64)
        self._out = np.zeros((S, a.context + 1), np.int64)
        self._logprob = np.zeros((S, a.context + 1))
        self._drawn = np.zeros(S, np.int64)
        self._most = np.zeros(S, np.int64)
        self._uniform = np.zeros((S, a.context + 1))
        self._temperature = np.ones(S)
        self._top_p = np.ones(S)
        self._may_end = np.zeros((S, a.vocabulary), np.bool_)
        self._bytes = np.zeros(S)
        self._joules = np.zeros(S)
        self._energy = EnergyMeter()
        self._busy = time.process_time()
        self.weight_bytes = a.shape.params * _NUMBER_BYTES

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._jobs or self._owner)

    def submit(self, job: Job) -> None:
        """Queue a job; safe while another thread is in `step`."""
        self._jobs.append(job)

    def slot_bytes(self) -> int:
        """Memory that the keys and values of all slots take (bytes)."""
        return 2 * self._k.numel() * _NUMBER_BYTES

    @torch.inference_mode()
    def step(self) -> list[Finished]:
        """Take in what waits, draw a token for every slot, and hand out those that ended with it."""
        if not self._owner:
            self._busy = time.process_time()  # whatever the process did meanwhile was not for these slots
            self._energy.since_last(0)
        self._drop_cancelled()
        done = self._admit()
        if self._owner:
            done += self._advance()
        return done

    # Taking in

    def _admit(self) -> list[Finished]:
        first = len(self._owner)
        logits = list[Tensor]()
        while self._jobs and len(self._owner) < self._slots:
            job = self._jobs[0]
            if job.cancelled:
                self._jobs.popleft()
                self._next, self._prefix = 0, None
                continue
            if self._prefix is None:
                self._prefix = self._prefill(job)
            k, v, row = self._prefix
            count = min(len(job.seeds) - self._next, self._slots - len(self._owner))
            at, T = slice(len(self._owner), len(self._owner) + count), len(job.prompt)
            self._k[:, at, :, :T] = k
            self._v[:, at, :, :T] = v
            logits += [row] * count
            for slot in range(self._next, self._next + count):
                self._place(len(self._owner), job, slot)
            self._next += count
            if self._next == len(job.seeds):
                self._jobs.popleft()
                self._next, self._prefix = 0, None
        if not logits:
            return []
        return self._draw(torch.cat(logits), range(first, len(self._owner)))

    def _prefill(self, job: Job) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values of a prompt, [layers, 1, kv_heads, T, head_width], and the logits [1, V] after it."""
        T = len(job.prompt)
        padded = -(-T // _KEYS) * _KEYS
        tokens = torch.tensor(job.prompt + [PAD] * (padded - T))[None]
        positions = torch.tensor(job.positions[:T] + [0] * (padded - T))[None]
        x, k, v = prefilled(self._decoder, tokens, positions)
        x = x[0, T - 1 : T].expand(_ROWS, -1).contiguous()
        busy, was = time.process_time(), self._busy
        self._busy = busy
        job.shared = Cost(
            flops=self._a.shape.flops(T, logits=1),
            bytes_moved=self.weight_bytes + self._a.shape.kv_traffic(T, value_bytes=_NUMBER_BYTES),
            tokens_in=T,
            joules=self._energy.since_last(busy - was).mid,
        )
        return k[..., :T, :], v[..., :T, :], self._decoder.head(x)[:1]

    def _place(self, row: int, job: Job, slot: int) -> None:
        a, s = self._a, job.sampling
        self._owner.append((job, slot))
        self._length[row] = len(job.prompt)
        self._position[row] = job.positions[-1] - 1  # of the last token
        self._mask[row] = -torch.inf
        self._mask[row, :, : len(job.prompt)] = 0
        self._drawn[row] = 0
        self._most[row] = min(s.max_tokens, a.context - job.positions[-1])
        self._uniform[row] = uniforms(job.seeds[slot], a.context + 1)
        self._temperature[row], self._top_p[row] = s.temperature, s.top_p
        self._may_end[row] = False
        self._may_end[row, [*(a.encode(text)[-1] for text in _known(a.alphabet, s.stop)), a.end]] = True
        self._bytes[row] = self._joules[row] = 0

    def _drop_cancelled(self) -> None:
        for row in reversed(range(len(self._owner))):
            if self._owner[row][0].cancelled:
                self._release(row)

    # One token for every slot

    def _advance(self) -> list[Finished]:
        a, n = self._a, len(self._owner)
        M = -(-n // _ROWS) * _ROWS
        T = -(-int(self._length[:n].max() + 1) // _KEYS) * _KEYS
        rows = torch.arange(M)
        last = torch.as_tensor(self._out[np.arange(M), np.maximum(self._drawn[:M] - 1, 0)])
        self._position[:n] += 1
        at = torch.as_tensor(self._length[:M])
        position = torch.as_tensor(self._position[:M])
        self._mask[rows[:n], 0, at[:n]] = 0
        mask = self._mask[:M, None, :, :T].expand(M, a.kv_heads, 1, T).reshape(M * a.kv_heads, 1, T)
        cos, sin = self._decoder.cos[position][:, None], self._decoder.sin[position][:, None]
        x = self._decoder.embedding(last)
        group, scale = a.heads // a.kv_heads, a.head_width**-0.5
        for block, K, V in zip(self._decoder.blocks, self._k, self._v, strict=True):
            assert isinstance(block, Block)
            qkv = block.qkv(block.norm_attention(x)).view(M, a.heads + 2 * a.kv_heads, a.head_width)
            turned = rotate(qkv[:, : a.heads + a.kv_heads], cos, sin)
            K[rows, :, at] = turned[:, a.heads :]
            V[rows, :, at] = qkv[:, a.heads + a.kv_heads :]
            q = turned[:, : a.heads].reshape(M * a.kv_heads, group, a.head_width)
            k = K[:M, :, :T].flatten(0, 1)
            weights = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale).softmax(-1)
            attended = torch.bmm(weights, V[:M, :, :T].flatten(0, 1))
            x = block.after(x, attended.view(M, a.width))
        logits = self._decoder.head(self._decoder.norm(x))[:n]
        self._length[:n] += 1
        busy, was = time.process_time(), self._busy
        self._busy = busy
        self._joules[:n] += self._energy.since_last(busy - was).mid / n
        self._bytes[:n] += self.weight_bytes / n + a.shape.kv_bytes(1, _NUMBER_BYTES) * (self._length[:n] + 1)
        return self._draw(logits, range(n))

    def _draw(self, logits: Tensor, rows: range) -> list[Finished]:
        """A token for each of `rows` from its logits [B, V]; the slots that end with it."""
        at = slice(rows.start, rows.stop)
        scores = logits.double().numpy()
        scores[:, PAD] = -np.inf
        tokens = _sampled(scores, self._temperature[at], self._top_p[at], self._uniform[rows, self._drawn[at]])
        top = scores.max(1)
        lse = top + np.log(np.exp(scores - top[:, None]).sum(1))
        index = np.arange(len(rows))
        self._out[rows, self._drawn[at]] = tokens
        self._logprob[rows, self._drawn[at]] = scores[index, tokens] - lse
        self._drawn[at] += 1
        full = self._drawn[at] >= self._most[at]
        ended = self._may_end[at][index, tokens]
        done = list[Finished]()
        for i in np.flatnonzero(full | ended)[::-1]:
            finished = self._finished(rows.start + int(i), cut=bool(full[i]))
            if finished is not None:
                done.append(finished)
                self._release(rows.start + int(i))
        return done

    def _finished(self, row: int, *, cut: bool) -> Finished | None:
        job, slot = self._owner[row]
        a, count = self._a, int(self._drawn[row])
        ids = self._out[row, :count].tolist()
        text = a.decode(ids)
        reason: FinishReason = "length"
        stop = next((s for s in job.sampling.stop if s and text.endswith(s)), "")
        if ids[-1] == a.end:
            text, reason = text[:-1], "stop"
        elif stop:
            text, reason = text.removesuffix(stop), "stop"
        elif not cut:
            return None
        T = len(job.prompt)
        cost = Cost(
            flops=a.shape.flops(count - 1, T, logits=count - 1),
            bytes_moved=float(self._bytes[row]),
            peak_bytes=self.weight_bytes + a.shape.kv_bytes(T + count, _NUMBER_BYTES),
            tokens_cached=0 if slot == 0 else T,
            tokens_out=count,
            wall_s=time.perf_counter() - job.started,
            joules=float(self._joules[row]),
        )
        if slot == 0:
            cost = cost.then(job.shared)
        logprobs = tuple(self._logprob[row, :count].tolist())
        return Finished(job, slot, Sample(text, tuple(ids), logprobs, reason, cost))

    def _release(self, row: int) -> None:
        """Take a slot out; the last one moves to its row."""
        last = len(self._owner) - 1
        if row < last:
            self._owner[row] = self._owner[last]
            T = int(self._length[last])
            self._k[:, row, :, :T] = self._k[:, last, :, :T]
            self._v[:, row, :, :T] = self._v[:, last, :, :T]
            self._mask[row] = self._mask[last]
            for state in (
                *(self._length, self._position, self._out, self._logprob, self._drawn, self._most, self._uniform),
                *(self._temperature, self._top_p, self._may_end, self._bytes, self._joules),
            ):
                state[row] = state[last]
        self._owner.pop()
        self._length[last] = self._position[last] = 0


def prefilled(decoder: Decoder, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The stream [B, T, D] over prompts [B, T], and the keys and values [layers, B, kv_heads, T, head_width]."""
    a = decoder.architecture
    B, T = tokens.shape
    x = decoder.embedding(tokens)
    cos, sin = decoder.cos[positions][:, None], decoder.sin[positions][:, None]
    hidden = torch.full((T, T), -torch.inf).triu(1)
    keys, values = list[Tensor](), list[Tensor]()
    for block in decoder.blocks:
        assert isinstance(block, Block)
        q, k, v = block.heads(x, cos, sin)
        grouped = q.reshape(B, a.kv_heads, -1, T, a.head_width)
        weights = (grouped @ k[:, :, None].transpose(-1, -2) * a.head_width**-0.5 + hidden).softmax(-1)
        attended = (weights @ v[:, :, None]).reshape(B, a.heads, T, a.head_width)
        x = block.after(x, attended.transpose(1, 2).flatten(2))
        keys.append(k)
        values.append(v)
    return decoder.norm(x), torch.stack(keys), torch.stack(values)


def scored(decoder: Decoder, prompt: str, texts: Sequence[str]) -> list[list[float]]:
    """Log-probability (nats) of each character of each text after a prompt."""
    a = decoder.architecture
    rows = [a.encode(prompt + text) for text in texts]
    T = -(-max(map(len, rows)) // _KEYS) * _KEYS
    tokens = torch.tensor([row + [PAD] * (T - len(row)) for row in rows])
    positions = torch.tensor([a.positions(prompt + t) + [0] * (T - len(prompt) - len(t)) for t in texts])
    with torch.inference_mode():
        stream, _, _ = prefilled(decoder, tokens, positions)
        logits = decoder.head(stream)
        logits[..., PAD] = -torch.inf
        found = functional.log_softmax(logits.double(), -1)[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0].numpy()
    start = len(prompt) - 1
    return [found[i, start : len(row) - 1].tolist() for i, row in enumerate(rows)]


def _known(alphabet: str, stop: Sequence[str]) -> list[str]:
    """The stop strings that can come up at all."""
    return [s for s in stop if s and set(s) <= set(alphabet)]


def _sampled(
    scores: NDArray[np.float64],
    temperature: NDArray[np.float64],
    top_p: NDArray[np.float64],
    uniform: NDArray[np.float64],
) -> NDArray[np.int64]:
    """One token a row of scores [B, V]: by inversion of the cumulated probabilities, or the best at temperature 0."""
    best: NDArray[np.int64] = scores.argmax(1)
    if not temperature.any():
        return best
    top = scores.max(1, keepdims=True)
    p = np.exp((scores - top) / np.where(temperature > 0, temperature, 1)[:, None])
    if (top_p < 1).any():
        order = np.argsort(-p, 1, kind="stable")
        ranked = np.take_along_axis(p, order, 1)
        before = np.cumsum(ranked, 1) - ranked
        ranked[before >= top_p[:, None] * p.sum(1, keepdims=True)] = 0  # the nucleus: the fewest that reach top_p
        np.put_along_axis(p, order, ranked, 1)
    cumulated = np.cumsum(p, 1)
    drawn = (cumulated <= uniform[:, None] * cumulated[:, -1:]).sum(1)
    return np.where(temperature > 0, drawn, best)
