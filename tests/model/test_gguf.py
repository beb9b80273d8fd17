"""A GGUF file answers as its weights say, many samples at once, and charges for what it computed."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("openvino_genai")

from isoflop.model import gguf as room
from isoflop.model.base import Message, ModelError, Request, Sampling
from isoflop.model.gguf import Gguf
from isoflop.model.load import load
from isoflop.testing import check_model


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own for what is converted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def path(tiny, tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(path):
    return Gguf(path, threads=1)


def test_the_contract_of_all_models_holds(model):
    check_model(model)


def test_log_probabilities_are_those_of_the_architecture(tiny, model):
    request = Request("hello there", tuple(range(4)), Sampling(max_tokens=50))
    prompt = model._tokens("hello there").tolist()
    for sample in model.sample(request):
        # Off by up to 0.02 whatever the precision of the cache: a wrong rotation or norm would be off by 1 and more.
        assert sample.logprobs == pytest.approx(tiny.log_probs(prompt, list(sample.token_ids)), abs=0.06)


def test_greedy_takes_what_the_architecture_finds_most_likely(tiny, model):
    request = Request("hello", (0,), Sampling(max_tokens=12, temperature=0))
    [sample] = model.sample(request)
    prompt = model._tokens("hello").tolist()
    best = tiny.logits([*prompt, *sample.token_ids])[len(prompt) - 1 : -1]
    chosen = best[np.arange(len(best)), sample.token_ids]
    assert best.max(1) == pytest.approx(chosen, abs=0.06)


def test_samples_of_one_prompt_share_it(model):
    samples = model.sample(Request("Once upon a time", tuple(range(6)), Sampling(max_tokens=5)))
    n = len(model._tokens("Once upon a time"))
    assert [s.cost.tokens_in for s in samples] == [n, 0, 0, 0, 0, 0]
    assert [s.cost.tokens_cached for s in samples] == [0] + [n] * 5
    assert all(s.cost.tokens_out == len(s.token_ids) == len(s.logprobs) for s in samples)
    flops = [model._shape.flops(len(s.token_ids) - 1, n, len(s.token_ids) - 1) for s in samples]
    assert [s.cost.flops for s in samples] == [flops[0] + model._shape.flops(n), *flops[1:]]
    assert all(s.cost.joules > 0 and s.cost.wall_s > 0 and math.isnan(s.cost.usd) for s in samples)


def test_calls_at_the_same_time_are_one_batch(model, monkeypatch):
    sizes = []
    step = model._engine._graph.step
    monkeypatch.setattr(model._engine._graph, "step", lambda runs: sizes.append(len(runs)) or step(runs))
    found = []

    async def calls():
        ask = [Request(p, tuple(range(3)), Sampling(max_tokens=20)) for p in ("a", "b", "c", "d")]
        await asyncio.gather(*(model.generate(r, lambda _, s: found.append(s)) for r in ask))
        await model.close()

    asyncio.run(calls())
    assert len(found) == 12
    assert max(sizes) > 6
    assert len(sizes) < 30


def test_samples_arrive_as_they_finish(model):
    order = []

    async def calls():
        short = model.generate(Request("b", (1,), Sampling(max_tokens=1)), lambda *_: order.append("short"))
        long = model.generate(Request("a", (1,), Sampling(40, temperature=0)), lambda *_: order.append("long"))
        await asyncio.gather(long, short)
        await model.close()

    asyncio.run(calls())
    assert order == ["short", "long"]


def test_a_cancelled_call_stops_computing(model):
    async def calls():
        request = Request("z", tuple(range(8)), Sampling(max_tokens=100))
        task = asyncio.create_task(model.generate(request, lambda *_: None))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other = []
        await model.generate(Request("y", (1,), Sampling(max_tokens=3)), lambda _, s: other.append(s))
        assert len(other) == 1
        await model.close()

    asyncio.run(calls())
    assert not model._engine._running


def test_an_error_of_the_receiver_reaches_the_caller(model):
    async def call():
        try:
            await model.generate(Request("z", (1, 2), Sampling(max_tokens=2)), lambda *_: 1 / 0)
        finally:
            await model.close()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(call())


def test_a_failing_engine_is_one_clear_error(model, monkeypatch):
    def broken(_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(model._engine._graph, "step", broken)
    with pytest.raises(ModelError, match="no such kernel"):
        model.sample(Request("z", (1, 2)))


def test_stop_strings_are_cut_off_and_paid_for(model):
    request = Request("hello", tuple(range(8)), Sampling(max_tokens=30))
    free = model.sample(request)
    mark = next(s.text[3] for s in free if len(s.text) > 5 and s.text[3].isascii())
    for before, after in zip(free, model.sample(replace(request, sampling=Sampling(30, stop=(mark,))))):
        assert after.text == before.text.split(mark)[0]
        assert after.token_ids == before.token_ids[: len(after.token_ids)]
        assert (mark in before.text) == (after.token_ids != before.token_ids or before.text.endswith(mark))


def test_text_is_the_users_turn_and_an_assistants_turn_is_continued(model):
    text = "hello"
    asked = model._tokens((Message("user", text),))
    assert model._tokens(text).tolist() == asked.tolist()
    begun = model._tokens((Message("user", text), Message("assistant", "he")))
    assert begun.tolist()[: len(asked)] == asked.tolist()
    assert model._tokenizer.decode(begun[len(asked) :].tolist()) == "he"


def test_a_base_model_continues_text_and_takes_no_conversation(tiny, tmp_path):
    base = replace(tiny, metadata={k: v for k, v in tiny.metadata.items() if k != "tokenizer.chat_template"})
    model = Gguf(base.write(tmp_path / "base.gguf"), threads=1)
    assert model._tokenizer.decode(model._tokens("hello").tolist()) == "hello"
    assert len(model._tokens("hello")) == 3
    with pytest.raises(ModelError, match="chat template"):
        model.estimate(Request((Message("user", "hello"),), (1,)))


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(model, monkeypatch):
    monkeypatch.setattr(model._engine, "submit", lambda _: pytest.fail("asked the engine"))
    request = Request("x" * 200, (1,))
    n = len(model._tokens("x" * 200))
    with pytest.raises(ModelError, match=rf"prompt of {n} tokens .* context of 160; nothing was spent"):
        model.sample(request)
    with pytest.raises(ModelError):
        model.estimate(request)


def test_generation_ends_with_the_context(model):
    text = "x" * 120
    room = 160 - len(model._tokens(text))
    request = Request(text, tuple(range(20)), Sampling(max_tokens=500))
    samples = model.sample(request)
    assert max(len(s.token_ids) for s in samples) == room
    assert {s.finish_reason for s in samples if len(s.token_ids) == room} <= {"length", "stop"}
    assert model.estimate(request).tokens_out == 20 * room


def test_the_digest_tells_weights_apart(tiny, path, model, tmp_path):
    weights = {**tiny.weights, "output_norm.weight": tiny.weights["output_norm.weight"] * 1.5}
    other = Gguf(replace(tiny, weights=weights).write(tmp_path / "other.gguf"), threads=1)
    assert other.digest != model.digest
    assert Gguf(path, threads=1).digest == model.digest
    request = Request("hello", (1,), Sampling(max_tokens=4))
    assert other.sample(request)[0].logprobs != model.sample(request)[0].logprobs


def test_an_architecture_that_cannot_be_read_is_named(tiny, tmp_path):
    names = {k.replace("llama.", "mamba."): v for k, v in tiny.metadata.items()}
    odd = replace(tiny, metadata={**names, "general.architecture": "mamba"})
    with pytest.raises(ModelError, match=r"cannot read this model \(architecture mamba\)"):
        Gguf(odd.write(tmp_path / "odd.gguf"))
    assert not list(tmp_path.glob("*.xml"))


def test_known_names_are_pulled_and_paths_are_not(path, monkeypatch):
    pulled = []
    monkeypatch.setattr(room, "pull", lambda name: pulled.append(name) or [path])
    assert load("gguf:smollm2-135m").name == "gguf:smollm2-135m"
    assert load(f"gguf:{path}").name == f"gguf:{path}"
    assert pulled == ["smollm2-135m"]
    with pytest.raises(ValueError, match=r"neither a \.gguf file nor a known model \(smollm2-135m\)"):
        load("gguf:gpt-9")
    with pytest.raises(ModelError, match="No such file"):
        load("gguf:/nowhere/x.gguf")


def test_a_processor_that_cannot_compute_it_is_one_clear_error(path, monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("Exception from core.cpp:117:\nexpect kvcache type bf16, current: f32\n\n")

    monkeypatch.setattr(room, "Graph", refuse)
    with pytest.raises(ModelError, match=r"cannot compute .*\.gguf on this processor: expect kvcache type bf16"):
        Gguf(path)
