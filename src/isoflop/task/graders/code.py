"""Programs, by their tests."""

from __future__ import annotations

import ast
import atexit
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import final

from isoflop.sandbox import Checks, Limits, Sandbox
from isoflop.task.base import Grader, GraderError, Question
from isoflop.task.completion import response

_FENCED = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_DEFINES = re.compile(r"^[ \t]*+(?:async[ \t]+def|def|class)\s", re.MULTILINE)
_LONGEST = 100_000
"""No program longer than this is read (characters)."""


@final
@dataclass(frozen=True, slots=True)
class Code(Grader):
    """The answer is a Python program: right if it passes the row's `tests` and `public_tests` in the sandbox.

    Takes the last fenced block that defines something, or else the whole completion. Where the prompt is itself the
    beginning of the program (HumanEval), what the model wrote continues it: up to the first line that is not part of
    the body, or, if it starts the function anew, all of it, after the prompt's imports.

    Two programs are the same answer if they differ in comments and layout only.

    Args:
        entry_point: the function that `check(candidate)` of the tests, or tests with `args`, call.
        packages: third-party packages that programs and tests may import.
        cpu_s: the most CPU time for one test (seconds).
        memory_bytes: the most memory (bytes).
    """

    entry_point: str = ""
    packages: tuple[str, ...] = ()
    cpu_s: float = 5.0
    memory_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        if self.entry_point and not re.fullmatch(r"(Solution\.)?[A-Za-z_]\w*", self.entry_point):
            raise ValueError(f"entry_point {self.entry_point!r} is no name of a function")
        if missing := [package for package in self.packages if find_spec(package) is None]:
            raise ValueError(f"package {missing[0]!r} is not installed, so programs cannot import it")
        Limits(cpu_s=self.cpu_s, memory_bytes=self.memory_bytes)

    def extract(self, text: str) -> str | None:
        """The program, or the continuation of one."""
        said = response(text)
        blocks = [textwrap.dedent(match[1]) for match in _FENCED.finditer(said)]
        if not blocks:
            return said if said.strip() else None
        program = next((block for block in reversed(blocks) if _DEFINES.search(block)), blocks[-1])
        if said.count("```") % 2 and program == blocks[-1] and _tree(program) is None:
            return None  # cut off inside the block
        return program if program.strip() else None

    def canonical(self, answer: str) -> str:
        """The program without comments and layout."""
        tree = _tree(answer) or _tree("def body():\n" + textwrap.indent(textwrap.dedent(answer), "    "))
        return answer.strip() if tree is None else ast.unparse(tree)

    def grade(self, answer: str, question: Question) -> float:
        """1 for a program that passes all tests.

        Raises:
            GraderError: the sandbox could not tell.
        """
        return float(self.passes(answer, question, (*question.public_tests, *question.tests)))

    def passes(self, answer: str, question: Question, tests: Sequence[Checks]) -> bool:
        """Whether an answer passes `tests`; methods may ask this of the public ones.

        Raises:
            GraderError: the sandbox could not tell.
        """
        program = self.program(answer, question)
        return all(_passes(program, _Test(test), self) for test in tests)

    def program(self, answer: str, question: Question) -> str:
        """The whole program that an answer stands for."""
        prompt = question.prompt
        if not isinstance(prompt, str) or not self.entry_point:
            return answer
        if not _defines(prompt, self.entry_point) or _tree(prompt) is None:
            return answer
        if _defines(answer, self.entry_point):
            return f"{prompt.rstrip()}\n\n{answer}"
        return prompt + _body(answer)

    def rejects(self, question: Question) -> str | None:
        """Why a question cannot be graded: no tests, or its own answer, where it has one, fails them."""
        if not question.tests and not question.public_tests:
            return "the grader 'code' needs tests"
        try:
            if question.answer.strip() and not self.grade(question.answer, question):
                return "the row's own answer does not pass its tests"
        except GraderError as error:
            return str(error)
        return None


def _defines(program: str, name: str) -> bool:
    """Whether a program, or the beginning of one, defines a function."""
    return bool(re.search(rf"^(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b", program, re.MULTILINE))


def _body(continuation: str) -> str:
    """What belongs to the body that a continuation starts in: up to the first line that is not indented."""
    kept: list[str] = []
    for line in continuation.split("\n"):
        if kept and line.strip() and not line[0].isspace() and not line.startswith(("#", ")", "]", "}")):
            break
        kept.append(line)
    return "\n".join(kept)


@lru_cache(maxsize=4096)
def _tree(program: str) -> ast.Module | None:
    if len(program) > _LONGEST:
        return None
    try:
        return ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class _Test:
    """A test that a cache can tell from others: its values need not be hashable."""

    __slots__ = ("checks", "words")

    def __init__(self, checks: Checks) -> None:
        self.checks, self.words = checks, repr(checks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Test) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)


@lru_cache(maxsize=65536)
def _passes(program: str, test: _Test, grader: Code) -> bool:
    limits = Limits(cpu_s=grader.cpu_s, memory_bytes=grader.memory_bytes)
    verdict = _sandbox(limits, grader.packages).run(program, test.checks)
    if verdict.outcome == "grader-error":
        raise GraderError(verdict.reason)
    return verdict.outcome == "pass"


@cache
def _sandbox(limits: Limits, packages: tuple[str, ...]) -> Sandbox:
    """The one sandbox of this process for some limits; it ends with it."""
    try:
        sandbox = Sandbox(limits, packages=packages)
    except OSError as error:  # no sandbox on this system
        raise GraderError(str(error)) from error
    atexit.register(sandbox.close)
    return sandbox
