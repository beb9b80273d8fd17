"""The mock's truth: what it says it does is what its samples do."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import beta as beta_function

from isoflop.cost import AXES, in_parallel
from isoflop.model.base import Message, ModelError, Request, Sample, Sampling
from isoflop.model.mock import Faults, Machine, Mock, Skill

MANY = tuple(range(4000))


def test_rate_of_right_answers_is_the_success_probability():
    mock = Mock(Skill(p=0.3), answers={"q": "42"})
    right = sum(s.text == "42" for s in mock.sample(Request("q", MANY)))
    assert abs(right / len(MANY) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / len(MANY))
    assert mock.success_probability("q") == 0.3


@pytest.mark.parametrize("answer", ["42", "B", "Paris", "3.5 km"])
def test_answers_follow_the_distribution_it_tells(answer: str):
    mock = Mock(Skill(p=0.2, wrong=3, lure=0.6), answers={"q": answer})
    truth = mock.distribution("q")
    assert next(iter(truth)) == answer
    assert sum(truth.values()) == pytest.approx(1)
    assert len(truth) == 4
    counts = Counter(s.text for s in mock.sample(Request("q", MANY)))
    assert set(counts) == set(truth)
    for text, p in truth.items():
        assert abs(counts[text] / len(MANY) - p) < 4 * math.sqrt(p * (1 - p) / len(MANY))


def test_the_lure_decides_whether_a_majority_is_right():
    def mode(skill: Skill) -> str:
        samples = Mock(skill, answers={"q": "7"}).sample(Request("q", MANY[:500]))
        return Counter(s.text for s in samples).most_common(1)[0][0]

    assert mode(Skill(p=0.4, wrong=4)) == "7"
    assert mode(Skill(p=0.4, wrong=4, lure=0.9)) != "7"


def test_beta_draws_give_the_known_coverage():
    a, b = 0.441, 0.549
    p = [Mock().success_probability(f"problem {i}") for i in range(3000)]
    for k in (1, 4, 16):
        coverage = sum(1 - (1 - x) ** k for x in p) / len(p)
        assert coverage == pytest.approx(1 - beta_function(a, b + k) / beta_function(a, b), abs=0.025)


def test_probabilities_of_single_prompts_go_over_the_skill():
    mock = Mock(Skill(p=0.0), answers={"q": "1", "r": "2"}, p={"r": 1.0})
    assert [s.text == "1" for s in mock.sample(Request("q", (0, 1)))] == [False, False]
    assert [s.text for s in mock.sample(Request("r", (0, 1)))] == ["2", "2"]


@settings(max_examples=50, deadline=None)
@given(prompt=st.text(max_size=20), seeds=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=8, unique=True))
def test_a_sample_is_a_function_of_prompt_and_seed(prompt: str, seeds: list[int]):
    skill = Skill(p=0.5, steps=2, signal=1)
    together = Mock(skill).sample(Request(prompt, tuple(seeds)))
    one_by_one = [Mock(skill).sample(Request(prompt, (seed,)))[0] for seed in reversed(seeds)][::-1]
    assert together == one_by_one


def test_different_seeds_are_different_draws():
    samples = Mock(Skill(p=0.5, wrong=50)).sample(Request("q", MANY[:100]))
    assert len({s.text for s in samples}) > 20


def test_every_axis_is_filled_and_under_the_estimate():
    mock = Mock(Skill(p=0.5, steps=3), machine=Machine(latency_s=1e-4, jitter_s=1e-4))
    request = Request("a question of six words here", MANY[:5], Sampling(max_tokens=10))
    spent = in_parallel(s.cost for s in mock.sample(request))
    estimate = mock.estimate(request)
    for axis in AXES:
        assert math.isfinite(spent[axis])
        assert spent[axis] <= estimate[axis]
        assert spent[axis] > 0 or axis == "tokens_cached"
    assert spent.tokens_in == 5 * 6
    assert spent.flops == 2e9 * (spent.tokens_in + spent.tokens_out)


def test_log_probabilities_tell_right_from_wrong_only_if_asked():
    def gap(signal: float) -> float:
        samples = Mock(Skill(p=0.5, signal=signal), answers={"q": "1"}).sample(Request("q", MANY))
        mean = {
            right: [sum(s.logprobs) / len(s.logprobs) for s in samples if (s.text == "1") == right]
            for right in (True, False)
        }
        assert all(x <= 0 for level in mean.values() for x in level)
        return sum(mean[True]) / len(mean[True]) - sum(mean[False]) / len(mean[False])

    assert gap(0.0) == pytest.approx(0.0, abs=0.04)
    assert gap(0.5) == pytest.approx(0.5, abs=0.04)


class TestSteps:
    mock = Mock(Skill(p=0.5, steps=4), answers={"q": "9"})

    def test_an_answer_is_right_if_and_only_if_all_steps_are(self):
        samples = self.mock.sample(Request("q", MANY[:2000]))
        right = 0
        for s in samples:
            steps, answer = self.mock.right_steps("q", s.text), s.text.splitlines()[-1]
            assert len(steps) == 4
            assert steps == sorted(steps, reverse=True)  # nothing right follows a wrong step
            assert (answer == "9") == all(steps)
            right += all(steps)
        assert abs(right / 2000 - 0.5) < 4 * math.sqrt(0.25 / 2000)

    @pytest.mark.parametrize("chat", [False, True])
    def test_it_continues_from_where_it_left_off(self, chat: bool):
        def after(prefix: str):
            return (Message("user", "q"), Message("assistant", prefix)) if chat else f"q\n{prefix}"

        by_step = Sampling(stop=("\n",))
        prefix = ""
        for i in range(1, 5):
            drawn = self.mock.sample(Request(after(prefix) if prefix else "q", MANY[:50], by_step))
            assert all(s.text.startswith(f"Step {i}: ") and s.finish_reason == "stop" for s in drawn)
            good = next(s.text for s in drawn if self.mock.right_steps("q", prefix + s.text)[-1])
            prefix += good + "\n"
            assert self.mock.success_probability(after(prefix)) == pytest.approx(0.5 ** (1 - i / 4))
        (end,) = self.mock.sample(Request(after(prefix), (0,)))
        assert end.text == "9"

    def test_nothing_comes_of_a_wrong_step(self):
        prompt = "q\nStep 1: nonsense\n"
        assert self.mock.success_probability(prompt) == 0
        assert all(s.text.splitlines()[-1] != "9" for s in self.mock.sample(Request(prompt, MANY[:200])))


def test_stop_and_max_tokens_cut_the_text_and_the_bill():
    mock = Mock(Skill(p=1, steps=5), answers={"q": "1"})
    (whole,) = mock.sample(Request("q", (3,)))
    (cut,) = mock.sample(Request("q", (3,), Sampling(max_tokens=4)))
    assert cut.finish_reason == "length"
    assert cut.cost.tokens_out == 4 == len(cut.token_ids) == len(cut.logprobs)
    assert whole.text.startswith(cut.text)
    (stopped,) = mock.sample(Request("q", (3,), Sampling(stop=("Step 3",))))
    assert stopped.finish_reason == "stop"
    assert "Step 2" in stopped.text
    assert "Step 3" not in stopped.text
    assert stopped.cost.tokens_out < whole.cost.tokens_out


def arrivals(mock: Mock, request: Request, timeout_s: float = 5.0) -> tuple[dict[int, Sample], BaseException | None]:
    got: dict[int, Sample] = {}

    async def run() -> BaseException | None:
        try:
            await asyncio.wait_for(mock.generate(request, got.__setitem__), timeout_s)
        except (ModelError, TimeoutError) as error:
            return error
        return None

    return got, asyncio.run(run())


class TestFaults:
    request = Request("q", MANY[:1000])

    def test_errors_leave_the_other_slots(self):
        got, error = arrivals(Mock(faults=Faults(error=0.2)), self.request)
        assert isinstance(error, ModelError)
        assert not error.fatal
        assert 130 < 1000 - len(got) < 270

    def test_truncated_samples_are_billed_and_have_no_answer(self):
        mock = Mock(Skill(p=1), Faults(truncate=0.2), answers={"q": "the final answer"})
        got, error = arrivals(mock, self.request)
        cut = [s for s in got.values() if s.finish_reason == "length"]
        assert error is None
        assert 130 < len(cut) < 270
        assert all(s.text != "the final answer" and s.cost.tokens_in == 1 and s.cost.tokens_out == 1 for s in cut)

    def test_hangs_never_return_but_can_be_cancelled(self):
        got, error = arrivals(Mock(faults=Faults(hang=0.01)), self.request, timeout_s=0.5)
        assert isinstance(error, TimeoutError)
        assert 970 < len(got) < 1000

    def test_retries_waste_the_first_attempt(self):
        got, _ = arrivals(Mock(faults=Faults(retry=0.5)), self.request)
        again = [s for s in got.values() if s.attempts == 2]
        assert 400 < len(again) < 600
        assert all(s.wasted == s.cost for s in again)
        assert all(s.wasted.tokens_in == 0 for s in got.values() if s.attempts == 1)


def test_no_more_than_its_concurrency_at_once():
    class Watch(asyncio.Semaphore):
        now = most = 0

        async def acquire(self):
            await super().acquire()
            Watch.now += 1
            Watch.most = max(Watch.most, Watch.now)

        def release(self):
            Watch.now -= 1
            super().release()

    mock = Mock(machine=Machine(latency_s=1e-3, concurrency=3))
    mock._slots = Watch(3)
    assert len(mock.sample(Request("q", MANY[:20]))) == 20
    assert Watch.most == 3


def test_a_specification_opens_what_it_names():
    mock = Mock.open("p=0.3,wrong=6,latency_s=0.01,truncate=0.1")
    assert (mock.skill, mock.machine.latency_s, mock.faults.truncate) == (Skill(p=0.3, wrong=6), 0.01, 0.1)
    assert Mock.open(mock.name.removeprefix("mock:")).name == mock.name
    assert Mock.open("beta=0.44:0.55").skill.beta == (0.44, 0.55)
    assert Mock.open("").skill == Skill()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("q=1", "no option 'q'"),
        ("p", "option=value"),
        ("p=x", "p=x is no number"),
        ("p=2", r"must lie in \[0, 1\]"),
        ("p=0.1,p=0.2", "given twice"),
        ("wrong=1.5", "whole number"),
        ("beta=1", "2 values"),
        ("beta=0:1", "positive"),
        ("error=0.6,hang=0.6", "at most 1"),
    ],
)
def test_a_bad_specification_says_what_is_wrong(words: str, says: str):
    with pytest.raises(ValueError, match=says):
        Mock.open(words)


def test_mocks_whose_samples_differ_have_different_digests():
    told = Mock(Skill(p=0.3))
    told.know({"q": "1"})
    mocks = [Mock(), Mock(Skill(p=0.3)), told, Mock(Skill(p=0.3), answers={"q": "2"}), Mock(Skill(p=0.3), p={"q": 1})]
    assert len({m.digest for m in mocks}) == len(mocks)
    told.sample(Request("q", (0,)))
    told.know({})
    assert told.digest == Mock(Skill(p=0.3), answers={"q": "1"}).digest
