"""The process that tests run in: it meets the program's answers as plain values and the program's objects never.

It serves many programs, since it keeps nothing from one for the next: what tests define goes with them, and after tests
that could have changed something else it is replaced.
"""

from __future__ import annotations

import builtins
import functools
import gc
import json
import opcode
import os
import random
import reprlib
import socket
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any, NoReturn, cast

from isoflop.sandbox import wire
from isoflop.sandbox.compare import same
from isoflop.sandbox.limits import Limits

READY = b"ready"
"""What `serve` says between two programs."""
ENDED = "the program ended before the tests did"
Ruling = tuple[str, str, int]
"""Outcome, reason, and cases passed."""
_RUNS = 1000
_REACHES_OUT = {"setattr", "delattr", "__setattr__", "__dict__", "vars", "globals", "exec", "eval", "modules", "patch"}


def serve(line: socket.socket, limits: Limits) -> int:
    """Rule on one program after the other; after tests that may have changed this process, end to be replaced."""
    gc.enable()
    loaded = set(sys.modules)
    for _ in range(_RUNS):
        message, fds, _, _ = socket.recv_fds(line, 16, 3)
        if not message:
            break
        packed, ruling, connection = fds
        random.seed(0)
        checks = wire.loads(os.pread(packed, os.fstat(packed).st_size, 0))
        os.write(ruling, json.dumps(rule(checks, connection, limits.value_bytes)).encode())
        for fd in fds:
            os.close(fd)
        if checks[0] == "asserts" and (sys.modules.keys() != loaded or _may_change_modules(checks[1])):
            break
        line.send(READY)
    return 0


def rule(checks: tuple[Any, ...], fd: int, most_bytes: int) -> Ruling:
    """Hold the program behind `fd` against checks: a word for their kind, and what belongs to it."""
    program = Program(fd, most_bytes)
    try:
        program.load()
        if checks[0] == "calls":
            return _compare(program, *checks[1:])
        _assert(program, *checks[1:])
        outcome, reason, passed = "pass", "", 1
    except BadTestsError as error:
        outcome, reason, passed = "grader-error", f"the tests cannot be run: {error}", 0
    except BaseException as error:
        outcome, reason, passed = "fail", program.blamed(error) or _in_words(error, checks), 0
    return ("fail", program.gone, 0) if program.gone else (outcome, reason, passed)


class BadTestsError(Exception):
    """The tests are at fault, whatever the program."""


class ProgramGoneError(BaseException):
    """The program ended, or made no sense any more, before the tests were through; `except Exception` lets it pass."""


class Program:
    """The program as the tests see it.

    Args:
        fd: the connection to the program's process.
        most_bytes: the largest value to take from it (bytes).
    """

    def __init__(self, fd: int, most_bytes: int) -> None:
        self._fd, self._most_bytes = fd, most_bytes
        self._raised: tuple[BaseException, str] | None = None
        self.gone = ""
        """Why the program cannot be asked any more; whatever the tests make of that, they have failed."""

    def load(self) -> None:
        """Wait for the program to have run as a module."""
        self._answer("load", (), {})

    def ask(self, operation: str, handle: int, *args: object, **kwargs: object) -> Any:
        """Have an operation done to an object of the program; what comes back is plain, or a `Remote`.

        Raises:
            BadTestsError: an argument is not plain.
            ProgramGoneError: there is no program any more.
            Exception: what the program raised, as the nearest exception of Python's own.
        """
        try:
            packed = wire.dumps((args, kwargs), Remote.isoflop_handle_of)
        except wire.NotPlainError as error:
            raise BadTestsError(f"they hand the program a thing that cannot travel: {error}") from None
        if self.gone:
            raise ProgramGoneError(self.gone)
        try:
            wire.write_frame(self._fd, wire.request(operation, handle, packed))
        except OSError:
            self._lose(ENDED)
        return self._answer(operation, args, kwargs)

    def named(self, name: str) -> Any:
        """The global that the tests call the program by; `Class.method` makes an object of the class first."""
        owner, _, method = name.rpartition(".")
        return getattr(self.ask("get", 0, owner)(), method) if owner else self.ask("get", 0, name)

    def blamed(self, error: BaseException) -> str:
        """What happened in the program, if `error` comes from there."""
        return self._raised[1] if self._raised and self._raised[0] is error else ""

    def _answer(self, operation: str, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        try:
            frame = wire.read_frame(self._fd, self._most_bytes)
        except (EOFError, OSError):
            return self._lose(ENDED)
        except ValueError as error:
            return self._lose(f"the program's answer is out of bounds: {error}")
        try:
            kind, *rest = wire.loads(frame, lambda handle: Remote(self, handle))
            if kind == "ok":
                value, changed = rest
                return _with_changes(value, (args, kwargs), changed) if changed else value
            names, text, line = rest
            error, what = (
                _exception(names, operation),
                f"the program raised {names[0]}({text}) on its line {line}"[:1000],
            )
        except Exception as error:
            return self._lose(f"the program's answer makes no sense: {error}")
        if error is None:
            return self._lose(what)
        self._raised = (error, what)
        error.args = (text,)
        raise error

    def _lose(self, why: str) -> NoReturn:
        self.gone = self.gone or why
        raise ProgramGoneError(self.gone)


class Remote:
    """An object of the program that is not plain: can be called, asked for attributes and iterated, equals nothing.

    Only what Python itself would look up on the object is passed on, and each answer is plain or another handle.
    """

    __slots__ = ("_isoflop_handle", "_isoflop_program")
    __hash__ = None  # pyright: ignore[reportAssignmentType] - what equals nothing can be in no set
    _isoflop_handle: int
    _isoflop_program: Program

    def __init__(self, program: Program, handle: int) -> None:
        object.__setattr__(self, "_isoflop_program", program)
        object.__setattr__(self, "_isoflop_handle", handle)

    @staticmethod
    def isoflop_handle_of(value: object) -> int | None:
        """The handle of `value`, if it is one of these; the name is long so that no program's attribute has it."""
        return value._isoflop_handle if type(value) is Remote else None

    def _isoflop_ask(self, operation: str, *args: object, **kwargs: object) -> Any:
        return self._isoflop_program.ask(operation, self._isoflop_handle, *args, **kwargs)

    def __call__(self, *args: object, **kwargs: object) -> Any:  # noqa: D102
        return self._isoflop_ask("call", *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"an object of the program is not asked for {name}")
        return self._isoflop_ask("get", name)

    def __setattr__(self, name: str, value: object) -> None:
        self._isoflop_ask("set", name, value)

    def __len__(self) -> int:
        return self._isoflop_ask("len")

    def __getitem__(self, key: object) -> Any:
        return self._isoflop_ask("item", key)

    def __contains__(self, item: object) -> bool:
        return self._isoflop_ask("contains", item)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._isoflop_ask("iter")
        while type(iterator) is Remote:
            try:
                yield iterator._isoflop_ask("next")
            except StopIteration:
                return

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} is neither true nor false")

    def __repr__(self) -> str:
        return "<an object of the program that is not a plain value>"


