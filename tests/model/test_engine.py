"""The batch: blocks shared and given back, tokens drawn by inversion, samples independent, costs exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("openvino")

from isoflop.cost.decoder import DecoderShape
from isoflop.model.engine import Blocks, Drawn, Engine, Job, chain
from isoflop.model.paged import Logits

SHAPE = DecoderShape(n_layers=1, d_model=4, n_heads=1, n_kv_heads=1, head_dim=4, d_ff=4, vocab=12)
WEIGHT_BYTES = 1000.0
END = 11


class FakeGraph:
    """A graph whose logits depend on the last token and its position; notes what it is asked to compute.

    It keeps the tokens where a real one keeps keys and values, so that a wrong block table shows as a wrong token.
    """

    block_tokens = 4
    block_bytes = 64

    def __init__(self, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self.memory = np.full((n_blocks, self.block_tokens), -1)
        self.steps: list[list[tuple[int, int]]] = []
        self.fails = False

    def copy_block(self, source: int, target: int) -> None:
        self.memory[target] = self.memory[source]

    def step(self, runs) -> Logits:
        if self.fails:
            raise RuntimeError("out of order")
        self.steps.append([(run.cached, len(run.tokens)) for run in runs])
        rows = []
        for run in runs:
            for i, token in enumerate(run.tokens, run.cached):
                self.memory[run.blocks[i // 4], i % 4] = token
            if run.temperature is not None:
                n = run.cached + len(run.tokens)
                seen = self.memory[np.array(run.blocks)].ravel()[:n]
                rows.append(self.logits(seen, run.temperature or 1.0))
        return Logits(*(np.concatenate(part) for part in zip(*rows))) if rows else Logits(*[np.zeros((0, 1))] * 4)

    def logits(self, seen: np.ndarray, temperature: float):
        z = np.random.default_rng([1, *(int(t) + 1 for t in seen)]).normal(size=(1, SHAPE.vocab)).astype(np.float32)
        z[0, END] = -1.5
        w = np.exp((z - z.max()) / np.float32(temperature))
        return z, w, w.reshape(1, 3, 4).sum(2), np.log(np.exp(z).sum(1))


class Bench:
    """An engine on a fake graph, without its thread."""

    def __init__(self, n_blocks: int = 64, batch: int = 8) -> None:
        self.graph = FakeGraph(n_blocks)
        self.engine = Engine(self.graph, SHAPE, WEIGHT_BYTES, frozenset({END}), self.decode, batch)  # pyright: ignore
        self.graph.steps.clear()
        self.drawn: dict[tuple[int, int], Drawn] = {}
        self.errors: list[Exception] = []
        self.jobs: list[Job] = []

    @staticmethod
    def decode(ids):
        return ["".join(chr(ord("a") + i) for i in one) for one in ids]

    def ask(self, prompt, seeds, limit=6, temperature=1.0, top_p=1.0, stop=()) -> Job:
        n = len(self.jobs)
        job = Job(
            np.array(prompt, np.int64),
            seeds,
            limit,
            temperature,
            top_p,
            stop,
            lambda place, drawn: self.drawn.__setitem__((n, place), drawn),
            self.errors.append,
        )
        self.jobs.append(job)
        self.engine._take(job)
        return job

    def run(self) -> None:
        engine = self.engine
        for _ in range(1000):
            if not (engine._prefills or engine._ready or engine._running):
                return
            engine._advance()
        raise AssertionError("does not come to an end")


PROMPT = list(range(10))


def test_a_prompt_is_computed_once_for_all_its_samples():
    bench = Bench()
    bench.ask(PROMPT, range(5))
    bench.run()
    bench.ask(PROMPT, range(5, 8))
    bench.run()
    prefills = [run for step in bench.graph.steps for run in step if run[1] > 1]
    assert prefills == [(0, 10)]
    assert [d.tokens_in for d in bench.drawn.values()].count(10) == 1
    assert sum(d.tokens_in for d in bench.drawn.values()) == 10
    assert sum(d.tokens_cached for d in bench.drawn.values()) == 7 * 10


def test_tokens_charged_are_those_computed():
    bench = Bench()
    for prompt in (PROMPT, [*PROMPT[:8], 3, 3, 3], [7]):
        bench.ask(prompt, range(4))
    bench.run()
    computed = sum(n for step in bench.graph.steps for _, n in step)
    fed = sum(len(d.token_ids) - 1 for d in bench.drawn.values())
    assert computed == sum(d.tokens_in for d in bench.drawn.values()) + fed


def test_whole_blocks_that_two_prompts_begin_with_are_shared():
    bench = Bench()
    bench.ask(PROMPT, [1])
    bench.run()
    bench.ask([*PROMPT[:8], 3, 3, 3], [1])
    bench.run()
    assert (bench.drawn[1, 0].tokens_in, bench.drawn[1, 0].tokens_cached) == (3, 8)
    assert bench.graph.steps[-len(bench.drawn[1, 0].token_ids)] == [(8, 3)]


def test_a_prompt_that_goes_on_from_a_sample_shares_its_blocks():
    bench = Bench()
    bench.ask(PROMPT, [1], limit=12)
    bench.run()
    said = bench.drawn[0, 0].token_ids
    bench.ask([*PROMPT, *said], [1])
    bench.run()
    fed = 10 + len(said) - 1
    assert bench.drawn[1, 0].tokens_cached == fed // 4 * 4
    assert fed > 11


def test_samples_do_not_depend_on_what_else_is_computed():
    alone = {}
    for seed in range(12):
        bench = Bench()
        bench.ask(PROMPT, [seed])
        bench.run()
        alone[seed] = bench.drawn[0, 0]
    together = Bench(batch=5)
    together.ask([5, 5, 5], range(20, 26), temperature=0.5)
    together.ask(PROMPT, [11, 3, 7, 0])
    together.ask(PROMPT, [1, 2, 4, 5, 6, 8, 9, 10])
    together.run()
    for job, seeds in ((1, [11, 3, 7, 0]), (2, [1, 2, 4, 5, 6, 8, 9, 10])):
        for place, seed in enumerate(seeds):
            assert together.drawn[job, place].token_ids == alone[seed].token_ids
            assert together.drawn[job, place].logprobs == alone[seed].logprobs
    assert len({d.token_ids for d in alone.values()}) > 6


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_whatever_is_asked_comes_and_all_blocks_come_back(data):
    n_blocks = data.draw(st.integers(9, 40))
    bench = Bench(n_blocks, batch=data.draw(st.integers(1, 6)))
    bench.engine.prefill_tokens = data.draw(st.integers(1, 8))
    asked = 0
    for _ in range(data.draw(st.integers(1, 6))):
        prompt = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=12))
        slots = data.draw(st.integers(1, 5))
        asked += slots
        job = bench.ask(prompt, range(slots), limit=data.draw(st.integers(1, 16)))
        for _ in range(data.draw(st.integers(0, 3))):
            if bench.engine._prefills or bench.engine._ready or bench.engine._running:
                bench.engine._advance()
        if data.draw(st.booleans()) and data.draw(st.booleans()):
            job.cancelled = True
            asked -= slots - sum(n == len(bench.jobs) - 1 for n, _ in bench.drawn)
    bench.run()
    assert len(bench.drawn) == asked
    bench.engine._make_room(n_blocks)
    assert bench.engine._blocks.available == n_blocks


def test_samples_of_one_token_take_turns():
    bench = Bench(batch=1)
    bench.ask(PROMPT, range(3), limit=1)
    bench.run()
    assert [d.finish for d in bench.drawn.values()] == ["length"] * 3
    assert len(bench.graph.steps) == 1


def test_a_cancelled_job_leaves_the_batch():
    bench = Bench()
    bench.ask(PROMPT, range(3), limit=50)
    bench.ask([1, 2], range(2), limit=3)
    bench.engine._advance()
    bench.jobs[0].cancelled = True
    bench.run()
    assert {job for job, _ in bench.drawn} == {1}


def test_samples_end_as_they_should():
    bench = Bench()
    bench.ask(PROMPT, range(40), limit=6)
    bench.run()
    drawn = list(bench.drawn.values())
    assert {d.finish for d in drawn} == {"stop", "length"}
    for d in drawn:
        assert END not in d.token_ids[:-1]
        assert (d.finish == "stop") == (d.token_ids[-1] == END)
        assert len(d.token_ids) == 6 or d.finish == "stop"


def test_a_stop_string_ends_a_sample():
    free, stopped = Bench(), Bench()
    free.ask(PROMPT, range(30), limit=8)
    free.run()
    stopped.ask(PROMPT, range(30), limit=8, stop=("c", "dd"))
    stopped.run()
    cut = 0
    for key, d in free.drawn.items():
        text = Bench.decode([d.token_ids])[0]
        ends = [text.find(s) + len(s) for s in ("c", "dd") if s in text]
        cut += bool(ends)
        assert len(stopped.drawn[key].token_ids) == min([*ends, len(text)])
        assert not ends or stopped.drawn[key].finish == "stop"
    assert cut > 5


def test_temperature_zero_takes_the_most_likely():
    bench = Bench()
    bench.ask(PROMPT, range(3), temperature=0.0)
    bench.run()
    assert len({d.token_ids for d in bench.drawn.values()}) == 1
    first = bench.drawn[0, 0].token_ids[0]
    assert first == bench.graph.logits(np.array(PROMPT), 1.0)[0].argmax()


def test_shares_add_up_to_what_was_computed():
    bench = Bench()
    bench.ask(PROMPT, range(3))
    bench.ask([4, 4], range(2))
    bench.run()
    drawn = list(bench.drawn.values())
    runs = [run for step in bench.graph.steps for run in step]
    traffic = sum(SHAPE.kv_traffic(n, cached, 4) for cached, n in runs)
    assert sum(d.bytes_moved for d in drawn) == pytest.approx(len(bench.graph.steps) * WEIGHT_BYTES + traffic)
    flops = sum(SHAPE.flops(n, cached) for cached, n in runs)
    assert sum(d.flops for d in drawn) == flops


def test_a_failure_reaches_every_job_and_the_engine_goes_on():
    bench = Bench()
    bench.ask(PROMPT, [1, 2])
    bench.ask([1], [1])
    bench.graph.fails = True
    with pytest.raises(RuntimeError) as error:
        bench.engine._advance()
    bench.engine._abandon(error.value)
    assert [str(e) for e in bench.errors] == ["out of order"] * 2
    bench.graph.fails = False
    bench.ask(PROMPT, [3])
    bench.run()
    assert (2, 0) in bench.drawn


def test_draws_follow_the_distribution():
    z, weights, sums, log_sum = FakeGraph(1).logits(np.array(PROMPT), 0.7)
    logits = Logits(z, weights, sums, log_sum)
    n = 20000
    uniforms = (np.arange(n) + 0.5) / n
    tokens, logprobs = logits.draw(np.zeros(n, np.int64), uniforms, [1.0] * n)
    p = weights[0] / weights.sum()
    assert np.abs(np.bincount(tokens, minlength=12) / n - p).max() <= 1 / n + 1e-6
    assert logprobs == pytest.approx((z[0] - log_sum[0])[tokens], abs=1e-5)


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.9, 0.999])
def test_the_nucleus_is_the_smallest_set_with_that_mass(top_p):
    logits = Logits(*FakeGraph(1).logits(np.array([1]), 1.0))
    n = 20000
    tokens, _ = logits.draw(np.zeros(n, np.int64), (np.arange(n) + 0.5) / n, [top_p] * n)
    p = np.sort(logits.weights[0] / logits.weights.sum())[::-1].astype(float)
    size = int(np.searchsorted(np.cumsum(p), top_p)) + 1
    found = np.sort(np.bincount(tokens, minlength=12) / n)[::-1]
    assert (found > 0).sum() == size
    assert found[:size] == pytest.approx(p[:size] / p[:size].sum(), abs=2 / n)


def test_uniform_numbers_at_the_edge_give_possible_tokens():
    z = np.array([[0.0, -np.inf, 1.0, -np.inf] + [-np.inf] * 8], np.float32)
    weights = np.exp(z)
    logits = Logits(z, weights, weights.reshape(1, 3, 4).sum(2), np.log(weights.sum(1)))
    tokens, _ = logits.draw(np.zeros(3, np.int64), np.array([0.0, np.nextafter(1, 0), math.nan]), [1.0] * 3)
    assert tokens.tolist() == [0, 2, 2]


def test_the_key_of_a_block_covers_all_before_it():
    a, b = chain(np.array([1, 2, 3, 4, 5]), 2), chain(np.array([9, 2, 3, 4, 5]), 2)
    assert len(a) == 2
    assert a[1] != b[1]
    assert chain(np.array([1, 2, 3, 4]), 2) == a


def test_idle_blocks_are_forgotten_oldest_first():
    blocks = Blocks(3)
    held = blocks.take(3)
    for block, key in zip(held, (b"a", b"b", b"c")):
        blocks.remember(block, key)
    for block in (held[1], held[0], held[2]):
        blocks.give_back([block])
    assert blocks.available == 3
    blocks.take(1)
    assert blocks.find([b"b"]) == []
    assert blocks.find([b"a", b"c", b"b"]) == [held[0], held[2]]
