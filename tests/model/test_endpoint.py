"""The endpoint against servers that know what they served."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from isoflop.cost import Cost, in_sequence
from isoflop.cost.prices import Price
from isoflop.model.base import Message, ModelError, Request, Sample, Sampling
from isoflop.model.endpoint import Endpoint, Options, Patience, _retry_after_s, _split
from isoflop.model.load import load
from isoflop.model.mock import Machine, Mock, Skill
from isoflop.testing import check_model
from isoflop.testing.server import Server, ServerFaults

SEEDS = tuple(range(24))
SOON = Patience(backoff_s=0.001)
KEY = "sk-secret-0123456789abcdef"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ISOFLOP_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


class Scripted(Server):
    """Answers with what a test says, and keeps what was sent."""

    def __init__(self, answer: Callable[[dict[str, Any], int], Any]) -> None:
        super().__init__()
        self.answer, self.asked, self.headers = answer, [], []

    async def respond(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        self.headers.append(dict(request.headers))
        said = self.answer(asked, len(self.asked))
        return said if isinstance(said, web.StreamResponse) else web.json_response(said)


def says(text: str = "hi", usage: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    reply: dict[str, Any] = {"choices": [{"message": {"content": text}, "finish_reason": "stop"} | choice]}
    return reply if usage is None else reply | {"usage": usage}


def refuses(status: int, message: str = "no", **headers: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


def one(answer: Callable[[dict[str, Any], int], Any], **kwargs: Any) -> tuple[Sample, Scripted]:
    with Scripted(answer) as server:
        (sample,) = Endpoint(server.url, "m", **({"patience": SOON} | kwargs)).sample(Request("q", (3,)))
    return sample, server


def fails(answer: Callable[[dict[str, Any], int], Any], **kwargs: Any) -> tuple[ModelError, Scripted]:
    with Scripted(answer) as server, pytest.raises(ModelError) as caught:
        Endpoint(server.url, "m", **({"patience": SOON} | kwargs)).sample(Request("q", (3,)))
    return caught.value, server


def spent(samples: list[Sample]) -> tuple[float, float]:
    total = in_sequence([s.cost for s in samples] + [s.wasted for s in samples])
    return total.tokens_in + total.tokens_cached, total.tokens_out


class TestSamples:
    @pytest.mark.parametrize("api", ["chat", "completions"])
    def test_they_are_those_of_the_model_behind_the_server(self, api: str):
        lm = Mock(Skill(p=0.5, steps=3))
        request = Request("some words to answer", SEEDS, Sampling(max_tokens=9, temperature=0.7, stop=("zz",)))
        with Server(lm) as server:
            samples = load(server.specification(api=api)).sample(request)
        for got, truth in zip(samples, lm.sample(request), strict=True):
            assert (got.text, got.finish_reason, got.logprobs) == (truth.text, truth.finish_reason, truth.logprobs)
            assert got.cost.tokens_in == truth.cost.tokens_in
            assert got.cost.tokens_out == truth.cost.tokens_out
        assert spent(samples) == server.tokens()

    def test_it_keeps_the_contract_of_models(self):
        with Server(Mock(Skill(p=0.5, steps=3))) as server:
            check_model(load(server.specification()))
            check_model(load(server.specification(api="completions", n=3)), reproducible=False)

    def test_all_that_a_request_says_is_sent(self):
        turns = (Message("system", "be brief"), Message("user", "q"))
        sampling = Sampling(max_tokens=7, temperature=0.3, top_p=0.9, stop=("\n", "END"))
        with Scripted(lambda asked, i: says()) as server:
            Endpoint(server.url, "m").sample(Request(turns, (5,), sampling))
            Endpoint(server.url, "m", Options(api="completions", logprobs=False)).sample(Request("q", (6,), sampling))
        rest = {"model": "m", "max_tokens": 7, "temperature": 0.3, "top_p": 0.9, "stop": ["\n", "END"]}
        messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "q"}]
        assert server.asked[0] == rest | {"messages": messages, "seed": 5, "logprobs": True}
        assert server.asked[1] == rest | {"prompt": "q", "seed": 6}

    def test_every_slot_has_its_own_seed(self):
        with Server() as server:
            load(server.specification()).sample(Request("q", SEEDS))
        assert sorted(s.seed for s in server.served) == list(SEEDS)

    def test_a_conversation_is_not_for_the_completions_api(self):
        with Server() as server, pytest.raises(ModelError, match="api=chat") as caught:
            load(server.specification(api="completions")).sample(Request((Message("user", "q"),), (0,)))
        assert caught.value.fatal
        assert server.served == []

    def test_no_more_calls_at_once_than_its_concurrency(self):
        with Server(Mock(machine=Machine(latency_s=0.01))) as server:
            load(server.specification(concurrency=3)).sample(Request("q", SEEDS))
        assert server.most_at_once == 3


class TestManyInOneCall:
    @given(total=st.integers(0, 10**6), weights=st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20))
    def test_shares_are_whole_and_add_up(self, total: int, weights: list[float]):
        shares = _split(float(total), weights)
        assert sum(shares) == total
        assert all(share >= 0 and share == int(share) for share in shares)
        whole = sum(weights)
        assert all(abs(share - total * w / whole) < 1 + 1e-6 * total for share, w in zip(shares, weights, strict=True))

    def test_shares_add_up_to_what_was_served(self):
        with Server(Mock(Skill(p=0.5, wrong=50, steps=2))) as server:
            samples = load(server.specification(n=5, logprobs="false")).sample(Request("a b c", SEEDS[:12]))
        assert [s.n for s in server.served] == [5, 5, 2]
        assert spent(samples) == server.tokens()
        assert sum(s.cost.tokens_in for s in samples) == 3 * 3
        assert len({s.text for s in samples}) > 6

    def test_seeds_of_groups_do_not_run_into_each_other(self):
        with Server() as server:
            load(server.specification(n=4)).sample(Request("q", tuple(range(40))))
        drawn = [s.seed + i for s in server.served for i in range(s.n)]
        assert len(set(drawn)) == 40

    def test_a_server_that_gives_one_is_asked_for_the_rest(self):
        with Server(Mock(Skill(p=0.5, wrong=50)), takes_n=False) as server:
            lm = load(server.specification(n=4))
            samples = lm.sample(Request("q", SEEDS[:8]))
            assert len({s.text for s in samples}) > 2
            assert spent(samples) == server.tokens() == (8, 8)
            lm.sample(Request("q", SEEDS[:8]))
        assert len(server.served) == 16  # it has learned


class TestAccounting:
    def test_cached_tokens_are_apart(self):
        usage = {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}}
        sample, _ = one(lambda asked, i: says(usage=usage), price=Price(input=2, output=8, cached=1))
        assert (sample.cost.tokens_in, sample.cost.tokens_cached, sample.cost.tokens_out) == (4, 6, 4)
        assert sample.cost.usd == pytest.approx((4 * 2 + 6 * 1 + 4 * 8) / 1e6)

    @pytest.mark.parametrize(("total", "out"), [(37, 27), (17, 7)])
    def test_reasoning_counts_whether_a_server_adds_it_in_or_not(self, total: int, out: int):
        usage = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": total}
        sample, _ = one(lambda asked, i: says(usage=usage | {"completion_tokens_details": {"reasoning_tokens": 20}}))
        assert sample.cost.tokens_out == out

    def test_an_answer_cut_off_while_reasoning_is_billed(self):
        usage = {"prompt_tokens": 10, "completion_tokens": 256, "total_tokens": 266}
        message = {"content": None, "reasoning_content": "let me think"}
        sample, _ = one(lambda asked, i: says(usage=usage, message=message, finish_reason="length"))
        assert (sample.text, sample.finish_reason, sample.cost.tokens_out) == ("", "length", 256)

    def test_what_a_server_does_not_tell_is_unknown(self):
        sample, _ = one(lambda asked, i: says(), price=Price(1, 1))
        assert all(math.isnan(sample.cost[a]) for a in ("tokens_in", "tokens_out", "usd", "flops", "joules"))

    def test_tokens_are_counted_from_log_probabilities_if_need_be(self):
        levels = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]}
        sample, _ = one(lambda asked, i: says(logprobs=levels))
        assert sample.logprobs == (-0.5, -1.5)
        assert sample.cost.tokens_out == 2
        assert math.isnan(sample.cost.tokens_in)

    def test_flops_follow_from_the_parameters_if_told(self):
        usage = {"prompt_tokens": 10, "completion_tokens": 4}
        sample, _ = one(lambda asked, i: says(usage=usage), options=Options(parameters=7e9))
        assert sample.cost.flops == 2 * 7e9 * 14

    def test_an_unknown_price_is_unknown(self):
        usage = {"prompt_tokens": 10, "completion_tokens": 4}
        sample, _ = one(lambda asked, i: says(usage=usage))
        assert math.isnan(sample.cost.usd)
        assert Endpoint("http://h/v1", "m").price == "unknown"
        assert "unchecked" in Endpoint("https://api.openai.com/v1", "gpt-4o").price
        assert "given" in Endpoint("http://h/v1", "m", price=Price(1, 2)).price

    @pytest.mark.parametrize("n", [1, 4])
    def test_the_estimate_is_an_upper_bound(self, n: int):
        lm = Endpoint("http://h/v1", "m", Options(n=n, parameters=1e9), price=Price(1, 4))
        request = Request("ein Wort \u00e4\u00f6\u00fc", SEEDS[:8], Sampling(max_tokens=100))
        most = lm.estimate(request)
        assert most.tokens_in >= len(request.prompt.encode()) * 8 / n
        assert most.tokens_out == 800
        assert most.usd == pytest.approx((most.tokens_in + 4 * 800) / 1e6)
        assert most.flops == 2e9 * (most.tokens_in + 800)
        assert most.wall_s == 0
        assert math.isnan(most.joules)
        assert math.isnan(Endpoint("http://h/v1", "m").estimate(request).usd)


class TestRetries:
    @pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
    def test_transient_statuses_are_tried_again(self, status: int):
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        sample, server = one(lambda asked, i: refuses(status) if i < 3 else says(usage=usage))
        assert sample.attempts == 3
        assert sample.wasted == Cost(wall_s=sample.wasted.wall_s)
        assert sample.wasted.wall_s > 0
        assert server.asked[0] == server.asked[1] == server.asked[2]

    @pytest.mark.parametrize("status", [400, 402, 413, 418, 422])
    def test_other_statuses_are_an_error_at_once(self, status: int):
        error, server = fails(lambda asked, i: refuses(status, "context too\nlong"))
        assert len(server.asked) == 1
        assert not error.fatal
        assert str(error) == f"{server.url}/chat/completions answered {status}: context too long"

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_some_end_the_run(self, status: int):
        error, server = fails(lambda asked, i: refuses(status, "go away"))
        assert len(server.asked) == 1
        assert error.fatal
        assert "go away" in str(error)
        assert ("ISOFLOP_API_KEY" in str(error)) == (status != 404)

    def test_an_empty_account_ends_the_run(self):
        body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
        error, server = fails(lambda asked, i: web.json_response(body, status=429))
        assert error.fatal
        assert len(server.asked) == 1

    @pytest.mark.parametrize(
        "body",
        ["", "<html>busy</html>", '{"detail": [{"msg": "bad"}]}', '{"message": "bad"}', '{"error": "bad"}', "[1]"],
    )
    def test_whatever_a_server_says_becomes_one_line(self, body: str):
        error, _ = fails(lambda asked, i: web.Response(text=body, status=400))
        assert "\n" not in str(error)
        assert "answered 400: " in str(error)

    def test_patience_ends(self):
        error, server = fails(lambda asked, i: refuses(500), patience=Patience(retries=4, backoff_s=0.001))
        assert len(server.asked) == 5
        assert "tried 5 times" in str(error)
        assert not error.fatal

    def test_a_server_that_is_not_there_is_not_waited_for_long(self):
        with Server() as server:
            pass
        with pytest.raises(ModelError, match="is the server running") as caught:
            Endpoint(server.url, "m", patience=SOON).sample(Request("q", (0,)))
        assert caught.value.fatal
        assert "tried 3 times" in str(caught.value)

    def test_a_server_that_never_made_sense_is_not_waited_for_long(self):
        error, server = fails(lambda asked, i: web.Response(text="<html>Welcome to nginx</html>"))
        assert len(server.asked) == 3
        assert error.fatal

    def test_retry_after_is_obeyed_by_all_calls(self):
        times: list[float] = []

        def answer(asked: dict[str, Any], i: int) -> Any:
            times.append(time.monotonic())
            return refuses(429, **{"Retry-After": "0.4"}) if i == 1 else says()

        with Scripted(answer) as server:
            lm = Endpoint(server.url, "m", Options(concurrency=1), SOON)
            samples = lm.sample(Request("q", (0, 1)))
        assert sorted(s.attempts for s in samples) == [1, 2]
        assert times[1] - times[0] >= 0.39

    def test_a_longer_pause_than_allowed_is_an_error(self):
        error, server = fails(lambda asked, i: refuses(429, **{"Retry-After": "3600"}))
        assert "3600 s" in str(error)
        assert len(server.asked) == 1

    def test_the_header_may_be_a_date(self):
        then = datetime.now(UTC) + timedelta(seconds=30)
        assert 28 < _retry_after_s(format_datetime(then, usegmt=True)) <= 30
        assert _retry_after_s("2.5") == 2.5
        assert [_retry_after_s(words) for words in ("", "soon", "-3", "nan", "Wed, 21 Oct 2015 07:28:00 GMT")] == [
            0
        ] * 5

    @pytest.mark.parametrize(
        "broken",
        [
            "not json",
            "{}",
            '{"choices": []}',
            '{"choices": [{}]}',
            '{"choices": [{"message": null}]}',
            '{"choices": 3}',
            "[]",
        ],
    )
    def test_an_answer_that_makes_no_sense_is_tried_again(self, broken: str):
        sample, _ = one(lambda asked, i: web.Response(text=broken) if i == 1 else says("good"))
        assert (sample.text, sample.attempts) == ("good", 2)

    def test_an_error_with_status_200_is_one(self):
        error, _ = fails(
            lambda asked, i: {"error": {"message": "provider down"}}, patience=Patience(retries=1, backoff_s=0.001)
        )
        assert "provider down" in str(error)

    def test_redirects_are_not_followed(self):
        with Scripted(lambda asked, i: says()) as other:
            error, _ = fails(
                lambda asked, i: web.Response(status=307, headers={"Location": f"{other.url}/chat/completions?a=b"})
            )
        assert other.asked == []
        assert error.fatal
        assert f"redirects to {other.url}/chat/completions;" in str(error)

    def test_one_slot_in_trouble_does_not_cost_the_others(self):
        got: dict[int, Sample] = {}
        with Scripted(lambda asked, i: refuses(400) if asked["seed"] == 5 else says()) as server:
            lm = Endpoint(server.url, "m")
            with pytest.raises(ModelError):
                asyncio.run(closing(lm, lm.generate(Request("q", SEEDS), got.__setitem__)))
        assert sorted(got) == [i for i in range(24) if i != 5]

    def test_a_fatal_error_stops_what_was_not_sent(self):
        with Scripted(lambda asked, i: refuses(401)) as server, pytest.raises(ModelError) as caught:
            Endpoint(server.url, "m", Options(concurrency=2)).sample(Request("q", tuple(range(200))))
        assert caught.value.fatal
        assert len(server.asked) < 20


class TestDialects:
    def test_a_server_without_log_probabilities_is_asked_without(self):
        def answer(asked: dict[str, Any], i: int) -> Any:
            return refuses(400, "logprobs is not supported") if "logprobs" in asked else says()

        with Scripted(answer) as server:
            samples = Endpoint(server.url, "m", Options(concurrency=1)).sample(Request("q", SEEDS[:4]))
        assert [s.logprobs for s in samples] == [None] * 4
        assert [s.attempts for s in samples] == [1] * 4

    def test_a_server_that_wants_another_limit_gets_it(self):
        def answer(asked: dict[str, Any], i: int) -> Any:
            if "max_tokens" in asked:
                return refuses(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
            return says()

        _, server = one(answer)
        assert server.asked[-1]["max_completion_tokens"] == 256


async def closing(lm: Endpoint, work: Any) -> Any:
    try:
        return await work
    finally:
        await lm.close()


class TestLostCalls:
    @pytest.mark.parametrize("fault", ["drop_every", "hang_every"])
    def test_they_are_tried_again_and_charged_as_what_came_instead(self, fault: str):
        with Server(Mock(Skill(p=0.5, steps=2)), ServerFaults(**{fault: 5})) as server:
            lm = Endpoint(server.url, "m", patience=Patience(timeout_s=0.5, backoff_s=0.001))
            samples = lm.sample(Request("q", SEEDS))
        again = [s for s in samples if s.attempts > 1]
        assert lm.lost == sum(s.attempts - 1 for s in samples) > 0
        for s in again:
            assert s.wasted.tokens_in == s.cost.tokens_in * (s.attempts - 1)
            assert s.wasted.tokens_out == s.cost.tokens_out * (s.attempts - 1)
        if fault == "drop_every":  # served, so the bound is exact where the server honours seeds
            assert spent(samples) == server.tokens()

    def test_or_are_unknown_if_one_likes(self):
        with Server(faults=ServerFaults(drop_every=3)) as server:
            samples = load(server.specification(lost="unknown", backoff_s=0.001)).sample(Request("q", SEEDS))
        for s in samples:
            assert math.isnan(s.wasted.tokens_out) == (s.attempts > 1)
            assert not math.isnan(s.cost.tokens_out)

    def test_a_slot_that_fails_for_good_still_tells_its_cost(self):
        got: dict[int, Sample] = {}
        with Server(faults=ServerFaults(drop_every=1)) as server:
            lm = Endpoint(server.url, "m", patience=Patience(retries=1, backoff_s=0.001))
            request = Request("q", (4,), Sampling(max_tokens=20))
            with pytest.raises(ModelError):
                asyncio.run(closing(lm, lm.generate(request, got.__setitem__)))
        assert got[0].finish_reason == "error"
        assert got[0].text == ""
        assert got[0].cost.tokens_out == 2 * 20
        assert spent([got[0]])[1] >= server.tokens()[1] == 2


class TestCancelling:
    def test_what_was_sent_still_arrives_and_nothing_more_is_sent(self):
        got: dict[int, Sample] = {}
        with Server(Mock(machine=Machine(latency_s=0.2))) as server:
            lm = Endpoint(server.url, "m", Options(concurrency=5))

            async def cancel() -> None:
                task = asyncio.create_task(lm.generate(Request("a b", SEEDS), got.__setitem__))
                while server.most_at_once < 5:
                    await asyncio.sleep(0.005)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await lm.close()

            asyncio.run(cancel())
        assert len(got) == 5
        assert spent(list(got.values())) == server.tokens() == (10, 5)
        assert lm.lost == 0

    def test_a_call_that_waits_to_be_tried_again_is_given_up(self):
        with Scripted(lambda asked, i: refuses(500)) as server:
            lm = Endpoint(server.url, "m", patience=Patience(backoff_s=60))

            async def cancel() -> None:
                task = asyncio.create_task(lm.generate(Request("q", (0,)), lambda slot, sample: None))
                while not server.asked:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, 5)
                await lm.close()

            asyncio.run(cancel())
        assert len(server.asked) == 1

    @pytest.mark.parametrize("how", ["cancel", "close"])
    def test_cancelled_twice_or_closed_it_drops_what_was_sent(self, how: str):
        got: dict[int, Sample] = {}
        with Server(faults=ServerFaults(hang_every=1)) as server:
            lm = Endpoint(server.url, "m", Options(concurrency=3))

            async def cancel() -> None:
                task = asyncio.create_task(lm.generate(Request("q", SEEDS[:3]), got.__setitem__))
                while len(server.served) < 3:
                    await asyncio.sleep(0.005)
                task.cancel()
                await asyncio.sleep(0.05)
                assert not task.done()
                if how == "cancel":
                    task.cancel()
                else:
                    await lm.close()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, 5)
                await lm.close()

            asyncio.run(cancel())
        assert lm.lost == 3
        assert [s.finish_reason for s in got.values()] == ([] if how == "cancel" else ["error"] * 3)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_it_can_be_used_in_another_loop_though_nobody_closed_it(self):
        with Server() as server:
            lm = load(server.specification())
            for _ in range(2):
                asyncio.run(lm.generate(Request("q", SEEDS[:3]), lambda slot, sample: None))
        assert server.outcomes() == {"ok": 6}
        del lm
        gc.collect()  # the warnings about the connections left open are for this test

    def test_it_can_be_used_again_after_closing(self):
        with Server() as server:
            lm = load(server.specification())
            assert lm.sample(Request("q", SEEDS[:3])) != []
            assert len(lm.sample(Request("q", SEEDS[:3]))) == 3


class TestKey:
    @pytest.mark.parametrize("status", [200, 400, 401, 500, 307])
    def test_it_reaches_the_server_and_nothing_else(
        self,
        status: int,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ):
        """The server does its worst: it echoes the key wherever it can."""
        monkeypatch.setenv("ISOFLOP_API_KEY", KEY)
        caplog.set_level(logging.DEBUG)

        def answer(asked: dict[str, Any], i: int) -> Any:
            if status == 200:
                return says(f"your key is {KEY}")
            return refuses(status, f"bad key {KEY}", Location=f"http://{KEY}.example/{KEY}")

        said: list[object] = []
        with Scripted(answer) as server:
            lm = Endpoint(server.url, "m", patience=Patience(retries=1, backoff_s=0.001))
            try:
                said += lm.sample(Request("q", (0,)))
            except ModelError as error:
                trace = traceback.TracebackException.from_exception(error, capture_locals=True)
                said += [error, repr(error), *trace.format()]
            said += [lm.name, lm.digest, lm.price, repr(lm), vars(lm), lm.estimate(Request("q", (0,)))]
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(said)
        assert KEY not in caplog.text
        assert KEY not in "".join(capfd.readouterr())

    def test_openai_s_key_goes_to_openai_only(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert Endpoint("https://api.openai.com/v1", "m")._key.value == KEY
        for host in ("localhost", "openai.com.evil.example", "notopenai.com"):
            assert Endpoint(f"https://{host}/v1", "m")._key is None
        monkeypatch.setenv("ISOFLOP_API_KEY", "another")
        assert Endpoint("https://api.openai.com/v1", "m")._key.value == "another"

    def test_it_may_be_under_another_name(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("MY_KEY", KEY)
        lm = load("endpoint:http://h/v1?key_env=MY_KEY#m")
        assert lm._key.value == KEY
        assert "key_env=MY_KEY" in lm.name
        with pytest.raises(ValueError, match="NO_SUCH_KEY"):
            load("endpoint:http://h/v1?key_env=NO_SUCH_KEY#m")

    def test_one_that_no_header_can_carry_is_refused_without_repeating_it(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("ISOFLOP_API_KEY", f"{KEY}\r\nX-Other: 1")
        with pytest.raises(ValueError, match="API key") as caught:
            load("endpoint:http://h/v1#m")
        assert KEY not in str(caught.value)

    def test_a_short_key_does_not_eat_words(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("ISOFLOP_API_KEY", "EMPTY")
        sample, _ = one(lambda asked, i: says("the set is EMPTY"))
        assert sample.text == "the set is EMPTY"

    def test_an_address_with_a_secret_is_refused_without_repeating_it(self):
        for url in (f"http://user:{KEY}@h/v1", f"http://h/v1?api_key={KEY}"):
            for make in (lambda: Endpoint(url, "m"), lambda: load(f"endpoint:{url}#m")):  # noqa: B023 - used at once
                with pytest.raises(ValueError, match="endpoint") as caught:
                    make()
                assert KEY not in str(caught.value)


class TestSpecification:
    def test_it_says_all_there_is_to_say(self):
        lm = load(
            "endpoint:http://127.0.0.1:8000/v1?api=completions&concurrency=64&timeout_s=9&input=0.15&output=0.6"
            "&parameters=7e9#org/model-7b"
        )
        assert (lm.url, lm.model, lm.concurrency) == ("http://127.0.0.1:8000/v1", "org/model-7b", 64)
        assert (lm.options.api, lm.options.parameters, lm.patience.timeout_s) == ("completions", 7e9, 9)
        again = load(lm.name)
        assert again.name == lm.name
        assert (again.options, again.patience, again.price) == (lm.options, lm.patience, lm.price)

    def test_options_may_come_last(self):
        assert load("endpoint:http://h/v1#m?n=4").options.n == 4

    def test_what_changes_samples_changes_the_digest_and_the_rest_does_not(self):
        digest = {spec: load(f"endpoint:{spec}").digest for spec in ("http://h/v1#m", "http://h/v1?concurrency=9#m")}
        assert len(set(digest.values())) == 1
        others = ("http://g/v1#m", "http://h/v1#o", "http://h/v1?api=completions#m")
        assert len({load(f"endpoint:{spec}").digest for spec in others} | set(digest.values())) == 4

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ("", "must read endpoint:http://"),
            ("http://h/v1", "must read endpoint:http://"),
            ("h:80/v1#m", "must read endpoint:http://"),
            ("ftp://h/v1#m", "must read endpoint:http://"),
            ("http://h:eighty/v1#m", "Port"),
            ("http://h/v1?speed=9#m", "no option 'speed'"),
            ("http://h/v1?api=chats#m", "api=chats must be one of chat, completions"),
            ("http://h/v1?concurrency=many#m", "whole number"),
            ("http://h/v1?n=0#m", "at least 1"),
            ("http://h/v1?input=-1#m", "price input"),
            ("http://h/v1?logprobs=maybe#m", "true or false"),
        ],
    )
    def test_a_bad_one_says_what_is_wrong(self, spec: str, says: str):
        with pytest.raises(ValueError, match=says):
            load(f"endpoint:{spec}")
