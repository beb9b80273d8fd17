"""The process behind a lane: warm, single-threaded, it forks a process or two for each program and watches them.

It never reads a program or its tests: those come as open files that it hands on to its children, so that nothing of
one program's run can be found in the memory of the next.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import mmap
import os
import random
import resource
import select
import signal
import site
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from isoflop.sandbox import candidate, judge, kernel, wire
from isoflop.sandbox.confine import Confinement, Who
from isoflop.sandbox.limits import Limits
from isoflop.sandbox.verdict import Report

_COMMON = (  # what programs import most: warm in every fork
    "bisect collections.abc copy dataclasses datetime decimal fractions functools hashlib heapq io itertools json "
    "math operator random re statistics string types typing"
).split()
_SYSTEM = tuple(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime")))
_SMALL_PROGRAM = b"""
import math
from typing import Dict, List, Optional, Tuple

class Pair:
    def __init__(self, a: int, b: int = 0) -> None:
        self.a, self.b = a, b

def f(values: List[int], table: Optional[Dict[str, int]] = None) -> Tuple[int, List[str]]:
    ''' As programs have it.
    >>> f([1])
    (1, ["1"])
    '''
    table = {str(v): i for i, v in enumerate(values) if v}
    pairs = sorted(((k, v) for k, v in table.items()), key=lambda p: (-p[1], p[0]), reverse=True)
    total, i = 0, 0
    while i < len(values):
        if i % 2 == 0 and pairs[-1][1] > 0 or not pairs:
            total += max(i, 1) ** 2 // 3
        elif "a" in table:
            total -= int(math.sqrt(i)) * 0
        else:
            break
        i += 1
    for k, _ in pairs:
        total += len(f"{k:>3}".strip().split(",")[0].replace("x", "").lower()) - len(k)
    return total * 0 + Pair(len(values)).a, [*table][:1] + list("ab")[1:][::-1]
"""
_SMALL_TESTS = """
METADATA = {"author": "x"}

def check(candidate):
    import math
    assert candidate([0, "a"]) == (2, ["a", "b"]), "This prints if this assert fails"
    assert candidate([1, "a"]) == (2, ["1", "b"])
    for value in [candidate([2, "a"])]:
        assert abs(value[0] - 2.0) < 1e-6 and tuple(value[1]) == ("2", "b") and True
