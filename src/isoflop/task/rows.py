"""Rows of a file into questions, and every fault in them, before anything is spent."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, cast, get_args, get_origin, get_type_hints

from isoflop.sandbox import Asserts, Calls, Case, Checks, Stdio
from isoflop.task.base import SPLITS, Grader, Prompt, Question, Split, TaskError, TurnRole
from isoflop.task.graders import grader_class, grader_names

_LONGEST_BYTES = 1 << 20
FIELDS = ("prompt", "answer", "id", "grader", "options", "aliases", "split", "level", "tests", "public_tests")
_GSM8K = {"question", "answer"}


def read_rows(data: bytes, source: str) -> list[Question]:
    """The questions of a JSONL file; rows of GSM8K (`question`, and an `answer` ending in `#### 18`) are read too.

    Args:
        data: the file; UTF-8 with or without a byte order mark, any ends of lines.
        source: its name, for messages.

    Raises:
        TaskError: rows cannot be used; the message names every one with its line and what is wrong.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise TaskError(source, ["is UTF-16; save it as UTF-8"])
    questions: list[Question] = []
    problems: list[str] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        row = _Row(number)
        question = row.read(line)
        if question is not None:
            first = lines.setdefault(question.key, number)
            if first != number:
                row.wrong(f"id {question.key!r} is that of line {first} already")
            questions.append(question)
        problems += row.problems
    if not questions and not problems:
        problems = ["holds no questions; each line must be a JSON object with prompt and answer"]
    if problems:
        raise TaskError(source, problems)
    return questions


