"""A lane: one warm process that programs are run under, one after the other."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from isoflop.sandbox.limits import PATIENCE, Limits
from isoflop.sandbox.verdict import Report

# Loads the server without the packages around it, which may be heavy: a fork costs by what is loaded. `random` would
# give each fork a seed of its own, where the same program is to get the same numbers again.
_BOOT = """
import os, sys, types
register, os.register_at_fork = os.register_at_fork, lambda **_: None
import random
os.register_at_fork = register
for name, path in zip(("isoflop", "isoflop.sandbox"), sys.argv[2:]):
    package = types.ModuleType(name)
    package.__path__ = [path]
    sys.modules[name] = package
from isoflop.sandbox.server import main
main(int(sys.argv[1]))
"""
_START_S = 60.0


class LaneError(Exception):
    """The process behind a lane could not be started, or died."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What holds a program in on this machine.

    Args:
        active: the mechanisms in force.
        missing: those that are not, and why.
    """

    active: tuple[str, ...]
    missing: dict[str, str]


class Lane:
    """Runs one program at a time; starts its process when it is first needed, and again when that has died.

    Args:
        limits: what each program may use.
        packages: third-party packages to have loaded.
        seat: lanes with numbers that follow each other keep to different processors, where there are as many.
    """

    def __init__(self, limits: Limits, packages: Sequence[str], seat: int) -> None:
        self.limits, self._packages, self._seat = limits, packages, seat
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._base = ""
        self._isolation = Isolation((), {})

    def isolation(self) -> Isolation:
        """What is in force in this lane's process.

        Raises:
            LaneError: it cannot be started.
        """
        self._started()
        return self._isolation

    def run(self, kind: str, files: Sequence[int]) -> Report:
        """Have a program run.

        Args:
            kind: `script` (files: program, standard input, output, error) or `tests` (program, checks, ruling).
            files: open at their beginning; the caller closes them.

        Raises:
            LaneError: the process died, or never answered; it will be a new one next time.
        """
        line = self._started()
        try:
            socket.send_fds(line, [kind.encode()], files)
            message = line.recv(1 << 16)
        except OSError as error:
            self.close()
            raise LaneError(f"the sandbox's process does not answer: {error}") from None
        if not message:
            self.close()
            raise LaneError("the sandbox's process died")
        return Report(**json.loads(message))

    def close(self) -> None:
        """End the process and all that runs under it."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._base:
            shutil.rmtree(self._base, ignore_errors=True)
        self._line, self._process, self._base = None, None, ""

    def _started(self) -> socket.socket:
        if self._line is not None:
            return self._line
        self._base = tempfile.mkdtemp(prefix="isoflop-sandbox-")
        Path(self._base).chmod(0o711)
        for name in ("root", "box"):
            Path(self._base, name).mkdir(mode=0o700)
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        room = Path(__file__).parent
        words = [sys.executable, "-S", "-s", "-P", "-c", _BOOT, str(theirs.fileno()), str(room.parent), str(room)]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    words,
                    pass_fds=[theirs.fileno()],
                    env=self._environment(),
                    cwd="/",
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            setup = {
                "employer": os.getpid(),
                "limits": asdict(self.limits),
                "base": self._base,
                "packages": list(self._packages),
                "seat": self._seat,
                "path": [str(Path(entry).absolute()) for entry in sys.path if entry] if self._packages else [],
            }
            self._line.settimeout(_START_S)
            self._line.send(json.dumps(setup).encode())
            message = self._line.recv(1 << 16)
        except OSError as error:
            self.close()
            raise LaneError(f"the sandbox's process cannot be started: {error}") from None
        answer = json.loads(message or '{"error": "it died"}')
        if "error" in answer:
            self.close()
            raise LaneError(f"the sandbox's process cannot be set up: {answer['error']}")
        self._isolation = Isolation(tuple(answer["active"]), answer["missing"])
        # Its patience with the program and with the tests after it; it ends them itself, so this is for a bug in it.
        self._line.settimeout(_START_S + 2 * PATIENCE * self.limits.wall_s)
        return self._line

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's, who keeps secrets there; and the same hashes in every run, for the same verdicts."""
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        return kept | {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "MALLOC_ARENA_MAX": "2",
            "LD_BIND_NOW": "1",  # once, and not again in every fork
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
