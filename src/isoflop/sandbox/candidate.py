"""The process that a program runs in: what this process says is believed of nobody but the program."""

from __future__ import annotations

import atexit
import operator
import os
import sys
import traceback
import types
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, cast

from isoflop.sandbox import wire


def _call(target: Callable[..., object], *args: object, **kwargs: object) -> object:
    return target(*args, **kwargs)


_OPERATIONS: dict[str, Callable[..., object]] = {
    "call": _call,
    "get": getattr,
    "set": setattr,
    "len": len,
    "iter": iter,
    "next": next,
    "item": operator.getitem,
    "contains": operator.contains,
}


def serve(program: int, fd: int, most_bytes: int) -> None:
    """Run the program in the file `program` as a module, then do what the judge asks for over `fd`, until it hangs up.

    A request is an operation, the handle of the object that it is done to, and the packed arguments. An object that is
    not plain stays here and goes by a handle, its place in `handles`; 0 is the module.
    """
    source = _read(program)
    module = types.ModuleType("program")
    sys.modules["program"] = module
    handles: list[object] = [module]

    def stand_in(value: object) -> wire.StandIn:
        if plain := _equal_plain_value(value):
            return plain
        handles.append(value)
        return len(handles) - 1

    try:
        exec(compile(source, "<program>", "exec", dont_inherit=True), module.__dict__)
        reply = wire.dumps(("ok", None, None))
    except BaseException as error:
        reply = _raised(error)
    while True:
        wire.write_frame(fd, reply)
        operation, target, packed = wire.read_request(wire.read_frame(fd, most_bytes))
        try:
            args, kwargs = wire.loads(packed, handles.__getitem__)
            value = _OPERATIONS[operation](handles[target], *args, **kwargs)
            changed = None
            if any(type(a) in (list, dict, set, bytearray) for a in (*args, *kwargs.values())):
                # The tests see what a call did to its arguments, as they would in one process.
                shared = any(value is a for a in args)
                changed = (args, kwargs) if shared or wire.dumps((args, kwargs), stand_in) != packed else None
            reply = wire.dumps(("ok", value, changed), stand_in)
        except BaseException as error:
            reply = _raised(error)


def run_script(program: int, stdin: int, stdout: int, stderr: int) -> int:
    """Run the program in the file `program` as `__main__` to its end, threads and exit handlers included.

    Args:
        program: file descriptor of its source.
        stdin: of what it reads.
        stdout: of where it prints.
        stderr: of where it complains.

    Returns:
        Its exit status.
    """
    source = _read(program)
    for number, stream in enumerate((stdin, stdout, stderr)):
        os.dup2(stream, number)
        os.close(stream)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    status = 0
    try:
        exec(compile(source, "<program>", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else 0 if leave.code is None else 1
        if isinstance(leave.code, str):
            print(leave.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    if threads := sys.modules.get("threading"):  # not imported here: what it does after a fork takes its time
        for thread in threads.enumerate():
            if thread is not threads.current_thread() and not thread.daemon:
                thread.join()
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] - the rest of the interpreter's end is not needed
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status & 0xFF


def _equal_plain_value(value: Any) -> tuple[object] | None:
    """For the few objects that honest programs return for a plain value that they are equal to: that value."""
    kind = cast("type[Any]", type(value))
    if kind in (Counter, OrderedDict, defaultdict):
        return (dict(value),)
    if kind.__module__ == "numpy" and isinstance(value, sys.modules["numpy"].generic):
        return (value.item(),)
    return None


def _read(file: int) -> bytes:
    parts = [os.read(file, 1 << 14)]
    while parts[-1]:
        parts.append(os.read(file, 1 << 14))
    os.close(file)
    return b"".join(parts)


def _raised(error: BaseException) -> bytes:
    names = [kind.__name__ for kind in type(error).__mro__]
    try:
        text = str(error)[:1000]
    except BaseException:
        text = ""
    lines = [n for frame, n in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == "<program>"]
    if isinstance(error, SyntaxError) and error.lineno:
        lines.append(error.lineno)
    return wire.dumps(("raise", names, text, lines[-1] if lines else 0))
