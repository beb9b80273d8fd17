"""What a program is held against: assertions, calls with expected results, or input and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Asserts:
    """Python test code (HumanEval, MBPP): passes when it runs to its end.

    It runs in a process of its own and never meets an object of the program: names that it does not define itself stand
    for the program's, and calling one is a call into the program's process whose arguments and results travel as plain
    values. What is not plain arrives as a handle that can be called and asked for attributes, but equals nothing.

    Args:
        code: the tests; what they import must be in the standard library or in the sandbox's `packages`.
        entry_point: a function of the program that `check(candidate)` of the tests is called with, if given.
    """

    code: str
    entry_point: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One call and what it must return.

    Args:
        args: positional arguments, plain values.
        expected: the right result, a plain value; tuples and lists count as the same, True and 1 do not.
        kwargs: arguments by name.
    """

    args: tuple[object, ...]
    expected: object
    kwargs: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one function, each against its expected result.

    Args:
        function: name of the program's function; `Solution.name` calls that method of a new `Solution()` for each case.
        cases: tried in order until one fails.
        tolerance: largest absolute or relative difference of two numbers, one of them a float, that count as equal.
    """

    function: str
    cases: tuple[Case, ...]
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Stdio:
    """Whole programs that read standard input and print (programming contests); a fresh process for each case.

    White space at the ends of lines and blank lines at the end do not count; an exit status other than 0 fails.

    Args:
        cases: pairs of what is typed and what must be printed, tried in order until one fails.
        tolerance: largest absolute or relative difference of two printed numbers that still count as equal.
    """

    cases: tuple[tuple[str, str], ...]
    tolerance: float = 0.0


Checks = Asserts | Calls | Stdio
