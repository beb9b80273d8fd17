"""Decoding for many callers at once: one batch, one cache, and for each slot the tokens it would get alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from isoflop.cost import Cost
from isoflop.cost.energy import EnergyMeter
from isoflop.model.base import FinishReason, Sample, Sampling
from isoflop.model.tiny.decoder import PAD, Block, Decoder

_ROWS = 16  # rows of a matrix product come in multiples of this
_KEYS = 16  # and so do the keys of an attention
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


def uniforms(seeds: Sequence[int], count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) for `count` positions of B slots, [B, count], each from its seed and position (splitmix64).

    >>> bool((uniforms([7, 8], 3) == uniforms([8, 7], 5)[::-1, :3]).all())
    True
    """
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = x + _mixed(np.array([seed & (2**64 - 1) for seed in seeds], np.uint64))[:, None]
        return (_mixed(x) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class _Layer(NamedTuple):
    """A block's matrices, arranged for decoding: the norms' weights and the attention's scale are folded in, and the
    two numbers that a rotation turns stand side by side, as the parts of a complex number."""

    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


def _arranged(block: Block) -> _Layer:
    a = block.a
    qkv = (block.qkv.weight * block.norm_attention.weight).view(-1, a.head_width, a.width)
    turned = a.heads + a.kv_heads
    qkv[: a.heads] *= a.head_width**-0.5
    qkv[:turned] = qkv[:turned].view(turned, 2, -1, a.width).transpose(1, 2).reshape(turned, -1, a.width)
    return _Layer(
        qkv.view(-1, a.width), block.out.weight, block.gate_up.weight * block.norm_forward.weight, block.down.weight
    )


def _side_by_side(k: Tensor) -> Tensor:
    """Keys [..., head_width] in the order of `_arranged`."""
    return k.reshape(*k.shape[:-1], 2, -1).transpose(-1, -2).reshape(k.shape)


def _normed(x: Tensor) -> Tensor:
    """Rows [B, D] over their root mean square."""
    return x * torch.rsqrt(torch.mean(x * x, -1, keepdim=True) + 1e-5)


class Engine:
    """A batch of slots with their keys and values, advanced by one token a step.

    Slots of all jobs share the batch, and a slot that ends makes room for the next at once. A prompt is computed once
    and its keys and values are copied to its slots. A slot's tokens depend on its prompt and seed only: its random
    numbers come from (seed, position), and its arithmetic does not depend on its company, because products are made
    with a multiple of 16 rows and attention with a multiple of 16 keys, masked ones adding exact zeros; for such shapes
    each row of a product was found to be the same bits whatever the number of rows and threads (a test holds that).

    Args:
        decoder: the network.
        slots: the most at the same time (count).
    """

    def __init__(self, decoder: Decoder, slots: int = 256) -> None:
        a = self._a = decoder.architecture
        self._shape = a.shape
        self.weight_bytes = self._shape.params * _NUMBER_BYTES
        self._decoder = decoder
        with torch.inference_mode():
            self._layers = [_arranged(block) for block in decoder.blocks if isinstance(block, Block)]
            self._head = decoder.head.weight * decoder.norm.weight
            half = a.head_width // 2
            self._turn = torch.complex(decoder.cos[:, :half].contiguous(), decoder.sin[:, :half].contiguous())
        S = self._slots = -(-slots // _ROWS) * _ROWS
        self._keys = -(-a.context // _KEYS) * _KEYS
        self._k, self._v = (torch.zeros(a.layers, S, a.kv_heads, self._keys, a.head_width) for _ in range(2))
        self._mask = torch.full((S, 1, self._keys), -torch.inf)
        self._mask[:, :, 0] = 0
        self._jobs: deque[Job] = deque()
        self._next = 0  # slot of the first job in the queue
        # Keys and values [layers, 1, kv_heads, T, head_width] and logits [1, V] of the prompts of jobs in the queue.
        self._prefixes: dict[Job, tuple[Tensor, Tensor, Tensor]] = {}
        self._owner: list[tuple[Job, int] | None] = []  # of each row; None when it has ended
        self._length = np.zeros(S, np.int64)  # tokens in the cache
        self._position = np.zeros(S, np.int64)  # of the last token
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

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._jobs or self._owner)

    def submit(self, job: Job) -> None:
        """Queue a job; safe while another thread is in `step`."""
        self._jobs.append(job)

    @torch.inference_mode()
    def step(self) -> list[Finished]:
        """Take in what waits, draw a token for every slot, and hand out those that ended with it."""
        if not self._owner:
            self._joules_since()  # whatever the process did meanwhile was not for these slots
        for row, owner in enumerate(self._owner):
            if owner is not None and owner[0].cancelled:
                self._owner[row] = None
        done = self._admit()
        self._close_ranks()
        if self._owner:
            done += self._advance()
        return done

    def _joules_since(self) -> float:
        busy, was = time.process_time(), self._busy
        self._busy = busy
        return self._energy.since_last(busy - was).mid

    # Taking in

    def _admit(self) -> list[Finished]:
        """Give rows that are free to slots that wait, and draw their first tokens."""
        free = [row for row, owner in enumerate(self._owner) if owner is None]
        free += range(len(self._owner), self._slots)
        rows, logits = list[int](), list[Tensor]()
        self._prefill(len(free))
        while self._jobs and len(rows) < len(free):
            job = self._jobs[0]
            if not job.cancelled:
                count = min(len(job.seeds) - self._next, len(free) - len(rows))
                given = free[len(rows) : len(rows) + count]
                logits.append(self._place(job, given).expand(count, -1))
                rows += given
                self._next += count
            if job.cancelled or self._next == len(job.seeds):
                self._prefixes.pop(self._jobs.popleft(), None)
                self._next = 0
        return self._draw(torch.cat(logits), np.array(rows)) if rows else []

    def _prefill(self, places: int) -> None:
        """Compute the prompts of the jobs that will get some of `places`, in one batch."""
        jobs, slots = list[Job](), -self._next
        for job in list(self._jobs):
            if slots >= places:
                break
            if not job.cancelled:
                slots += len(job.seeds)
                if job not in self._prefixes:
                    jobs.append(job)
        if not jobs:
            return
        padded = -(-max(len(job.prompt) for job in jobs) // _KEYS) * _KEYS
        tokens = torch.tensor([job.prompt + [PAD] * (padded - len(job.prompt)) for job in jobs])
        positions = torch.tensor([job.positions[:-1] + [0] * (padded - len(job.prompt)) for job in jobs])
        x, k, v = prefilled(self._decoder, tokens, positions)
        last = x[range(len(jobs)), [len(job.prompt) - 1 for job in jobs]]
        logits = self._decoder.head(torch.cat([last, last.new_zeros(-len(jobs) % _ROWS, last.shape[1])]))
        k, joules = _side_by_side(k), self._joules_since() / len(jobs)
        for i, job in enumerate(jobs):
            T = len(job.prompt)
            self._prefixes[job] = k[:, i : i + 1, :, :T], v[:, i : i + 1, :, :T], logits[i : i + 1]
            job.shared = Cost(
                flops=self._shape.flops(T, logits=1),
                bytes_moved=self.weight_bytes / len(jobs) + self._shape.kv_traffic(T, value_bytes=_NUMBER_BYTES),
                tokens_in=T,
                joules=joules,
            )

    def _place(self, job: Job, rows: list[int]) -> Tensor:
        """Make ready the rows of the next slots of a job; the logits [1, V] after its prompt."""
        a, s, T = self._a, job.sampling, len(job.prompt)
        k, v, logits = self._prefixes[job]
        self._k[:, rows, :, :T] = k
        self._v[:, rows, :, :T] = v
        self._mask[rows] = -torch.inf
        self._mask[rows, :, :T] = 0
        slots = range(self._next, self._next + len(rows))
        for row, slot in zip(rows, slots, strict=True):
            self._owner[row : row + 1] = [(job, slot)]  # also one past the end
        self._length[rows] = T
        self._position[rows] = job.positions[-1] - 1
        self._drawn[rows] = 0
        self._most[rows] = min(s.max_tokens, a.context - job.positions[-1])
        self._uniform[rows] = uniforms(job.seeds[slots.start : slots.stop], a.context + 1)
        self._temperature[rows], self._top_p[rows] = s.temperature, s.top_p
        may_end = np.zeros(a.vocabulary, np.bool_)
        may_end[[*(a.encode(text)[-1] for text in _known(a.alphabet, s.stop)), a.end]] = True
        self._may_end[rows] = may_end
        self._bytes[rows] = self._joules[rows] = 0
        return logits

    def _close_ranks(self) -> None:
        """Move the last rows to where others have ended, so that the batch has no holes."""
        count = sum(owner is not None for owner in self._owner)
        holes = [row for row in range(count) if self._owner[row] is None]
        if holes:
            last = [row for row in range(count, len(self._owner)) if self._owner[row] is not None]
            for hole, row in zip(holes, last, strict=True):
                self._owner[hole] = self._owner[row]
            T = int(self._length[last].max())
            for cache in (self._k, self._v):
                cache[:, holes, :, :T] = cache[:, last, :, :T]
            self._mask[holes] = self._mask[last]
            for state in (
                *(self._length, self._position, self._out, self._logprob, self._drawn, self._most, self._uniform),
                *(self._temperature, self._top_p, self._may_end, self._bytes, self._joules),
            ):
                state[holes] = state[last]
        self._length[count : len(self._owner)] = self._position[count : len(self._owner)] = 0
        del self._owner[count:]

    # One token for every slot

    def _advance(self) -> list[Finished]:
        a, n = self._a, len(self._owner)
        M = -(-n // _ROWS) * _ROWS
        T = -(-int(self._length[:n].max() + 1) // _KEYS) * _KEYS
        every = np.arange(M)
        last = torch.as_tensor(self._out[every, np.maximum(self._drawn[:M] - 1, 0)])
        self._position[:n] += 1
        self._mask[every[:n], 0, self._length[:n]] = 0
        mask = self._mask[:M, :, :T]
        turn = self._turn[self._position[:M]][:, None]
        kv = np.arange(a.kv_heads) * self._keys
        at = torch.as_tensor((every[:, None] * a.kv_heads * self._keys + kv + self._length[:M, None]).ravel())
        turned = a.heads + a.kv_heads
        x = self._decoder.embedding.weight[last]
        for layer, K, V in zip(self._layers, self._k, self._v, strict=True):
            qkv = functional.linear(_normed(x), layer.qkv).view(M, -1, a.head_width)
            pairs = torch.view_as_complex(qkv[:, :turned].view(M, turned, -1, 2))
            qk = torch.view_as_real(pairs * turn).flatten(2)
            K.view(-1, a.head_width).index_copy_(0, at, qk[:, a.heads :].reshape(-1, a.head_width))
            V.view(-1, a.head_width).index_copy_(0, at, qkv[:, turned:].reshape(-1, a.head_width))
            q = qk[:, : a.heads].reshape(M * a.kv_heads, -1, a.head_width)
            scores = torch.bmm(q, K[:M, :, :T].flatten(0, 1).transpose(1, 2))
            scores.view(M, a.heads, T).add_(mask)
            attended = torch.bmm(scores.softmax(-1), V[:M, :, :T].flatten(0, 1))
            x = x + functional.linear(attended.view(M, a.width), layer.out)
            gate, up = functional.linear(_normed(x), layer.gate_up).chunk(2, -1)
            x += functional.linear(functional.silu(gate).mul_(up), layer.down)
        logits = functional.linear(_normed(x), self._head)[:n]
        self._length[:n] += 1
        self._joules[:n] += self._joules_since() / n
        self._bytes[:n] += self.weight_bytes / n + self._shape.kv_bytes(1, _NUMBER_BYTES) * (self._length[:n] + 1)
        return self._draw(logits, every[:n])

    def _draw(self, logits: Tensor, rows: NDArray[np.int64]) -> list[Finished]:
        """A token for each of `rows` from its logits [B, V]; the slots that end with it."""
        scores = logits.double().numpy()
        scores[:, PAD] = -np.inf
        drawn, index = self._drawn[rows], np.arange(len(rows))
        tokens = _sampled(scores, self._temperature[rows], self._top_p[rows], self._uniform[rows, drawn])
        top = scores.max(1)
        total = top + np.log(np.exp(scores - top[:, None]).sum(1))
        self._out[rows, drawn] = tokens
        self._logprob[rows, drawn] = scores[index, tokens] - total
        self._drawn[rows] = drawn + 1
        full = drawn + 1 >= self._most[rows]
        done = list[Finished]()
        for i in np.flatnonzero(full | self._may_end[rows, tokens]).tolist():
            finished = self._finished(int(rows[i]), cut=bool(full[i]))
            if finished is not None:
                done.append(finished)
                self._owner[rows[i]] = None
        return done

    def _finished(self, row: int, *, cut: bool) -> Finished | None:
        owner = self._owner[row]
        assert owner is not None
        (job, slot), a, count = owner, self._a, int(self._drawn[row])
        ids: list[int] = self._out[row, :count].tolist()
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
            flops=self._shape.flops(count - 1, T, logits=count - 1),
            bytes_moved=float(self._bytes[row]),
            peak_bytes=self.weight_bytes + self._shape.kv_bytes(T + count, _NUMBER_BYTES),
            tokens_cached=0 if slot == 0 else T,
            tokens_out=count,
            wall_s=time.perf_counter() - job.started,
            joules=float(self._joules[row]),
        )
        if slot == 0:
            cost = cost.then(job.shared)
        return Finished(job, slot, Sample(text, tuple(ids), tuple(self._logprob[row, :count].tolist()), reason, cost))


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