class _Row:
    """One line on its way to a question, collecting what is wrong with it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.problems: list[str] = []

    def wrong(self, what: str) -> None:
        self.problems.append(f"line {self.number}: {what}")

    def read(self, line: bytes) -> Question | None:
        """The question of a line, or None with `problems`."""
        fields = self._parsed(line)
        if fields is None:
            return None
        if set(fields) == _GSM8K:
            fields = self._gsm8k(fields)
        for name in (name for name in fields if name not in FIELDS):
            self.wrong(f"unknown field {name!r}; {choose(name, FIELDS)}")
        prompt, answer = self._prompt(fields), self._answer(fields)
        key = fields.get("id", self.number)
        if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
            self.wrong(f"id must be a text or a number, not {_shown(key)}")
        key = str(key)
        split = fields.get("split", _split_of(key))
        if split not in SPLITS:
            self.wrong(f"split must be {' or '.join(SPLITS)}, not {_shown(split)}")
        level = fields.get("level")
        if level is not None and type(level) is not int:
            self.wrong(f"level must be a whole number, not {_shown(level)}")
        aliases = self._texts("aliases", fields)
        grader = self._grader(fields)
        public_tests, tests = (self._tests(name, fields, grader) for name in ("public_tests", "tests"))
        if self.problems or grader is None:
            return None
        question = Question(
            key, prompt, answer, grader.suited(answer), cast(Split, split), level, aliases, tests, public_tests
        )
        if fault := question.grader.rejects(question):
            self.wrong(fault)
        return question

    def _parsed(self, line: bytes) -> dict[str, Any] | None:
        if len(line) > _LONGEST_BYTES:
            return self.wrong(f"is {len(line):,} bytes long; at most {_LONGEST_BYTES:,} are read")
        try:
            fields: object = json.loads(
                line.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_no_number
            )
        except UnicodeDecodeError as error:
            return self.wrong(f"is not UTF-8 (byte {error.start + 1} is 0x{line[error.start]:02x})")
        except json.JSONDecodeError as error:
            return self.wrong(f"is not JSON: {error.msg} (column {error.colno})")
        except (ValueError, RecursionError) as error:
            return self.wrong(f"is not JSON that can be read: {error}")
        if not _is_object(fields):
            return self.wrong(f"must be a JSON object, not {_shown(fields)}")
        try:
            json.dumps(fields, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return self.wrong("holds half of a surrogate pair (\\ud800-\\udfff), which is no character")
        return fields

    def _gsm8k(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        worked = fields["answer"]
        _, mark, answer = worked.rpartition("#### ") if isinstance(worked, str) else ("", "", "")
        if not mark:
            self.wrong("has question and answer like GSM8K, but no '#### '; a row of your own has prompt and answer")
        return {"prompt": fields["question"], "answer": answer.strip() or "?", "grader": "numeric"}

    def _prompt(self, fields: Mapping[str, Any]) -> Prompt:
        prompt = fields.get("prompt")
        if "prompt" not in fields:
            self.wrong("has no prompt")
        elif isinstance(prompt, str):
            if not prompt.strip():
                self.wrong("the prompt is empty")
            return prompt
        elif _is_list(prompt):
            return tuple(self._turn(turn) for turn in prompt) or self._no_turns()
        else:
            self.wrong(f"prompt must be a text or a list of turns, not {_shown(prompt)}")
        return ""

    def _no_turns(self) -> Prompt:
        self.wrong("the prompt has no turns")
        return ""

    def _turn(self, turn: object) -> tuple[TurnRole, str]:
        if _is_object(turn) and set(turn) == {"role", "content"}:
            role, content = turn["role"], turn["content"]
            if role in get_args(TurnRole) and isinstance(content, str) and content.strip():
                return cast(TurnRole, role), content
        self.wrong(f"a turn must be {{role: {'|'.join(get_args(TurnRole))}, content: text}}, not {_shown(turn)}")
        return "user", ""

    def _answer(self, fields: Mapping[str, Any]) -> str:
        answer = fields.get("answer")
        if "answer" not in fields:
            self.wrong("has no answer")
        elif isinstance(answer, bool) or not isinstance(answer, str | int | float):
            self.wrong(f"answer must be a text or a number, not {_shown(answer)}")
        elif not str(answer).strip() and fields.get("grader") != "code":
            self.wrong("the answer is empty")
        return str(answer)

    def _texts(self, name: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
        texts = fields.get(name, [])
        if not _is_list(texts) or not all(isinstance(text, str) and text.strip() for text in texts):
            self.wrong(f"{name} must be a list of texts, not {_shown(texts)}")
            return ()
        return tuple(cast("list[str]", texts))

    def _grader(self, fields: Mapping[str, Any]) -> Grader | None:
        name, options = fields.get("grader", "exact"), fields.get("options", {})
        if name not in grader_names():
            return self.wrong(f"unknown grader {_shown(name)}; {choose(str(name), grader_names())}")
        if not _is_object(options):
            return self.wrong(f"options must be an object, not {_shown(options)}")
        cls = grader_class(name)
        given = self._options(cls, options)
        try:
            return None if given is None else cls(**given)
        except TaskError:
            raise
        except ValueError as error:
            return self.wrong(f"options of {name}: {error}")

    def _options(self, cls: type[Grader], options: Mapping[str, object]) -> dict[str, Any] | None:
        hints = get_type_hints(cls)
        names = [f.name for f in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType] - graders are dataclasses
        wrong = len(self.problems)
        given: dict[str, Any] = {}
        for name, value in options.items():
            if name not in names:
                self.wrong(f"the grader {cls.name()!r} has no option {name!r}; {choose(name, names)}")
                continue
            value = tuple(value) if _is_list(value) else value
            if not _fits(value, hints[name]):
                kind = _described(hints[name])
                self.wrong(f"the option {name} of {cls.name()!r} must be {kind}, not {_shown(value)}")
            given[name] = float(value) if hints[name] is float and isinstance(value, int) else value
        return given if len(self.problems) == wrong else None

    def _tests(self, name: str, fields: Mapping[str, Any], grader: Grader | None) -> tuple[Checks, ...]:
        tests = fields.get(name, [])
        if tests and grader is not None and grader.name() != "code":
            self.wrong(f"{name} are for the grader 'code', not {grader.name()!r}")
            return ()
        entry_point = str(getattr(grader, "entry_point", ""))
        try:
            return _merged([_checks(test, entry_point) for test in (tests if _is_list(tests) else [tests])])
        except ValueError as error:
            self.wrong(f"{name}: {error}")
            return ()


def _checks(test: object, entry_point: str) -> Checks:
    """One test of a row."""
    if isinstance(test, str) and test.strip():
        if not re.search(r"^def check\(", test, re.MULTILINE):
            return Asserts(test)
        if not entry_point:
            raise ValueError("check(candidate) needs the option entry_point, the function to check")
        return Asserts(test, entry_point)
    if _is_object(test):
        if set(test) == {"input", "output"} and all(isinstance(text, str) for text in test.values()):
            return Stdio(((test["input"], test["output"]),))
        if {"args", "expected"} <= set(test) <= {"args", "expected", "kwargs"} and _is_list(test["args"]):
            if not entry_point:
                raise ValueError("a test with args needs the option entry_point, the function to call")
            return Calls(entry_point, (Case(tuple(test["args"]), test["expected"], test.get("kwargs", {})),))
    forms = "Python code, {args: [...], expected: value} or {input: text, output: text}"
    raise ValueError(f"a test must be {forms}, not {_shown(test)}")


def _merged(tests: Sequence[Checks]) -> tuple[Checks, ...]:
    """The same tests, with all calls and all pairs of input and output in one each, for one process instead of many."""
    merged: list[Checks] = [test for test in tests if isinstance(test, Asserts)]
    calls = [test for test in tests if isinstance(test, Calls)]
    pairs = [test for test in tests if isinstance(test, Stdio)]
    if calls:
        merged.append(Calls(calls[0].function, tuple(case for test in calls for case in test.cases)))
    if pairs:
        merged.append(Stdio(tuple(case for test in pairs for case in test.cases)))
    return tuple(merged)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _without_repeats(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"the field {name!r} stands there twice")
        fields[name] = value
    return fields


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _split_of(key: str) -> Split:
    """Half of all keys each, the same on every machine."""
    return SPLITS[hashlib.blake2b(key.encode(), digest_size=1).digest()[0] & 1]


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if isinstance(hint, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(each, str) for each in cast("tuple[object, ...]", value))
    return type(value) is hint or (hint is float and type(value) is int)


def _described(hint: object) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if isinstance(hint, UnionType):
        return " or ".join(_described(each) for each in get_args(hint) if each is not NoneType)
    if get_origin(hint) is tuple:
        return "a list of texts"
    return {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}.get(
        cast(type, hint), str(hint)
    )


def _shown(value: object) -> str:
    """A value as it stands in the file, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def choose(name: str, names: Sequence[str]) -> str:
    """What to write instead of a name that does not exist.

    >>> choose("nmeric", ["exact", "numeric"])
    "did you mean 'numeric'? there are exact, numeric"
    """
    close = get_close_matches(name, names, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"there are {', '.join(names)}"
