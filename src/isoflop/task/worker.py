"""Work that may never end, done in a process of its own under a limit of CPU time and memory.

Symbolic algebra and regular expressions can take for ever on a short input, and a signal does not interrupt a long
multiplication. Here the kernel does: the worker process dies when it has used its CPU time, whatever it is doing, and
the next call starts a new one. CPU time, not wall time: a busy machine does not turn right answers into wrong ones.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

from isoflop.task.base import GraderError

_BOUNDED = Path(__file__).parent / "bounded"
_MEMORY_BYTES = 2 << 30


class OverLimit(Exception):  # noqa: N818 - an outcome, not a fault
    """The work was stopped: it took more CPU time or memory than it may."""


class Worker:
    """Calls functions of one module in a process of its own; any thread may call.

    Args:
        module: a file whose functions take and return what JSON can hold; it is loaded without the package around it.
    """

    def __init__(self, module: Path) -> None:
        self.module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def call(self, function: str, *args: object, cpu_s: float) -> object:
        """The value of `function(*args)`.

        Raises:
            OverLimit: it took more than `cpu_s` seconds of CPU time, or 2 GiB of memory.
            GraderError: the worker broke, or the function raised.
        """
        with self._lock:
            reply = self._ask(json.dumps([function, args, cpu_s]))
        if isinstance(reply, int):
            if reply == -signal.SIGPROF:
                raise OverLimit(f"{function} took more than {cpu_s:g} s of CPU time")
            raise GraderError(f"the process for {self.module.stem} broke (exit code {reply})")
        kind, value = json.loads(reply)
        if kind == "memory":
            raise OverLimit(f"{function} took more than {_MEMORY_BYTES >> 30} GiB of memory")
        if kind == "error":
            raise GraderError(f"{self.module.stem}.{function}: {value}")
        return value

    def _ask(self, question: str) -> str | int:
        """The reply, or the exit code of the process if there was none."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(question + "\n")
                process.stdin.flush()
            reply = process.stdout.readline()
        except BaseException:  # interrupted between question and reply: the next call must not get this one's
            self.close()
            raise
        if reply:
            return reply
        code = process.wait()
        self.close()
        return code

    def close(self) -> None:
        """End the process; the next call starts a new one."""
        process, self._process = self._process, None
        if process and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process and self._owner != os.getpid():
            self._process = None  # this process is a fork of the one that started it
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_BOUNDED / "serve.py"), str(self.module), str(_MEMORY_BYTES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            self._owner = os.getpid()
        return self._process


@cache
def worker(name: str) -> Worker:
    """The one worker in this process for a file of `bounded/`; it ends with it."""
    made = Worker(_BOUNDED / f"{name}.py")
    atexit.register(made.close)
    return made
