"""Batched decoding: many samples of many prompts as one running batch.

What OpenVINO computes is arranged here so that a prompt is computed once, however many samples are drawn from it, and
each sample has a random stream of its own. (The pipeline that ships with OpenVINO GenAI shares whole blocks of 32
tokens only, and computes the rest of a prompt again for each sample; for short answers that is most of the work.)
"""

from __future__ import annotations

import hashlib
import math
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from isoflop.cost.decoder import DecoderShape
from isoflop.model.paged import KV_VALUE_BYTES, Graph, Ints, Logits, Run

_PROMPTS_KEPT = 256  # prompts whose last logits are kept for further samples


@dataclass(slots=True)
class Blocks:
    """Which blocks of keys and values are in use; full ones stay for whoever has the same tokens before.

    Args:
        total: how many there are.
    """

    total: int
    _free: list[int] = field(init=False)
    _users: list[int] = field(init=False)
    _key_of: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _known: dict[bytes, int] = field(default_factory=dict[bytes, int])
    _idle: OrderedDict[int, None] = field(default_factory=OrderedDict[int, None])

    def __post_init__(self) -> None:
        self._free, self._users = list(range(self.total - 1, -1, -1)), [0] * self.total

    @property
    def available(self) -> int:
        """How many `take` can give."""
        return len(self._free) + len(self._idle)

    def take(self, count: int) -> list[int]:
        """Blocks for new tokens; forgets what the longest idle ones held where none is free."""
        taken: list[int] = []
        for _ in range(count):
            if self._free:
                block = self._free.pop()
            else:
                block, _ = self._idle.popitem(last=False)
                del self._known[self._key_of.pop(block)]
            self._users[block] = 1
            taken.append(block)
        return taken

    def share(self, blocks: Sequence[int]) -> None:
        """One more user of each."""
        for block in blocks:
            self._users[block] += 1
            self._idle.pop(block, None)

    def give_back(self, blocks: Sequence[int]) -> None:
        """One user less of each."""
        for block in blocks:
            self._users[block] -= 1
            if not self._users[block]:
                if block in self._key_of:
                    self._idle[block] = None
                else:
                    self._free.append(block)

    def remember(self, block: int, key: bytes) -> None:
        """Let a full block be found by its key, unless another one with the same content is already."""
        if key not in self._known and block not in self._key_of:
            self._known[key], self._key_of[block] = block, key

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """The blocks of the longest known beginning of a chain; not yet shared."""
        found: list[int] = []
        for key in keys:
            if key not in self._known:
                break
            found.append(self._known[key])
        return found


def chain(tokens: Ints, block_tokens: int) -> list[bytes]:
    """A key for each full block of `tokens`: a digest of all tokens up to its end."""
    keys: list[bytes] = []
    before = hashlib.blake2b(digest_size=16)
    for end in range(block_tokens, len(tokens) + 1, block_tokens):
        before.update(tokens[end - block_tokens : end].tobytes())
        keys.append(before.copy().digest())
    return keys


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished sample and what was spent on it.

    Args:
        token_ids: generated, the one that ended it included.
        logprobs: of each (nats, at temperature 1).
        finish: `length` if cut off.
        tokens_in: prompt tokens computed for it (count).
        tokens_cached: prompt tokens it took from others (count).
        flops: see `DecoderShape`.
        bytes_moved: its share of each step's reading of the weights, and its own keys and values.
        busy_s: its share of the steps' time (seconds).
        wall_s: from its prompt's first step to its last token (seconds).
        kv_bytes: memory of its own keys and values.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Literal["stop", "length"]
    tokens_in: int
    tokens_cached: int
    flops: float
    bytes_moved: float
    busy_s: float
    wall_s: float
    kv_bytes: int


@dataclass(slots=True, eq=False)
class Job:
    """Samples of one prompt to draw.

    Args:
        tokens: the prompt.
        seeds: one a slot.
        limit: most tokens to generate (count).
        temperature: 0 takes the most likely token.
        top_p: nucleus (fraction of the probability mass).
        stop: strings that end a sample.
        arrived: takes the place in `seeds` and the sample; called on the engine's thread.
        failed: takes what went wrong; called on the engine's thread, at most once.
        cancelled: set it from any thread, and the slots that have not arrived are dropped.
    """

    tokens: Ints
    seeds: Sequence[int]
    limit: int
    temperature: float
    top_p: float
    stop: tuple[str, ...]
    arrived: Callable[[int, Drawn], None]
    failed: Callable[[Exception], None]
    cancelled: bool = False


@dataclass(slots=True)
class _Spent:
    flops: float = 0.0
    bytes_moved: float = 0.0
    busy_s: float = 0.0
    since: float = 0.0


