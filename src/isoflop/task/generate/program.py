"""Programs over short lists of digits, to be found from examples of what they do."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.task.generate.base import PROMPT_END, RESPONSE_END, Example, Generator

_OPERATIONS: dict[str, tuple[str, Callable[[list[int]], list[int]]]] = {
    "r": ("reverse", lambda x: x[::-1]),
    "s": ("sort", sorted),
    "i": ("add 1 modulo 10", lambda x: [(d + 1) % 10 for d in x]),
    "x": ("double modulo 10", lambda x: [2 * d % 10 for d in x]),
    "t": ("drop the first", lambda x: x[1:]),
    "b": ("drop the last", lambda x: x[:-1]),
    "e": ("keep the even ones", lambda x: [d for d in x if d % 2 == 0]),
    "c": ("running sum modulo 10", lambda x: [sum(x[: i + 1]) % 10 for i in range(len(x))]),
}
_SHOWN, _HIDDEN = 3, 20
_PROMPT = re.compile(r"(?:\d{0,5}>\d{0,5};)+:")
_STEP = re.compile(rf"([{''.join(_OPERATIONS)}])(\d*)")


def run(program: str, digits: str) -> str:
    """What a program makes of a list: its operations, one letter each, in order; nothing else can happen.

    >>> run("rt", "1234")
    '321'

    Raises:
        ValueError: a letter that is no operation; the message lists them.
    """
    values = [int(d) for d in digits]
    for letter in program:
        if letter not in _OPERATIONS:
            names = ", ".join(f"{name} ({what})" for name, (what, _) in _OPERATIONS.items())
            raise ValueError(f"{letter!r} in the program {program!r} is no operation; there are {names}")
        values = _OPERATIONS[letter][1](values)
    return "".join(map(str, values))


@final
@dataclass(frozen=True)
class Program(Generator):
    """Find a program of up to four operations from three examples; right if it agrees on twenty hidden ones too.

    The examples in the prompt are the public tests: a method may run programs on them (`passes`). A step is an
    operation, what it makes of the first example's list so far, and a space. The difficulty is the number of
    operations.

    >>> example = Program().draw(random.Random(1), 2)
    >>> example.prompt, example.response, example.answer
    ('1777>2888;63170>12478;6907>0178;:', 'i2888 s2888 \\n', 'is')
    """

    alphabet: ClassVar[str] = "0123456789" + "".join(_OPERATIONS) + ">; :\n"
    room: ClassVar[tuple[int, int]] = (_SHOWN * 12 + 1, 4 * 7 + 1)
    trained: ClassVar[tuple[int, ...]] = (1, 2, 3)
    beyond: ClassVar[tuple[int, ...]] = (4,)

    def draw(self, rng: random.Random, difficulty: int) -> Example:
        """Random operations, the last of which does something, and random lists of 3 to 5 that leave a result each."""
        while True:
            program = "".join(rng.choice(list(_OPERATIONS)) for _ in range(difficulty))
            lists = [_some_list(rng) for _ in range(_SHOWN)]
            before = [run(program[:-1], x) for x in lists]
            after = [run(program, x) for x in lists]
            if all(after) and after not in (before, lists):
                break
        steps = tuple(f"{op}{run(program[: i + 1], lists[0])} " for i, op in enumerate(program))
        prompt = "".join(f"{x}>{y};" for x, y in zip(lists, after, strict=True)) + PROMPT_END
        return Example(prompt, steps, program, difficulty)

    def extract(self, response: str) -> str | None:
        """The operations of the steps, in order; a bare program is its own answer."""
        if re.fullmatch(f"[{''.join(_OPERATIONS)}]+", response):
            return response
        words = response.removesuffix(RESPONSE_END).split()
        return "".join(word[0] for word in words) if words and all(map(_STEP.fullmatch, words)) else None

    def right(self, example: Example, answer: str) -> bool:
        """Whether `answer` passes the public tests, and does what the problem's own program does to hidden lists."""
        rng = random.Random(example.prompt)
        hidden = [_some_list(rng) for _ in range(_HIDDEN)]
        return self.passes(example.prompt, answer) and all(run(answer, x) == run(example.answer, x) for x in hidden)

    def passes(self, prompt: str, program: str) -> bool:
        """Whether a program passes the public tests."""
        return (
            bool(program)
            and set(program) <= set(_OPERATIONS)
            and bool(_PROMPT.fullmatch(prompt))
            and all(run(program, x) == y for x, y in _tests(prompt))
        )

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """A step is right if its list is what its operation makes of the list before it, which may itself be wrong."""
        if not _PROMPT.fullmatch(prompt):
            return []
        before, verdicts = _tests(prompt)[0][0], list[bool]()
        for word in response.removesuffix(RESPONSE_END).split():
            match = _STEP.fullmatch(word)
            verdicts.append(match is not None and run(match[1], before) == match[2])
            before = match[2] if match else before
        return verdicts


def _tests(prompt: str) -> list[tuple[str, str]]:
    """The public tests: an input and its output."""
    return [(x, y) for x, _, y in (test.partition(">") for test in prompt[:-2].split(";"))]


def _some_list(rng: random.Random) -> str:
    return "".join(str(rng.randrange(10)) for _ in range(rng.randrange(3, 6)))
