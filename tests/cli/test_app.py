"""What becomes of errors, and what a command is called."""

from __future__ import annotations

from importlib.metadata import version

import pytest


def test_says_which_it_is(isoflop):
    assert isoflop("--version").stdout == f"isoflop {version('isoflop')}\n"


def test_help_lists_every_command_with_what_it_does(isoflop):
    result = isoflop("--help")
    for command in ("run", "resume", "runs", "show", "plan", "methods", "models", "tasks", "claims", "pull", "check"):
        assert f"\n  {command} " in result.output
    assert "..." not in result.output.partition("Commands:")[2], "a summary is too long for 80 columns"
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--task", "sums.jsonl", "--model", "mck:p=1"), "unknown kind of model 'mck'"),
        (("run", "--task", "sums.jsonl", "--model", "mock:", "--budget", "tokens=3"), "must read axis=amount"),
        (("run", "--task", "sums.jsonl", "--model", "mock:", "--method", "best"), "unknown method 'best'; known are"),
        (("run", "--task", "nothing.jsonl", "--model", "mock:"), "nothing.jsonl: cannot be read: No such file"),
        (("run", "--task", "sums.jsonl", "--model", "mock:", "--store", "/dev/null/s"), "cannot open the store"),
        (("show", "x"), "there is no store"),
        (("pull", "x"), "unknown model 'x'"),
        (("claims", "run", "x"), "unknown claim 'x'"),
        (("methods", "x"), "unknown method 'x'"),
        (("models", "x"), "unknown kind of model 'x'"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(isoflop, words, message):
    result = isoflop(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("isoflop: ")
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_debug_shows_where_a_mistake_was_found(isoflop):
    result = isoflop("--debug", "pull", "x")
    assert isinstance(result.exception, ValueError)


def test_a_bug_keeps_its_traceback(isoflop, monkeypatch):
    monkeypatch.setattr("isoflop.cli.models.pull_model", lambda name: 1 / 0)
    assert isinstance(isoflop("pull", "x").exception, ZeroDivisionError)