class _Names(dict[str, Any]):
    """The global names of the tests; what they do not define is the program's, but never what Python defines."""

    def __init__(self, program: Program) -> None:
        super().__init__(__name__="tests", __builtins__=builtins)
        self._program = program

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name) or name.startswith("__"):
            raise KeyError(name)
        try:
            return self._program.ask("get", 0, name)
        except AttributeError:
            raise KeyError(name) from None


def _compare(program: Program, function: str, cases: Any, tolerance: float) -> Ruling:
    for passed, (args, kwargs, expected) in enumerate(cases):
        try:
            value = program.named(function)(*args, **kwargs)
            if same(value, expected, tolerance):
                continue
            reason = f"returned {reprlib.repr(value)} instead of {reprlib.repr(expected)}"
        except BaseException as error:
            reason = program.gone or program.blamed(error) or _in_words(error, ())
        return "fail", f"case {passed + 1}: {reason}", passed
    return "pass", "", len(cases)


def _assert(program: Program, tests: str, entry_point: str) -> None:
    try:
        code = _compiled(tests)
    except (SyntaxError, ValueError) as error:
        raise BadTestsError(str(error)) from None
    names = _Names(program)
    try:
        exec(code, names)
        if entry_point:
            if "check" not in names:
                raise BadTestsError("they define no check(candidate)")
            names["check"](program.named(entry_point))
    except ImportError as error:
        if program.blamed(error):
            raise
        raise BadTestsError(f"{error}; name it in the sandbox's `packages`") from None


@functools.lru_cache(maxsize=4)
def _compiled(tests: str) -> types.CodeType:
    """Tests as code; kept, since many programs come to the same tests."""
    return compile(tests, "<tests>", "exec", dont_inherit=True)


def _may_change_modules(tests: str) -> bool:
    """Whether tests could leave something behind: they set attributes, or name one of the other ways to."""
    try:
        codes = [_compiled(tests)]
    except (SyntaxError, ValueError):
        return False
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        if _REACHES_OUT.intersection(code.co_names) or opcode.opmap["STORE_ATTR"] in code.co_code[::2]:
            return True
    return False


def _exception(names: list[str], operation: str) -> Exception | None:
    """The nearest exception of Python's own to one of the program's, by the names of its class and all above; none if
    it means to leave.
    """
    if "Exception" not in names:
        return None
    kinds = (getattr(builtins, name, None) for name in names)
    kind = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))
    if issubclass(kind, StopIteration) and operation != "next":
        kind = RuntimeError  # as in a generator: it must not end a loop of the tests
    return kind.__new__(kind)


def _with_changes(value: object, given: tuple[Any, Any], changed: tuple[Any, Any]) -> object:
    """What a call returned, once its changes to the arguments are shown in the tests' own objects."""
    (args, kwargs), (new_args, new_kwargs) = given, changed
    for old, new in [*zip(args, new_args, strict=True), *((kwargs[name], new_kwargs[name]) for name in kwargs)]:
        if value is new:
            value = old
        _updated(old, new)
    return value


def _updated(old: Any, new: Any) -> Any:
    """`old` itself with the contents of `new` where it can be changed, else `new`."""
    kind = cast("type[Any]", type(old))
    if kind is not type(new):
        return new
    if kind is list:
        old[:] = [_updated(o, n) for o, n in zip(old, new)] + new[len(old) :]
    elif kind is dict:
        items = {key: _updated(old[key], item) if key in old else item for key, item in new.items()}
        old.clear()
        old.update(items)
    elif kind is set:
        old.clear()
        old.update(new)
    elif kind is bytearray:
        old[:] = new
    else:
        return new
    return old


def _in_words(error: BaseException, checks: tuple[Any, ...]) -> str:
    """What went wrong in the tests, and where."""
    words = f"{type(error).__name__}: {error}"[:500] if str(error) else type(error).__name__
    lines = [n for frame, n in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == "<tests>"]
    if not lines:
        return words
    return f"{words}, line {lines[-1]} of the tests: {checks[1].splitlines()[lines[-1] - 1].strip()[:500]}"