@dataclass(slots=True, eq=False)
class _Prompt:
    tokens: Ints
    keys: list[bytes]
    blocks: list[int] = field(default_factory=list[int])
    reserve: list[int] = field(default_factory=list[int])
    done: int = 0
    cached: int = 0
    logits: Logits | None = None
    waiting: list[tuple[Job, int]] = field(default_factory=list[tuple[Job, int]])
    running: int = 0
    spent: _Spent | None = None  # of computing it; charged to the first sample that starts


@dataclass(slots=True, eq=False)
class _Slot:
    job: Job
    place: int
    prompt: _Prompt
    random: np.random.Generator
    shared: int
    own: list[int]
    spent: _Spent
    computed: int
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])

    @property
    def cached(self) -> int:
        return len(self.prompt.tokens) + len(self.ids) - 1

    @property
    def blocks(self) -> list[int]:
        return [*self.prompt.blocks[: self.shared], *self.own]

    def uniform(self) -> float:
        return self.random.random() if self.job.temperature else math.nan


class Engine:
    """One thread that steps one batch; jobs join between two steps, and samples leave as they finish.

    Args:
        graph: what computes.
        shape: of the decoder, for its FLOPs.
        weight_bytes: read once a step (bytes).
        end_tokens: ids that end a sample.
        decode: texts of token ids, for stop strings.
        batch: sequences at the same time (count).
    """

    prefill_tokens = 256
    """Prompt tokens computed in one step at most; more would make the running samples wait."""

    def __init__(
        self,
        graph: Graph,
        shape: DecoderShape,
        weight_bytes: float,
        end_tokens: frozenset[int],
        decode: Callable[[list[list[int]]], list[str]],
        batch: int,
    ) -> None:
        self._graph, self._shape, self._weight_bytes = graph, shape, weight_bytes
        self._end_tokens, self._decode, self._batch = end_tokens, decode, batch
        self._blocks = Blocks(graph.n_blocks)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._prompts: OrderedDict[bytes, _Prompt] = OrderedDict()
        self._prefills: deque[_Prompt] = deque()
        self._ready: deque[tuple[_Prompt, Job, int]] = deque()
        self._running: list[_Slot] = []
        self._thread: threading.Thread | None = None
        self.flops_per_s = self._warm_up()
        """Speed of the latest steps."""

    def _warm_up(self) -> float:
        run = Run(0, range(self._graph.block_tokens), [0])
        self._graph.step([run])  # the first step also makes OpenVINO choose its kernels
        start = time.perf_counter()
        self._graph.step([run])
        return self._shape.flops(len(run.tokens)) / (time.perf_counter() - start)

    def submit(self, job: Job) -> None:
        """Take a job; from any one thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="isoflop-gguf", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def stop(self) -> None:
        """End the thread when the step under way is done; the next job starts it again."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while True:
            while not self._jobs.empty() or not (self._prefills or self._ready or self._running):
                job = self._jobs.get()
                if job is None:
                    self._abandon(RuntimeError("the model was closed"))
                    return
                self._take(job)
            try:
                self._advance()
            except Exception as error:  # whatever OpenVINO raises ends the samples under way, not the process
                self._abandon(error)

    def _abandon(self, error: Exception) -> None:
        jobs = [slot.job for slot in self._running] + [job for _, job, _ in self._ready]
        jobs += [job for prompt in self._prefills for job, _ in prompt.waiting]
        for job in dict.fromkeys(jobs):
            job.failed(error)
        self._blocks = Blocks(self._graph.n_blocks)
        for held in (self._prompts, self._prefills, self._ready, self._running):
            held.clear()

    def _take(self, job: Job) -> None:
        key = job.tokens.tobytes()
        prompt = self._prompts.get(key)
        if prompt is None:
            prompt = self._prompts[key] = _Prompt(job.tokens, chain(job.tokens, self._graph.block_tokens))
        self._prompts.move_to_end(key)
        if prompt.logits is not None:
            self._ready.extend((prompt, job, place) for place in range(len(job.seeds)))
            return
        if not prompt.waiting:
            self._prefills.append(prompt)
        prompt.waiting.extend((job, place) for place in range(len(job.seeds)))

    def _advance(self) -> None:
        self._drop_cancelled()
        started = self._start_ready()
        decoding = list(self._running)
        filling = self._choose_prefills()
        runs = [Run(s.cached, s.ids[-1:], s.blocks, s.job.temperature) for s in decoding]
        for prompt, count in filling:
            last = prompt.done + count == len(prompt.tokens)
            tokens = prompt.tokens[prompt.done : prompt.done + count]
            runs.append(Run(prompt.done, tokens, prompt.blocks, 1.0 if last else None))
        if not runs:
            if not started and (self._ready or self._prefills):
                raise MemoryError("no room is left for the keys and values of the samples asked for")
            return
        start = time.perf_counter()
        logits = self._graph.step(runs)
        self._account(runs, [s.spent for s in decoding] + [p.spent for p, _ in filling], start)
        if decoding:
            self._append(decoding, logits, np.arange(len(decoding)))
        row = len(decoding)
        for prompt, count in filling:
            prompt.done += count
            if prompt.done == len(prompt.tokens):
                self._prefills.remove(prompt)
                prompt.logits = logits.row(row)
                row += 1
                for block, key in zip(prompt.blocks, prompt.keys):
                    self._blocks.remember(block, key)
                self._ready.extend((prompt, job, place) for job, place in prompt.waiting)
                prompt.waiting.clear()

    def _drop_cancelled(self) -> None:
        for slot in [s for s in self._running if s.job.cancelled]:
            self._release(slot)
        self._ready = deque(entry for entry in self._ready if not entry[1].cancelled)
        for prompt in list(self._prefills):
            prompt.waiting = [entry for entry in prompt.waiting if not entry[0].cancelled]
            if not prompt.waiting:
                self._prefills.remove(prompt)
                self._forget(prompt)

    def _start_ready(self) -> int:
        """Start samples whose prompt is computed, as many as there is room for, with their first token; how many."""
        started: dict[_Prompt, list[_Slot]] = {}
        while len(self._running) < self._batch and (found := self._next_ready()):
            prompt, job, place, own = found
            tail = len(prompt.tokens) % self._graph.block_tokens
            shared = len(prompt.blocks) - bool(tail)
            if tail and job.limit > 1:
                self._graph.copy_block(prompt.blocks[-1], own[0])
            self._blocks.share(prompt.blocks)
            computed, spent = 0, _Spent(since=time.perf_counter())
            if prompt.spent is not None:
                computed, spent, prompt.spent = len(prompt.tokens) - prompt.cached, prompt.spent, None
            random = np.random.default_rng(job.seeds[place] % 2**64)
            slot = _Slot(job, place, prompt, random, shared, own, spent, computed)
            prompt.running += 1
            self._running.append(slot)
            started.setdefault(prompt, []).append(slot)
        for prompt, slots in started.items():
            assert prompt.logits is not None
            by_temperature: dict[float, list[_Slot]] = {}
            for slot in slots:
                by_temperature.setdefault(slot.job.temperature or 1.0, []).append(slot)
            for temperature, some in by_temperature.items():
                logits = prompt.logits if temperature == 1 else prompt.logits.at_temperature(temperature)
                self._append(some, logits, np.zeros(len(some), np.int64))
        return sum(len(slots) for slots in started.values())

    def _next_ready(self) -> tuple[_Prompt, Job, int, list[int]] | None:
        """The next sample to start, with blocks for its own tokens; None if there is none or no room.

        First come, first served; while nothing runs that will make room, the first for which there is some.
        """
        for i, (prompt, job, place) in enumerate(self._ready):
            needed = self._own_blocks(prompt, job)
            if self._make_room(needed - len(prompt.reserve)):
                del self._ready[i]
                self._blocks.give_back(prompt.reserve)
                prompt.reserve = []
                return prompt, job, place, self._blocks.take(needed)
            if self._running:
                return None
        return None

    def _own_blocks(self, prompt: _Prompt, job: Job) -> int:
        # The last token is drawn and never computed, so it takes no place.
        size = self._graph.block_tokens
        return -(-(len(prompt.tokens) + job.limit - 1) // size) - len(prompt.tokens) // size

    def _make_room(self, count: int) -> bool:
        """Forget prompts nobody draws from, oldest first, until `count` blocks are available."""
        for prompt in list(self._prompts.values()):
            if self._blocks.available >= count:
                break
            if prompt.logits is not None and not prompt.running and all(prompt is not p for p, _, _ in self._ready):
                self._forget(prompt)
        return self._blocks.available >= count

    def _forget(self, prompt: _Prompt) -> None:
        self._blocks.give_back(prompt.blocks)
        self._blocks.give_back(prompt.reserve)
        del self._prompts[prompt.tokens.tobytes()]

    def _choose_prefills(self) -> list[tuple[_Prompt, int]]:
        """Prompts to compute in this step and how many tokens of each: enough to keep the batch full.

        A prompt is begun only when no sample waits to be started, and with the room for one sample set aside. So
        whatever is begun can be ended, one sample at a time at worst.
        """
        chosen: list[tuple[_Prompt, int]] = []
        left = self.prefill_tokens
        coming = len(self._running)
        for prompt in self._prefills:
            if left <= 0 or coming >= self._batch:
                break
            if prompt.spent is None and (self._ready or not self._begin(prompt)):
                break
            count = min(left, len(prompt.tokens) - prompt.done)
            chosen.append((prompt, count))
            left -= count
            coming += len(prompt.waiting)
        return chosen

    def _begin(self, prompt: _Prompt) -> bool:
        size = self._graph.block_tokens
        # The last token is computed in any case: its logits are wanted.
        found = self._blocks.find(prompt.keys[: (len(prompt.tokens) - 1) // size])
        self._blocks.share(found)
        fresh = -(-len(prompt.tokens) // size) - len(found)
        own = max(self._own_blocks(prompt, job) for job, _ in prompt.waiting)
        if not self._make_room(fresh + own):
            self._blocks.give_back(found)
            return False
        prompt.blocks = [*found, *self._blocks.take(fresh)]
        prompt.reserve = self._blocks.take(own)
        prompt.done = prompt.cached = len(found) * size
        flops = self._shape.flops(len(prompt.tokens) - prompt.done, prompt.done)
        prompt.spent = _Spent(flops=flops, since=time.perf_counter())
        return True

    def _account(self, runs: Sequence[Run], spents: Sequence[_Spent | None], start: float) -> None:
        """Share a step's time and its reading of the weights by tokens; traffic of the cache is each run's own."""
        took = time.perf_counter() - start
        total = sum(len(run.tokens) for run in runs)
        flops = 0.0
        for run, spent in zip(runs, spents):
            assert spent is not None
            count = len(run.tokens)
            spent.busy_s += took * count / total
            traffic = self._shape.kv_traffic(count, run.cached, KV_VALUE_BYTES)
            spent.bytes_moved += self._weight_bytes * count / total + traffic
            flops += self._shape.flops(count, run.cached, run.temperature is not None)
        self.flops_per_s = 0.9 * self.flops_per_s + 0.1 * flops / took

    def _append(self, slots: list[_Slot], logits: Logits, rows: Ints) -> None:
        """Draw the next token of each slot, and hand over those that are finished."""
        uniforms = np.array([slot.uniform() for slot in slots])
        tokens, logprobs = logits.draw(rows, uniforms, [slot.job.top_p for slot in slots])
        for slot, token, logprob in zip(slots, tokens.tolist(), logprobs.tolist()):
            slot.ids.append(token)
            slot.logprobs.append(logprob)
        stopped = self._stopped([s for s in slots if s.job.stop])
        for slot in slots:
            if slot.ids[-1] in self._end_tokens or slot in stopped:
                self._finish(slot, "stop")
            elif len(slot.ids) >= slot.job.limit:
                self._finish(slot, "length")

    def _stopped(self, slots: list[_Slot]) -> set[_Slot]:
        if not slots:
            return set()
        # A stop string that ends here spans at most as many tokens as it has bytes; two more for split characters.
        tails = [slot.ids[-2 - max(len(s.encode()) for s in slot.job.stop) :] for slot in slots]
        return {slot for slot, text in zip(slots, self._decode(tails)) if any(s in text for s in slot.job.stop)}

    def _finish(self, slot: _Slot, finish: Literal["stop", "length"]) -> None:
        prompt, spent, n_prompt = slot.prompt, slot.spent, len(slot.prompt.tokens)
        n = len(slot.ids)
        tokens = np.concatenate([prompt.tokens, np.array(slot.ids[:-1], np.int64)])
        for block, key in zip(slot.blocks, chain(tokens, self._graph.block_tokens)):
            self._blocks.remember(block, key)
        self._release(slot)
        slot.job.arrived(
            slot.place,
            Drawn(
                tuple(slot.ids),
                tuple(slot.logprobs),
                finish,
                tokens_in=slot.computed,
                tokens_cached=n_prompt - slot.computed,
                flops=spent.flops + self._shape.flops(n - 1, n_prompt, n - 1),
                bytes_moved=spent.bytes_moved,
                busy_s=spent.busy_s,
                wall_s=time.perf_counter() - spent.since,
                kv_bytes=len(slot.own) * self._graph.block_bytes,
            ),
        )

    def _release(self, slot: _Slot) -> None:
        self._running.remove(slot)
        self._blocks.give_back(slot.own)
        self._blocks.give_back(slot.prompt.blocks)
        slot.prompt.running -= 1
        while len(self._prompts) > _PROMPTS_KEPT:
            idle = next((p for p in self._prompts.values() if p.logits is not None and not p.running), None)
            if idle is None or any(idle is p for p, _, _ in self._ready):
                break
            self._forget(idle)
