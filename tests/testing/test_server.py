"""The server's truth: what it says it served is what its model drew."""

from __future__ import annotations

import json
from urllib.error import HTTPError
from urllib.request import Request as Post
from urllib.request import urlopen

import pytest

from isoflop.model.base import Request, Sampling
from isoflop.model.mock import Mock, Skill
from isoflop.testing.server import Server, ServerFaults


def ask(server: Server, path: str = "chat/completions", timeout_s: float = 30, **asked: object):
    asked = {"messages": [{"role": "user", "content": "two words"}]} | asked
    if "prompt" in asked:
        del asked["messages"]
    post = Post(f"{server.url}/{path}", json.dumps(asked).encode(), {"Content-Type": "application/json"})
    with urlopen(post, timeout=timeout_s) as reply:
        return json.load(reply)


def test_it_answers_as_its_model_does_and_counts_it():
    lm = Mock(Skill(p=0.5, steps=2))
    expected = lm.sample(Request("two words", (7,), Sampling(max_tokens=50)))[0]
    with Server(lm) as server:
        chat = ask(server, seed=7, max_tokens=50, logprobs=True)
        plain = ask(server, "completions", prompt="two words", seed=7, max_tokens=50, logprobs=0)
    assert chat["choices"][0]["message"]["content"] == plain["choices"][0]["text"] == expected.text
    levels = [t["logprob"] for t in chat["choices"][0]["logprobs"]["content"]]
    assert levels == plain["choices"][0]["logprobs"]["token_logprobs"] == list(expected.logprobs)
    for reply in (chat, plain):
        assert reply["usage"]["prompt_tokens"] == 2
        assert reply["usage"]["completion_tokens"] == expected.cost.tokens_out
    assert server.tokens() == (4, 2 * expected.cost.tokens_out)
    assert [s.seed for s in server.served] == [7, 7]


def test_several_samples_a_call_only_where_it_takes_them():
    with Server(Mock(Skill(p=0.5, wrong=50))) as server:
        reply = ask(server, seed=1, n=4)
        assert len({c["message"]["content"] for c in reply["choices"]}) > 1
        assert reply["usage"]["prompt_tokens"] == 2
        assert reply["usage"]["completion_tokens"] == 4
    with Server(takes_n=False) as server:
        assert len(ask(server, n=4)["choices"]) == 1
    assert server.tokens() == (2, 1)


def test_roles_are_told_from_the_prompt():
    with Server(roles={"judge this": "judge"}) as server:
        ask(server)
        ask(server, messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "judge this now"}])
    assert server.tokens("generate") == (2, 1)
    assert server.tokens("judge") == (4, 1)


def test_faults_come_every_so_many_calls():
    faults = ServerFaults(error_every=2, limit_every=3, truncate_every=5, retry_after="7")
    with Server(Mock(Skill(p=1), answers={"two words": "four"}), faults) as server:
        said = []
        for _ in range(6):
            try:
                choice = ask(server)["choices"][0]
                said.append((choice["finish_reason"], choice["message"]["content"]))
            except HTTPError as error:
                said.append((error.code, error.headers.get("Retry-After")))
                error.close()
    ok = ("stop", "four")
    assert said == [ok, (500, None), (429, "7"), (500, None), ("length", "fo"), (500, None)]
    assert server.tokens() == (4, 2)
    assert server.outcomes() == {"ok": 1, "error": 3, "limited": 1, "truncated": 1}


def test_a_dropped_call_was_served_and_a_hung_one_was_not():
    with Server(faults=ServerFaults(drop_every=1)) as server, pytest.raises(OSError, match=r"Remote end|reset"):
        ask(server)
    assert server.tokens() == (2, 1)

    with Server(faults=ServerFaults(hang_every=1)) as server, pytest.raises(TimeoutError):
        ask(server, timeout_s=0.3)
    assert server.tokens() == (0, 0)
    assert server.outcomes() == {"hung": 1}