"""
_WARM_UPS = 20
_DESCRIPTORS = 256
_GLANCE_S = 0.1
_PATIENCE = 10
"""Without a processor for this many times its allowance of elapsed time, a program is not to blame for being late."""


@dataclass(slots=True)
class _Child:
    pid: int
    pidfd: int
    cpu_before_s: float = 0.0

    def cpu_s(self) -> float:
        """Processor time of all its threads in this run, not of its children (seconds)."""
        return time.clock_gettime(((~self.pid) << 3) | 2) - self.cpu_before_s  # see clock_getcpuclockid(3)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


@dataclass(slots=True, kw_only=True)
class _Tests(_Child):
    line: socket.socket


class Server:
    """Serves one lane, one program at a time.

    Args:
        line: the connection to the lane; when it is hung up, this ends.
        employer: a pidfd of the process that the lane is in; when that is gone, this ends too.
        proc: a descriptor of /proc.
        confinement: what the children put on.
        limits: what each program may use.
    """

    def __init__(self, line: socket.socket, employer: int, proc: int, confinement: Confinement, limits: Limits) -> None:
        self._line, self._employer, self._proc = line, employer, proc
        self._confinement, self._limits = confinement, limits
        self._tests: _Tests | None = None
        self._complaint = mmap.mmap(-1, mmap.PAGESIZE)
        """Where a child says why it could not be confined, before it runs anybody's code."""
        self._memory_kills = self._count_memory_kills()

    def serve(self) -> None:
        """Answer requests until the lane hangs up.

        Raises:
            LeftAloneError: it hung up in the middle of one.
        """
        while True:
            self._ready([], None)
            message, fds, _, _ = socket.recv_fds(self._line, 64, 4)
            if not message:
                return
            report, start = Report(), time.monotonic()
            self._complaint[:] = bytes(len(self._complaint))
            try:
                if message == b"script":
                    self._run_script(report, *fds)
                else:
                    self._run_tests(report, *fds)
            except OSError as error:
                report.fault = f"no process could be started: {error}"
                self._drop_tests(report)
            finally:
                for fd in fds:
                    os.close(fd)
                self._tidy()
            report.wall_s = time.monotonic() - start
            report.fault = report.fault or bytes(self._complaint).rstrip(b"\0").decode(errors="replace")
            self._line.send(json.dumps(vars(report)).encode())

    def _run_script(self, report: Report, program: int, *streams: int) -> None:
        def run() -> int:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            return candidate.run_script(_read(program))

        tested = self._fork("candidate", run, [program, *streams])
        try:
            self._watch(report, tested, None)
        finally:
            self._end(tested, report)

    def _run_tests(self, report: Report, program: int, checks: int, ruling: int) -> None:
        tests = self._tests = self._tests or self._new_tests()
        near, far = socket.socketpair()

        def run() -> int:
            candidate.serve(_read(program), far.fileno(), self._limits.value_bytes)
            return 0

        with contextlib.ExitStack() as leaving:
            with near, far:
                tested = self._fork("candidate", run, [program, far.fileno()])
                leaving.callback(self._end, tested, report)
                tests.cpu_before_s += tests.cpu_s()
                socket.send_fds(tests.line, [b"rule"], [checks, ruling, near.fileno()])
            self._watch(report, tested, tests)
            if report.tests_stopped or tests.line.recv(16) != judge.READY:
                self._drop_tests(report)

    def _new_tests(self) -> _Tests:
        """The process that tests run in, one for many programs: it can keep what it likes, it meets none of them."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            child = self._fork("judge", lambda: judge.serve(theirs, self._limits.value_bytes), [theirs.fileno()])
        return _Tests(pid=child.pid, pidfd=child.pidfd, line=ours)

    def _drop_tests(self, report: Report) -> None:
        tests, self._tests = self._tests, None
        if tests is not None:
            tests.line.close()
            ended = Report()
            self._end(tests, ended)
            report.fault = report.fault or ended.fault

    def _fork(self, who: Who, act: Callable[[], int], fds: list[int]) -> _Child:
        """A confined process that does `act`, with `fds` and nothing else open."""
        self._confinement.new_process_table()
        pid = os.fork()
        if pid == 0:
            self._live(who, act, fds)
        return _Child(pid, os.pidfd_open(pid))

    def _live(self, who: Who, act: Callable[[], int], fds: list[int]) -> NoReturn:
        """The life of a child."""
        status = 1
        try:
            self._confinement.put_on(who)
            low = 3
            for fd in sorted(fds):
                os.closerange(low, fd)
                low = fd + 1
            os.closerange(low, _DESCRIPTORS)
        except BaseException as error:
            self._complaint.write(f"a process could not be confined: {error}".encode()[: len(self._complaint)])
            os._exit(1)
        try:
            self._complaint.close()
            gc.enable()
            random.seed(0)
            status = act()
        finally:
            os._exit(status)

    def _end(self, child: _Child, report: Report) -> None:
        """End a process, if it has not ended itself, and report what it used."""
        child.kill()
        _, status, used = os.wait4(child.pid, 0)
        os.close(child.pidfd)
        report.status = os.waitstatus_to_exitcode(status)
        report.cpu_s, report.peak_bytes = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
        if report.status == -signal.SIGKILL and not report.stopped and self._memory_ran_out():
            report.fault = "the machine ran out of memory"

    def _watch(self, report: Report, tested: _Child, tests: _Tests | None) -> None:
        """Wait for the tests to be done, or the program if there are none, and for limits."""
        start = time.monotonic()
        ended_s: float | None = None
        awaited = tested.pidfd if tests is None else tests.line.fileno()
        timeout_s = _GLANCE_S
        while True:
            ready = self._ready([awaited] if ended_s is not None else [awaited, tested.pidfd], timeout_s)
            if self._line.fileno() in ready:
                raise LeftAloneError
            if awaited in ready:
                return
            elapsed_s = time.monotonic() - start
            if ended_s is None:
                report.stopped = "" if tested.pidfd in ready else self._over(tested, elapsed_s)
                if tested.pidfd in ready or report.stopped:
                    tested.kill()
                    ended_s = elapsed_s
            if tests is not None:
                report.tests_stopped = self._over(tests, elapsed_s - (elapsed_s if ended_s is None else ended_s))
                if report.tests_stopped:
                    return
            used_s = max(child.cpu_s() for child in (tested, tests) if child is not None)
            timeout_s = min(_GLANCE_S, max(0.001, self._limits.cpu_s - used_s))

    def _over(self, child: _Child, elapsed_s: float) -> str:
        if child.cpu_s() > self._limits.cpu_s:
            return "cpu"
        if elapsed_s > self._limits.wall_s:
            if elapsed_s - self._queued_s(child) > self._limits.wall_s:
                return "wall"
            if elapsed_s > _PATIENCE * self._limits.wall_s:
                return "starved"
        return ""

    def _ready(self, fds: list[int], timeout_s: float | None) -> set[int]:
        """Those of `fds`, and of the line, that have something to say."""
        poll = select.poll()
        for fd in (self._line.fileno(), self._employer, *fds):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if timeout_s is None else math.ceil(timeout_s * 1000))}
        if self._employer in ready:
            raise LeftAloneError
        return ready

    def _queued_s(self, child: _Child) -> float:
        """How long the threads of a process have waited for a processor, as the kernel tells it (seconds)."""
        try:
            entry = self._read_proc(f"self/fdinfo/{child.pidfd}").split()
            pid = entry[entry.index("Pid:") + 1]  # as /proc counts it, which is not how we do
            threads = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._proc)
            try:
                return (
                    sum(int(self._read_proc(f"{pid}/task/{t}/schedstat").split()[1]) for t in os.listdir(threads)) / 1e9
                )
            finally:
                os.close(threads)
        except (OSError, ValueError, IndexError):
            return 0.0

    def _memory_ran_out(self) -> bool:
        """Whether the kernel has killed a process for want of memory since this was asked last."""
        before, self._memory_kills = self._memory_kills, self._count_memory_kills()
        return self._memory_kills > before

    def _count_memory_kills(self) -> int:
        words = self._read_proc("vmstat").split()
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0

    def _read_proc(self, name: str) -> str:
        return _read(os.open(name, os.O_RDONLY, dir_fd=self._proc)).decode()

    def _tidy(self) -> None:
        """End what the program left running where its process table does not, and clear its directory."""
        if not self._confinement.own_process_table:
            self._end_orphans()
        _clear(self._confinement.box)

    def _end_orphans(self) -> None:
        # All that a program started becomes our child when its parent ends, since we are a "subreaper".
        kept = None if self._tests is None else self._tests.pid
        while orphans := [pid for pid in map(int, self._children()) if pid != kept]:
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
            for pid in orphans:
                os.waitpid(pid, 0)

    def _children(self) -> list[str]:
        return self._read_proc(f"self/task/{os.getpid()}/children").split()


class LeftAloneError(Exception):
    """Nobody is left to report to."""


def _read(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


def _clear(box: Path) -> None:
    """Empty `box`, however deep and locked what a program made in it."""
    while names := os.listdir(box):  # noqa: PTH208 - it is nearly always empty, and this is asked after every program
        for entry in map(box.joinpath, names):
            if entry.is_symlink() or not entry.is_dir():
                entry.unlink()
                continue
            entry.chmod(0o700)
            for below in list(entry.iterdir()):  # up it goes: paths stay short, and nothing recurses
                if below.is_dir() and not below.is_symlink():
                    below.chmod(0o700)
                below.rename(box / os.urandom(16).hex())
            entry.rmdir()


def main(line_fd: int) -> None:
    """Set up as the lane says, say how that went, and serve.

    The first message names the employer's process, the limits, a directory to work in, and the packages to have ready.
    """
    line = socket.socket(fileno=line_fd)
    try:
        setup = json.loads(line.recv(1 << 16))
        server, confinement = _set_up(line, setup)
    except Exception as error:
        line.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    line.send(json.dumps({"active": confinement.active, "missing": confinement.missing}).encode())
    with contextlib.suppress(LeftAloneError):
        server.serve()


def _set_up(line: socket.socket, setup: dict[str, Any]) -> tuple[Server, Confinement]:
    limits = Limits(**setup["limits"])
    employer = os.pidfd_open(setup["employer"])
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    site.setquit()
    sys.path += [entry for entry in setup["path"] if entry not in sys.path]
    for name in (*_COMMON, *setup["packages"]):
        importlib.import_module(name)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, most))
    confinement = Confinement(Path(setup["base"]), limits)
    confinement.leave()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    confinement.settle(_readable(map(Path, setup["path"])))
    os.environ.update(HOME=str(confinement.box), TMPDIR=str(confinement.box))
    sys.argv = ["program.py"]
    server = Server(line, employer, proc, confinement, limits)
    _warm_up(limits)
    gc.disable()
    gc.collect()
    gc.freeze()  # forks share what is not touched
    return server, confinement


def _warm_up(limits: Limits) -> None:
    """Go through a small program and its tests in this process, where nothing is at stake.

    A fork then finds the code specialised and the memory laid out that it will use: it takes half as many page faults.
    """
    checks = wire.dumps(("asserts", _SMALL_TESTS, "f"))
    requests = [wire.request("get", 0, wire.dumps((("f",), {})))]
    requests += [wire.request("call", 1, wire.dumps((([n, "a"],), {}))) for n in range(3)]
    for _ in range(_WARM_UPS):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps apart what is sent ahead
        with near, far:
            for request in (*requests, b"no more"):
                wire.write_frame(near.fileno(), request)
            with contextlib.suppress(struct.error):
                candidate.serve(_SMALL_PROGRAM, far.fileno(), limits.value_bytes)
            outcome, reason, _ = judge.rule(checks, near.fileno(), limits.value_bytes)  # the answers are there already
            if outcome != "pass":
                raise RuntimeError(f"the sandbox's own test fails: {reason}")
    del sys.modules["program"]


def _readable(search: Iterable[Path]) -> list[Path]:
    """What programs may read: the system's libraries, Python's own, and below `search` the packages loaded by now."""
    library = Path(os.__file__).parent
    paths = [path for path in _SYSTEM if path.exists()]
    paths += [path for path in library.iterdir() if path.name not in ("site-packages", "dist-packages")]
    files = [Path(file) for module in sys.modules.values() if (file := getattr(module, "__file__", None))]
    for place in search:
        loaded = {file.relative_to(place).parts[0] for file in files if file.is_relative_to(place)}
        paths += [path for name in loaded for path in (place / name, place / f"{name}.libs") if path.exists()]
    return paths
