"""Every fault of a row, in one error, each with its line; what is merely unusual is read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.sandbox import Asserts, Calls, Case, Stdio
from isoflop.task import TaskError
from isoflop.task.graders.numeric import Numeric
from isoflop.task.rows import read_rows

GOOD = b'{"prompt": "1+1?", "answer": "2"}'


def problems(*lines: bytes) -> tuple[str, ...]:
    with pytest.raises(TaskError) as caught:
        read_rows(b"\n".join(lines), "rows.jsonl")
    return caught.value.problems


def row(**fields: object) -> bytes:
    return json.dumps({"prompt": "?", "answer": "b", **fields}).encode()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "?", "answer": "b"', "is not JSON: Expecting ',' delimiter (column 30)"),
        (b"prompt: ?", "is not JSON"),
        (b"[" * 100_000, "is not JSON that can be read"),
        (b'{"prompt": "?", "prompt": "!", "answer": "b"}', "the field 'prompt' stands there twice"),
        (b'{"prompt": "?", "answer": NaN}', "NaN is no number of JSON"),
        (b"[]", "must be a JSON object, not []"),
        (b'"text"', "must be a JSON object"),
        (b'{"prompt": "\xff", "answer": "b"}', "is not UTF-8 (byte 13 is 0xff)"),
        (b'{"prompt": "?", "answer": "\\ud800"}', "half of a surrogate pair"),
        (row(prompt="a" * (1 << 20)), "bytes long; at most 1,048,576 are read"),
        (b'{"answer": "b"}', "has no prompt"),
        (b'{"prompt": "?"}', "has no answer"),
        (b'{"question": "?", "answer": "b"}', "like GSM8K, but no '#### '"),
        (row(anwser="b"), "unknown field 'anwser'; did you mean 'answer'? there are prompt, answer, id"),
        (row(prompt=""), "the prompt is empty"),
        (row(prompt=" \n"), "the prompt is empty"),
        (row(prompt=3), "prompt must be a text or a list of turns, not 3"),
        (row(prompt=[]), "the prompt has no turns"),
        (row(prompt=[{"role": "boss", "content": "?"}]), 'not {"role": "boss", "content": "?"}'),
        (row(prompt=[{"role": "user", "content": ""}]), "a turn must be {role: system|user|assistant"),
        (row(prompt=[{"role": "user", "content": "?", "name": "x"}]), "a turn must be"),
        (row(prompt=["?"]), 'a turn must be {role: system|user|assistant, content: text}, not "?"'),
        (row(answer=""), "the answer is empty"),
        (row(answer=True), "answer must be a text or a number, not true"),
        (row(answer=["b"]), 'answer must be a text or a number, not ["b"]'),
        (row(id=None), "id must be a text or a number, not null"),
        (row(id=""), "id must be a text or a number"),
        (row(split="train"), 'split must be dev or test, not "train"'),
        (row(split=["dev"]), "split must be dev or test"),
        (row(level="hard"), 'level must be a whole number, not "hard"'),
        (row(level=1.5), "level must be a whole number, not 1.5"),
        (row(level=True), "level must be a whole number, not true"),
        (row(aliases="b"), 'aliases must be a list of texts, not "b"'),
        (row(aliases=[1]), "aliases must be a list of texts"),
        (row(grader="numerc"), "unknown grader \"numerc\"; did you mean 'numeric'? there are choice, code, exact"),
        (row(grader=["exact"]), "unknown grader"),
        (row(options=[]), "options must be an object, not []"),
        (row(options={"casse": True}), "has no option 'casse'; did you mean 'case'? there are case, take"),
        (row(options={"case": "yes"}), "the option case of 'exact' must be true or false, not \"yes\""),
        (row(options={"take": "middle"}), "must be 'auto' or 'boxed' or"),
        (row(answer="2", grader="numeric", options={"rel": "1%"}), "the option rel of 'numeric' must be a number"),
        (row(answer="2", grader="numeric", options={"rel": -1}), "options of numeric: rel=-1"),
        (row(answer="2", grader="numeric", options={"unit": 3}), "the option unit of 'numeric' must be a text, not 3"),
        (row(grader="numeric"), "the grader 'numeric' does not accept the row's own answer 'b'"),
        (row(answer="2", grader="numeric", aliases=["two or so"]), "own answer 'two or so'"),
        (row(answer="E", grader="choice", options={"choices": ["x", "y"]}), "the answer 'E' names no option; write A"),
        (row(answer="A", grader="choice", options={"choices": ["x", 3]}), "must be a list of texts"),
        (row(answer="(", grader="regex"), "the answer '(' is no regular expression: missing )"),
        (row(grader="regex", options={"capture": "["}), "options of regex: capture '['"),
        (row(tests=["assert 1"]), "tests are for the grader 'code', not 'exact'"),
        (row(grader="code"), "the grader 'code' needs tests"),
        (row(answer="", grader="code", tests=[{"args": [1], "expected": 2}]), "needs the option entry_point"),
        (row(answer="", grader="code", tests="def check(f): f(1)"), "needs the option entry_point"),
        (row(answer="", grader="code", tests=[{"input": "1"}]), 'not {"input": "1"}'),
        (row(answer="", grader="code", tests=3), "a test must be Python code"),
        (row(answer="x = 1", grader="code", tests=["assert False"]), "own answer does not pass its tests"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_line(line: bytes, message: str) -> None:
    (problem,) = problems(GOOD, line)
    assert problem.startswith("line 2: ")
    assert message in problem
    assert len(problem) < 250


def test_all_faults_of_all_rows_come_at_once() -> None:
    found = problems(row(split="x", level="y"), GOOD, b"{", b'{"prompt": ""}')
    assert [problem.partition(":")[0] for problem in found] == ["line 1", "line 1", "line 3", "line 4", "line 4"]
    with pytest.raises(TaskError, match=r"^rows.jsonl: 5 problems\n  line 1: split"):
        read_rows(b"\n".join([row(split="x", level="y"), GOOD, b"{", b'{"prompt": ""}']), "rows.jsonl")


def test_a_repeated_id_names_the_line_that_has_it() -> None:
    assert problems(row(id="x"), row(id="y"), row(id="x")) == ("line 3: id 'x' is that of line 1 already",)
    assert problems(row(id="2"), row()) == ("line 2: id '2' is that of line 1 already",)  # the line's own number
    assert problems(row(id=2), row(id="2")) == ("line 2: id '2' is that of line 1 already",)


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_questions(data: bytes) -> None:
    assert "holds no questions" in problems(data)[0]


def test_utf16() -> None:
    assert problems(GOOD.decode().encode("utf-16")) == ("is UTF-16; save it as UTF-8",)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf" + GOOD, GOOD + b"\r\n", b"\r\n\r\n" + GOOD + b"\n\n"])
def test_byte_order_mark_and_ends_of_lines_do_not_matter(data: bytes) -> None:
    (question,) = read_rows(data, "rows")
    assert (question.prompt, question.answer) == ("1+1?", "2")


def test_defaults_and_fields() -> None:
    first, second = read_rows(
        GOOD
        + b"\n"
        + row(id=7, level=2, split="dev", grader="numeric", answer=3.5, aliases=["7/2"], options={"rel": 0}),
        "rows",
    )
    assert (first.key, first.grader.name(), first.level, first.aliases, first.tests) == ("1", "exact", None, (), ())
    assert (second.key, second.answer, second.level, second.split) == ("7", "3.5", 2, "dev")
    assert second.aliases == ("7/2",)
    assert second.grader == Numeric(rel=0.0, unit="")


def test_tests_of_a_kind_share_a_process() -> None:
    tests = [
        "assert inc(1) == 2",
        *({"args": [i], "expected": i + 1} for i in range(3)),
        "def check(f):\n    assert f(1)",
    ]
    tests += [
        {"input": "1", "output": "2"},
        {"input": "2", "output": "3"},
        {"args": [], "kwargs": {"x": 1}, "expected": 2},
    ]
    (question,) = read_rows(row(answer="", grader="code", tests=tests, options={"entry_point": "inc"}), "rows")
    cases = [Case((i,), i + 1) for i in range(3)]
    assert question.tests == (
        Asserts("assert inc(1) == 2"),
        Asserts("def check(f):\n    assert f(1)", "inc"),
        Calls("inc", (*cases, Case((), 2, {"x": 1}))),
        Stdio((("1", "2"), ("2", "3"))),
    )


def test_a_conversation() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    (question,) = read_rows(row(prompt=turns), "rows")
    assert question.prompt == (("system", "Be brief."), ("user", "1+1?"))


def test_rows_of_gsm8k() -> None:
    worked = "He has 3 + 4 = <<3+4=7>>7 apples.\nThat is 1,000 * 7 = 7,000.\n#### 7,000"
    (question,) = read_rows(json.dumps({"question": "How many?", "answer": worked}).encode(), "rows")
    assert (question.prompt, question.answer, question.grader) == ("How many?", "7,000", Numeric(unit=""))


def test_the_split_is_half_and_half_by_id_alone() -> None:
    rows = b"\n".join(row(id=f"q{i}") for i in range(1000))
    splits = {q.key: q.split for q in read_rows(rows, "rows")}
    assert 450 < sum(split == "dev" for split in splits.values()) < 550
    (again,) = read_rows(row(id="q77"), "other")
    assert again.split == splits["q77"]
    assert "".join(splits[f"q{i}"][0] for i in range(12)) == "tdtddddtdddd"  # dev or test, for ever


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_rows(data, "rows")
    except TaskError as error:
        assert error.problems


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda v: st.lists(v, max_size=2)
)


@given(
    st.dictionaries(
        st.sampled_from(["prompt", "answer", "id", "options", "aliases", "split", "level", "public_tests", "x"]),
        json_values | st.dictionaries(st.sampled_from(["case", "take", "y"]), json_values, max_size=2),
    )
)
def test_any_fields_are_read_or_refused(fields: dict[str, object]) -> None:
    try:
        read_rows(json.dumps(fields).encode(), "rows")
    except TaskError as error:
        assert all(problem.startswith("line 1: ") or "no questions" in problem for problem in error.problems)
