import textwrap
from collections.abc import Callable

import pytest

from isoflop.sandbox import Asserts, Calls, Case, Sandbox, Verdict
from isoflop.task import GraderError, Question
from isoflop.task.graders import code as code_grader
from isoflop.task.graders.code import Code

INC = "def inc(x):\n    return x + 1\n"
TESTS = ["assert inc(1) == 2", {"args": [2], "expected": 3}]
OPTIONS = {"entry_point": "inc"}
PROMPT = 'from typing import List\n\n\ndef first(xs: List[int]) -> int:\n    """The first of xs."""\n'


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        (INC, INC.rstrip()),
        (f"Sure!\n```python\n{INC}```\nThat is it.", INC),
        (f"```\n{INC}```", INC),
        (f"```python\n{INC}```\nFor example:\n```python\ninc(1)\n```", INC),
        ("  1. Like so:\n  ```python\n  def inc(x):\n      return x + 1\n  ```", INC),
        (f"```python\n{INC}", INC.rstrip()),  # the closing fence was the stop string
        ("    return x + 1\n", "    return x + 1"),
        ("<think>hm</think>\n" + INC, INC.rstrip()),
        ("```python\ndef inc(x):\n    return (x +", None),  # cut off
        ("```python\n```", None),
        ("\n \n", None),
        ("<think>def inc", None),
    ],
)
def test_extract(completion: str, program: str | None) -> None:
    assert Code().extract(completion) == program


@pytest.mark.parametrize(
    ("completion", "right_"),
    [
        (INC, True),
        ("inc = lambda x: x + 1", True),
        ("def inc(x):\n    return x + 2", False),
        ("def inc(x): return 2", False),
        ("def add(x):\n    return x + 1", False),
        ("I cannot do that.", False),
        ("import sys; sys.exit(0)", False),
        ("class Any(int):\n    __eq__ = lambda *_: True\n    __hash__ = None\ndef inc(x): return Any(7)", False),
        ("def inc(x):\n    while True: pass", False),
    ],
)
def test_grade(right: Callable[..., bool | None], completion: str, right_: bool) -> None:
    options = {**OPTIONS, "cpu_s": 1}
    assert right(completion, INC, "code", tests=TESTS, options=options) is right_


def test_tests_by_input_and_output(right: Callable[..., bool | None]) -> None:
    tests = [{"input": "3\n", "output": "9\n"}, {"input": "4\n", "output": "16\n"}]
    assert right("print(int(input()) ** 2)", "", "code", tests=tests) is True
    assert right("print(9)", "", "code", tests=tests) is False


def test_public_tests_count_too_and_can_be_run_alone(ask: Callable[..., Question]) -> None:
    question = ask(INC, "code", tests=TESTS[:1], public_tests=TESTS[1:], options=OPTIONS)
    grader = question.grader
    assert isinstance(grader, Code)
    only_public = "def inc(x): return 3"
    assert grader.passes(only_public, question, question.public_tests)
    assert grader.grade(only_public, question) == 0.0
    assert grader.grade("def inc(x): return 2", question) == 0.0
    assert question.public_tests == (Calls("inc", (Case((2,), 3),)),)
    assert question.tests == (Asserts("assert inc(1) == 2"),)


@pytest.mark.parametrize(
    ("answer", "right_"),
    [
        ("    return xs[0]\n", True),
        ("    return xs[0]\n\n\nprint(first([]))\n", True),  # what goes on after the body is not part of it
        (
            "    # the first\n\n    return xs[\n        0\n    ]\n\ndef main():\n    raise SystemExit(1)\n\nmain()\n",
            True,
        ),
        ("def first(xs: List[int]) -> int:\n    return xs[0]\n", True),  # anew: the prompt's imports are there
        ("    return xs[-1]\n", False),
        ("", False),
    ],
)
def test_a_prompt_that_begins_the_program(answer: str, right_: bool) -> None:
    grader = Code(entry_point="first")
    question = Question("k", PROMPT, "", grader, tests=(Calls("first", (Case(([4, 5],), 4),)),))
    assert (grader.grade(answer, question) == 1.0) is right_


def test_a_prompt_in_words_is_no_part_of_the_program() -> None:
    question = Question("k", "def first, please", "", Code(entry_point="first"))
    assert Code(entry_point="first").program(INC, question) == INC


def test_votes_count_programs_not_layout() -> None:
    commented = "# adds one\ndef inc( x ):\n\n    return x+1  # so"
    other = "def inc(x):\n    return 1 + x"
    assert Code().groups([INC, commented, other, "    return x+1", "\treturn x + 1 # ", "no code", "no  code"]) == [
        0, 0, 2, 3, 3, 5, 6,
    ]  # fmt: skip


@pytest.mark.parametrize("hostile", ["(" * 10000, "x = " + "-" * 100_000 + "1", "\x00", "f(" * 90 + ")" * 90, "\ud800"])
def test_programs_that_cannot_be_parsed_are_their_own_text(hostile: str) -> None:
    assert Code().canonical(hostile) == Code().canonical(hostile)


def test_the_third_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sandbox, "run", lambda *_: Verdict("grader-error", "out of processes"))
    question = Question("k", "?", "", Code(), tests=(Asserts("assert one() == 1"),))
    with pytest.raises(GraderError, match="out of processes"):
        Code().grade("def one(): return 1", question)


def test_a_program_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    monkeypatch.setattr(Sandbox, "run", lambda _, program, checks: runs.append(program) or Verdict("pass"))
    question = Question("k", "?", "", Code(), tests=(Asserts("assert two() == 2"),))
    assert [Code().grade("def two(): return 2", question) for _ in range(3)] == [1.0] * 3
    assert runs == ["def two(): return 2"]


def test_what_it_rejects(ask: Callable[..., Question]) -> None:
    assert ask("", "code", tests=TESTS, options=OPTIONS).answer == ""
    with pytest.raises(ValueError, match="needs tests"):
        ask(INC, "code")
    with pytest.raises(ValueError, match="own answer does not pass"):
        ask("def inc(x): return 0", "code", tests=TESTS, options=OPTIONS)
    with pytest.raises(ValueError, match="'no such' is no name"):
        ask(INC, "code", tests=TESTS, options={"entry_point": "no such"})
    with pytest.raises(ValueError, match="package 'nosuchpackage' is not installed"):
        ask(INC, "code", tests=TESTS[:1], options={"packages": ["nosuchpackage"]})
    with pytest.raises(ValueError, match="cpu_s"):
        ask(INC, "code", tests=TESTS[:1], options={"cpu_s": 0})


def test_no_sandbox_on_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Sandbox:
        raise OSError("the sandbox needs Linux")

    monkeypatch.setattr(code_grader, "Sandbox", refuse)
    question = Question("k", "?", "", Code(cpu_s=3.25), tests=(Asserts(textwrap.dedent("assert True")),))
    with pytest.raises(GraderError, match="needs Linux"):
        Code(cpu_s=3.25).grade("pass", question)
