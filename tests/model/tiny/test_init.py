import asyncio
import math

import pytest
import torch

from isoflop.cost import AXES, in_parallel
from isoflop.model.base import Message, ModelError, Request, Sampling
from isoflop.model.load import kinds, load
from isoflop.model.tiny import Tiny
from isoflop.model.tiny.decoder import Decoder, architecture_for
from isoflop.model.tiny.engine import Engine
from isoflop.testing import check_model

torch.set_num_threads(1)


@pytest.fixture
def tiny():
    decoder = Decoder(architecture_for(33e3, "0123456789:\n", (":", "\n"), (8, 20)))
    decoder.initialise(0)
    torch.nn.init.normal_(decoder.head.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    return Tiny(decoder, "tiny:test", "digest", slots=64)


def test_it_is_found_by_name_and_an_unknown_one_lists_those_that_exist():
    assert kinds()["tiny"] == "Tiny"
    with pytest.raises(ValueError, match="chain-34k"):
        load("tiny:chian-33k")


def test_concurrent_callers_share_one_batch(tiny, monkeypatch):
    steps = []
    step = Engine.step
    monkeypatch.setattr(Engine, "step", lambda self: steps.append(0) or step(self))
    request = [Request(f"{i}:", (i, i + 100), Sampling(max_tokens=8)) for i in range(20)]

    async def all_at_once():
        arrived = []
        async with asyncio.TaskGroup() as group:
            for i, r in enumerate(request):
                group.create_task(tiny.generate(r, lambda slot, sample, i=i: arrived.append((i, slot, sample.text))))
        await tiny.close()
        return arrived

    together = asyncio.run(all_at_once())
    assert len(together) == 40
    assert len(steps) <= 9
    for i in (0, 7, 19):
        alone = [sample.text for sample in tiny.sample(request[i])]
        assert alone == [text for _, _, text in sorted(x for x in together if x[0] == i)]


def test_the_estimate_is_never_too_low_but_for_time_and_energy_which_follow_the_speed_of_late(tiny):
    for seeds in ((1,), tuple(range(30))):
        request = Request("123:", seeds, Sampling(max_tokens=12))
        spent, most = in_parallel(s.cost for s in tiny.sample(request)), tiny.estimate(request)
        assert all(math.isfinite(most[axis]) for axis in AXES)
        assert all(spent[axis] <= most[axis] for axis in AXES if axis not in ("wall_s", "joules"))
    before = tiny.estimate(request)
    assert before.wall_s == pytest.approx(before.flops / tiny._engine.flops_per_s)
    tiny._engine.flops_per_s /= 2
    assert tiny.estimate(request).wall_s == pytest.approx(2 * before.wall_s)
    assert tiny.estimate(request).joules == pytest.approx(2 * before.joules)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("123456789:", "10 characters; tiny:test takes at most 8"),
        ("1:" + "2" * 20, "20 characters of a response; tiny:test takes less than 20"),
        ("123", "ends in ':'"),
        ("a:", "'a' at place 0"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_spent(tiny, prompt, message):
    request = Request(prompt, (0,))
    with pytest.raises(ModelError, match=message):
        tiny.estimate(request)
    with pytest.raises(ModelError, match=message):
        tiny.sample(request)
    with pytest.raises(ModelError, match=message):
        tiny.score(prompt, [""])


def test_a_conversation_is_its_text_and_a_started_response_goes_on(tiny):
    (whole,) = tiny.sample(Request("12:", (3,), Sampling(max_tokens=6, temperature=0)))
    (same,) = tiny.sample(Request((Message("user", "12:"),), (3,), Sampling(max_tokens=6, temperature=0)))
    assert same.text == whole.text
    (rest,) = tiny.sample(Request("12:" + whole.text[:2], (3,), Sampling(max_tokens=4, temperature=0)))
    assert whole.text[:2] + rest.text == whole.text


def test_given_texts_are_scored(tiny):
    first, second = tiny.score("12:", ["34\n", "5"])
    assert len(first.logprobs) == 3
    assert len(second.logprobs) == 1
    assert second.logprobs == tuple(tiny.score("12:", ["5"])[0].logprobs)
    assert first.cost.flops > second.cost.flops > 0


def test_no_seed_no_cost(tiny):
    assert tiny.sample(Request("12:", ())) == []


def test_a_cancelled_caller_leaves_the_others_alone(tiny):
    async def run():
        arrived = []
        other = asyncio.create_task(tiny.generate(Request("1:", tuple(range(50))), lambda *_: None))
        await asyncio.sleep(0)
        other.cancel()
        await tiny.generate(Request("2:", (5,)), lambda _, sample: arrived.append(sample.text))
        await tiny.close()
        return arrived

    assert asyncio.run(run()) == [tiny.sample(Request("2:", (5,)))[0].text]


def test_a_failure_reaches_every_caller_and_the_next_call_works(tiny, monkeypatch):
    request = Request("2:", (5,))
    with monkeypatch.context() as broken:
        broken.setattr(Engine, "step", lambda self: 1 / 0)
        with pytest.raises(ModelError, match="tiny:test failed: division by zero"):
            tiny.sample(request)
    assert len(tiny.sample(request)) == 1


def test_it_keeps_the_contract_of_all_models(tiny):
    check_model(tiny, "123:")
    check_model(Tiny.open("chain-34k"), "50 +7 *3 -8 *9 *7 +6 *8:")  # harder than trained: its samples differ
