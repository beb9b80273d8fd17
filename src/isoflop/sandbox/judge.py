"""The process that tests run in: it meets the program's answers as plain values and the program's objects never."""

from __future__ import annotations

import builtins
import functools
import json
import opcode
import os
import random
import reprlib
import socket
import traceback
import types
from collections.abc import Iterator
from typing import Any, NoReturn

from isoflop.sandbox import wire
from isoflop.sandbox.compare import same
from isoflop.sandbox.limits import Limits

Ruling = tuple[str, str, int]
"""Outcome, reason, and cases passed."""
READY = b"ready"
"""What `serve` says between two programs."""
_RUNS = 1000
_SETTERS = frozenset(
    "setattr delattr __dict__ __setattr__ vars globals modules environ exec eval threading patch".split()
)
ENDED = "the program ended before the tests did"


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
        self.gone = ""
        """Why the program cannot be asked any more; whatever the tests make of that, they have failed."""
        self.raised: dict[int, str] = {}
        """What the program raised, in words, by the identity of the exception that stands for it here."""

    def load(self) -> None:
        """Wait for the program to have run as a module."""
        self._answer("load", (), {})

    def ask(self, operation: str, handle: int, *args: object, **kwargs: object) -> Any:
        """Have an operation done to an object of the program; what comes back is plain, or a `Remote`."""
        packed = wire.dumps((args, kwargs), _handle_of)
        if self.gone:
            raise ProgramGoneError(self.gone)
        try:
            wire.write_frame(self._fd, wire.request(operation, handle, packed))
        except OSError:
            self._lose(ENDED)
        return self._answer(operation, args, kwargs)

    def _answer(self, operation: str, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        try:
            reply = wire.loads(wire.read_frame(self._fd, self._most_bytes), lambda number: Remote(self, number))
        except (EOFError, OSError):
            self._lose(ENDED)
        except Exception as error:
            self._lose(f"the program's answer cannot be read: {error}")
        match reply:
            case ("ok", value, None):
                return value
            case ("ok", value, (tuple() as new_args, dict() as new_kwargs)) if len(new_args) == len(args):
                return _adopt([*zip(args, new_args), *((kwargs[k], new_kwargs.get(k)) for k in kwargs)], value)
            case ("raise", [str(name), *rest], str(text), int(line)):
                self._raise(operation, [name, *map(str, rest)], text, line)
            case _:
                self._lose("the program forged an answer")

    def _raise(self, operation: str, names: list[str], text: str, line: int) -> NoReturn:
        if "Exception" not in names:
            self._lose(f"the program raised {names[0]}({text}) on its line {line}")
        kinds = [getattr(builtins, name, None) for name in names]
        kind = next(k for k in (*kinds, Exception) if isinstance(k, type) and issubclass(k, Exception))
        if issubclass(kind, StopIteration) and operation != "next":
            kind = RuntimeError  # as in a generator: it must not end a loop of the tests
        try:
            error = kind(text)
        except TypeError:  # one of the few whose constructor wants more than a message
            error = Exception(text)
        self._known = error  # keeps the identity below from being used again
        self.raised = {id(error): f"the program raised {names[0]}({text}) on its line {line}"}
        raise error

    def _lose(self, why: str) -> NoReturn:
        self.gone = self.gone or why
        raise ProgramGoneError(self.gone)


class Remote:
    """An object of the program that is not plain: can be called, asked for attributes and iterated, equals nothing.

    Only what Python itself would look up on the object is passed on, and each answer is plain or another handle.
    """

    __slots__ = ("__handle", "__program")
    __hash__ = None  # pyright: ignore[reportAssignmentType] - what equals nothing can be in no set

    def __init__(self, program: Program, handle: int) -> None:
        object.__setattr__(self, "_Remote__program", program)
        object.__setattr__(self, "_Remote__handle", handle)

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.__program.ask("call", self.__handle, *args, **kwargs)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(f"an object of the program is not asked for {name}")
        return self.__program.ask("get", self.__handle, name)

    def __setattr__(self, name: str, value: object) -> None:
        self.__program.ask("set", self.__handle, name, value)

    def __len__(self) -> int:
        return self.__program.ask("len", self.__handle)

    def __getitem__(self, key: object) -> object:
        return self.__program.ask("item", self.__handle, key)

    def __contains__(self, item: object) -> bool:
        return self.__program.ask("contains", self.__handle, item)

    def __iter__(self) -> Iterator[object]:
        iterator = self.__program.ask("iter", self.__handle)
        while True:
            try:
                yield self.__program.ask("next", iterator.__handle if type(iterator) is Remote else -1)
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


def _handle_of(value: object) -> int | None:
    return value._Remote__handle if type(value) is Remote else None  # pyright: ignore


def _adopt(pairs: list[tuple[object, Any]], value: object) -> object:
    """Show a call's changes to its arguments, (old, new) each, in the caller's own objects; the value it returned."""
    for old, new in pairs:
        if value is new:
            value = old
        _updated(old, new)
    return value


def _updated(old: Any, new: Any) -> Any:
    if type(old) is not type(new):
        return new
    if type(old) is list:
        old[:] = [_updated(o, n) for o, n in zip(old, new)] + new[len(old) :]
    elif type(old) is dict:
        items = {key: _updated(old[key], item) if key in old else item for key, item in new.items()}
        old.clear()
        old.update(items)
    elif type(old) is set:
        old.clear()
        old.update(new)
    elif type(old) is bytearray:
        old[:] = new
    else:
        return new
    return old


class _Names(dict[str, object]):
    """The global names of the tests; what they do not define is the program's, but never what Python defines."""

    def __init__(self, program: Program) -> None:
        super().__init__(__name__="tests", __builtins__=builtins)
        self._program = program

    def __missing__(self, name: str) -> object:
        if hasattr(builtins, name) or name.startswith("__"):
            raise KeyError(name)
        try:
            return self._program.ask("get", 0, name)
        except AttributeError:
            raise KeyError(name) from None


def serve(line: socket.socket, limits: Limits) -> int:
    """Rule on one program after the other; after tests that may have changed this process, ask to be replaced."""
    for _ in range(_RUNS):
        message, fds, _, _ = socket.recv_fds(line, 16, 3)
        if not message:
            break
        packed, ruling, connection = fds
        random.seed(0)
        checks = wire.loads(os.pread(packed, os.fstat(packed).st_size, 0))
        os.close(packed)
        words = json.dumps(rule(checks, connection, limits.value_bytes))
        os.write(ruling, words.encode())
        os.close(ruling)
        os.close(connection)
        if checks[0] == "asserts" and _may_change_modules(checks[1]):
            break
        line.send(READY)
    return 0


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
        if _SETTERS.intersection(code.co_names) or opcode.opmap["STORE_ATTR"] in code.co_code[::2]:
            return True
    return False


def rule(checks: tuple[Any, ...], fd: int, most_bytes: int) -> Ruling:
    """Hold the program behind `fd` against checks: a word for their kind, and what belongs to it."""
    program = Program(fd, most_bytes)
    passed, code = 0, ""
    try:
        program.load()
        match checks:
            case ("asserts", str(code), str(entry_point)):
                _assert(program, code, entry_point)
                passed = 1
            case ("calls", str(function), tuple() as cases, float(tolerance)):
                for args, kwargs, expected in cases:
                    value = _function(program, function)(*args, **kwargs)
                    if not same(value, expected, tolerance):
                        got, wanted = reprlib.repr(value), reprlib.repr(expected)
                        return "fail", f"case {passed + 1}: returned {got} instead of {wanted}", passed
                    passed += 1
            case _:
                raise BadTestsError("they are of no known kind")
    except BadTestsError as error:
        return "grader-error", f"the tests cannot be run: {error}", passed
    except BaseException as error:
        if program.gone:
            return "fail", program.gone, passed
        if id(error) in program.raised:
            return "fail", program.raised[id(error)], passed
        if isinstance(error, (wire.NotPlainError, ImportError)):
            return "grader-error", f"the tests cannot be run: {_in_words(error, code)}", passed
        return "fail", _in_words(error, code), passed
    return ("fail", program.gone, 0) if program.gone else ("pass", "", passed)


class BadTestsError(Exception):
    """The tests are at fault, whatever the program."""


def _assert(program: Program, code: str, entry_point: str) -> None:
    try:
        compiled = _compiled(code)
    except (SyntaxError, ValueError) as error:
        raise BadTestsError(str(error)) from None
    names = _Names(program)
    exec(compiled, names)
    if entry_point:
        check = dict.get(names, "check")
        if check is None:
            raise BadTestsError("they define no check(candidate)")
        check(_function(program, entry_point))  # pyright: ignore


def _function(program: Program, name: str) -> Any:
    owner, _, method = name.rpartition(".")
    if not owner:
        return program.ask("get", 0, name)
    return getattr(program.ask("get", 0, owner)(), method)


def _in_words(error: BaseException, code: str) -> str:
    """What went wrong in the tests, and where."""
    words = f"{type(error).__name__}: {error}"[:500] if str(error) else type(error).__name__
    lines = [n for frame, n in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == "<tests>"]
    if not lines:
        return words
    return f"{words}, line {lines[-1]} of the tests: {code.splitlines()[lines[-1] - 1].strip()[:500]}"
