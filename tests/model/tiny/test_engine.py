import math

import numpy as np
import pytest
import torch

from isoflop.cost import in_sequence
from isoflop.model.base import Sampling
from isoflop.model.tiny.decoder import Decoder, architecture_for
from isoflop.model.tiny.engine import Engine, Job, Network, scored
from isoflop.model.tiny.kernel import PAGE

torch.set_num_threads(1)


def network(params=33e3):
    decoder = Decoder(architecture_for(params, "0123456789:\n", (":", "\n"), (24, 30)))
    decoder.initialise(0)
    torch.nn.init.normal_(decoder.head.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(decoder.embedding.weight, std=1.0, generator=torch.Generator().manual_seed(2))
    return decoder.eval()


NETWORK = network()
A = NETWORK.architecture


LONG = Sampling(max_tokens=25)


def job(prompt, seeds, sampling=LONG):
    return Job(A.encode(prompt), A.positions(prompt + "\n"), tuple(seeds), sampling)


def drawn(engine, *jobs):
    """The samples of jobs, in order, and how many steps they took."""
    for j in jobs:
        engine.submit(j)
    found, steps = {}, 0
    while engine.busy:
        found.update({(f.job, f.slot): f.sample for f in engine.step()})
        steps += 1
    return [[found[j, slot] for slot in range(len(j.seeds))] for j in jobs], steps


def told(sample):
    return sample.text, sample.token_ids, sample.logprobs, sample.finish_reason


@pytest.mark.parametrize("params", [33e3, 400e3])
def test_alone_or_in_a_batch_of_512_a_slot_gets_the_same_tokens(params):
    decoder = network(params)
    (alone,), _ = drawn(Engine(decoder, 16), job("7:", [42]))
    others = [job(f"{i * 7919 % 10 ** (i % 20 + 1)}:", range(100 * i, 100 * i + 19)) for i in range(27)]
    for crowd in ([*others, job("7:", [42])], [job("7:", [1, 42, 3]), *others]):
        samples, _ = drawn(Engine(decoder, 512), *crowd)
        mine = samples[-1][0] if crowd[-1].prompt == A.encode("7:") else samples[0][1]
        assert told(mine) == told(alone[0])
    (late,), _ = drawn(Engine(decoder, 16), job("7:", range(23, 43)))  # 20 slots share 16 places
    assert told(late[19]) == told(alone[0])


def test_all_of_a_crowd_is_what_each_is_alone():
    jobs = [job(f"{i}:", [i, 1000 + i]) for i in range(40)]
    together, _ = drawn(Engine(NETWORK, 64), *jobs)
    for i in range(0, 40, 5):
        (alone,), _ = drawn(Engine(NETWORK, 16), job(f"{i}:", [i, 1000 + i]))
        assert [told(s) for s in alone] == [told(s) for s in together[i]]
    assert len({s.text for samples in together for s in samples}) > 20


def test_tokens_follow_the_networks_distribution():
    (samples,), _ = drawn(Engine(NETWORK, 256), job("12:", range(3000), Sampling(max_tokens=1)))
    with torch.inference_mode():
        logits = NETWORK(torch.tensor([A.encode("12:")]), torch.tensor([A.positions("12:")]))[0, -1].clone()
        logits[0] = -torch.inf  # padding is never drawn
        p = logits.softmax(-1).numpy()
    counts = np.bincount([s.token_ids[0] for s in samples], minlength=A.vocabulary)
    keep = p > 0
    assert counts[~keep].sum() == 0
    chi2 = ((counts[keep] - 3000 * p[keep]) ** 2 / (3000 * p[keep])).sum()
    assert chi2 < 35  # 11 degrees of freedom: beyond 35 with probability 3e-4, and the seeds are fixed


def test_temperature_0_is_greedy_and_a_nucleus_leaves_the_tail_out():
    (greedy,), _ = drawn(Engine(NETWORK), job("5:", range(5), Sampling(max_tokens=10, temperature=0)))
    assert len({s.text for s in greedy}) == 1
    (narrow,), _ = drawn(Engine(NETWORK), job("5:", range(5), Sampling(max_tokens=10, top_p=1e-6)))
    assert told(narrow[0]) == told(greedy[0])
    (nucleus,), _ = drawn(Engine(NETWORK, 512), job("12:", range(500), Sampling(max_tokens=1, top_p=0.6)))
    p = np.exp(scored(NETWORK, "12:", [*"0123456789\n"]))[:, 0]
    order = np.argsort(-p)
    allowed = {int(i) + 1 for i in order[: int(np.searchsorted(np.cumsum(p[order]), 0.6)) + 1]}
    assert {s.token_ids[0] for s in nucleus} == allowed


def test_log_probabilities_are_those_of_scoring_the_text():
    (samples,), _ = drawn(Engine(NETWORK), job("31:", range(6), Sampling(max_tokens=12, temperature=0.7)))
    texts = [A.decode(list(s.token_ids)) for s in samples]
    for sample, logprobs in zip(samples, scored(NETWORK, "31:", texts), strict=True):
        assert sample.logprobs == pytest.approx(logprobs, abs=1e-4)
    total = sum(math.exp(row[0]) for row in scored(NETWORK, "31:", [*A.alphabet]))
    assert total == pytest.approx(1)


def test_stop_strings_end_a_sample_and_stay_out_of_its_text():
    (plain,), _ = drawn(Engine(NETWORK), job("31:", range(40)))
    stops = ("7", "12", "xyz", "")
    (stopped,), _ = drawn(Engine(NETWORK), job("31:", range(40), Sampling(max_tokens=25, stop=stops)))
    hit = 0
    for a, b in zip(plain, stopped, strict=True):
        ends = [end for s in ("7", "12") if (end := a.text.find(s)) >= 0]
        assert b.text == a.text[: min(ends)] if ends else told(a) == told(b)
        hit += bool(ends)
        assert b.token_ids == a.token_ids[: len(b.token_ids)]
        assert b.finish_reason == "stop" if ends else True
        assert (a.finish_reason == "length") == (len(a.token_ids) == 25 and a.token_ids[-1] != A.end)
    assert hit > 10


def test_a_prompt_of_many_samples_is_computed_once_and_what_is_charged_is_what_is_computed(monkeypatch):
    prompt, seeds = "1234567:", range(32)
    engine, shape, T = Engine(NETWORK, 32), A.shape, len(prompt)
    computed, forward = [0], Network.forward

    def counted(self, tokens, positions, pages, seen, ends):
        keys = int(sum(seen).sum())
        computed[0] += 4 * A.layers * A.width * keys + 2 * len(tokens) * (
            A.layers * shape.layer_params + shape.head_params
        )
        return forward(self, tokens, positions, pages, seen, ends)

    monkeypatch.setattr(Network, "forward", counted)
    (samples,), _ = drawn(engine, job(prompt, seeds, Sampling(max_tokens=4)))
    assert samples[0].cost.tokens_in == T
    assert all(s.cost.tokens_in == 0 and s.cost.tokens_cached == T for s in samples[1:])
    expected = shape.flops(T) + sum(shape.flops(len(s.token_ids) - 1, T, len(s.token_ids) - 1) for s in samples)
    assert in_sequence(s.cost for s in samples).flops == expected
    assert computed[0] == expected + 2 * (T - 1) * shape.head_params  # logits of all of the prompt, one of them needed
    bytes_ = sum(s.cost.bytes_moved for s in samples)
    steps = max(len(s.token_ids) for s in samples) - 1
    assert bytes_ > engine.weight_bytes * (1 + steps)
    assert all(s.cost.joules > 0 and s.cost.wall_s > 0 for s in samples if len(s.token_ids) > 1)


def test_callers_share_steps():
    jobs = [job(f"{i}:", [i], Sampling(max_tokens=6)) for i in range(16)]
    _, together = drawn(Engine(NETWORK, 16), *jobs)
    assert together <= 6
    _, waiting = drawn(Engine(NETWORK, 16), *[job(f"{i}:", [i], Sampling(max_tokens=6)) for i in range(32)])
    assert together < waiting <= 12


def test_a_cancelled_job_leaves_and_the_others_stay_as_they_are():
    engine = Engine(NETWORK, 32)
    stay, leave, never = job("1:", range(8)), job("22:", range(8)), job("3:", range(40))
    for j in (leave, stay, never):
        engine.submit(j)
    found = {(f.job, f.slot): f.sample for f in engine.step()}
    leave.cancelled = never.cancelled = True
    while engine.busy:
        found.update({(f.job, f.slot): f.sample for f in engine.step()})
    (alone,), _ = drawn(Engine(NETWORK, 32), job("1:", range(8)))
    assert [told(found[stay, slot]) for slot in range(8)] == [told(s) for s in alone]


def test_a_job_that_comes_while_others_are_taken_in_waits_for_the_next_step(monkeypatch):
    engine, read, late = Engine(NETWORK, 16), Network.read, job("22:", range(4))

    def read_slowly(self, *asked):
        if late not in engine._jobs:
            engine.submit(late)  # as another thread may at any time
        return read(self, *asked)

    monkeypatch.setattr(Network, "read", read_slowly)
    (samples,), _ = drawn(engine, job("1:", range(4)))
    assert len(samples) == 4
    assert len(engine._free) == 17 * (-(-A.context // PAGE) + 1)  # every page was given back


def test_the_longest_response_ends_with_the_context():
    (samples,), _ = drawn(Engine(NETWORK), job("9:", range(30), Sampling(max_tokens=1000)))
    longest = max(len(s.token_ids) for s in samples)
    assert longest == A.context - A.prompt_room
    assert all(s.finish_reason == "length" for s in samples if s.token_ids[-1] != A.end)
