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
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from isoflop.sandbox import candidate, kernel, wire
from isoflop.sandbox.confine import Confinement, Who
from isoflop.sandbox.judge import READY, rule
from isoflop.sandbox.judge import serve as serve_as_judge
from isoflop.sandbox.limits import PATIENCE, Limits
from isoflop.sandbox.nursery import END, SCRIPT, TESTED
from isoflop.sandbox.nursery import serve as serve_as_nursery
from isoflop.sandbox.verdict import Report

# What programs import most is warm in every fork; what they seldom do would only make every fork dearer.
_COMMON = "bisect copy dataclasses functools heapq io itertools json math operator random re string types typing"
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
_LOOK_BACK_S = 0.5


@dataclass
class _Helper:
    """A process that does its part for many programs.

    Args:
        pid: its number in this process's table.
        pidfd: refers to it.
        line: the connection to it.
        processor: the one that it is kept on.
    """

    pid: int
    pidfd: int
    line: socket.socket
    processor: int | None = None

    def cpu_s(self) -> float:
        """Processor time that it has used, that of its children not included (seconds)."""
        return time.clock_gettime(((~self.pid) << 3) | 2)  # see clock_getcpuclockid(3)


class Desk:
    """The one processor that this process and all it starts take turns on; moves when it is crowded.

    Waking somebody on another processor costs several times what is done then. But left alone, the kernel may put two
    lanes, of which each never has more than one process at work, on one processor, and have another idle.

    Args:
        seat: lanes with numbers that follow each other start on different processors.
    """

    def __init__(self, seat: int) -> None:
        self._all = sorted(os.sched_getaffinity(0))
        self._worked_s, self._elapsed_s = 0.0, 0.0
        self._take(self._all[seat % len(self._all)])

    def look_back(self, worked_s: float, elapsed_s: float) -> None:
        """Move to another processor if this one's was had for less than two thirds of the time.

        Args:
            worked_s: processor time that was had for a program (seconds).
            elapsed_s: how long that took (seconds).
        """
        self._worked_s += max(0.0, worked_s)  # a helper that was replaced took its clock with it
        self._elapsed_s += elapsed_s
        if self._elapsed_s < _LOOK_BACK_S:
            return
        if self._worked_s < self._elapsed_s * 2 / 3:
            self._take(
                random.choice(self._all)
            )  # maybe the same: or all that crowd one would move on to crowd the next
        self._worked_s, self._elapsed_s = 0.0, 0.0

    def _take(self, processor: int) -> None:
        self.processor = processor
        os.sched_setaffinity(0, {processor})


class Server:
    """Serves one lane, one program at a time.

    Args:
        line: the connection to the lane; when it is hung up, this ends.
        watched: a pidfd of the lane's process (when that is gone, this ends too), and a descriptor of /proc.
        confinement: what the children put on.
        limits: what each program may use.
        desk: where all of them are at work.
    """

    def __init__(
        self, line: socket.socket, watched: tuple[int, int], confinement: Confinement, limits: Limits, desk: Desk
    ) -> None:
        self._line, (self._employer, self._proc) = line, watched
        self._confinement, self._limits, self._desk = confinement, limits, desk
        self._nursery: _Helper | None = None
        self._judge: _Helper | None = None
        self._memory_kills = self._count_memory_kills()

    def serve(self) -> None:
        """Answer requests until the lane hangs up.

        Raises:
            LeftAloneError: it hung up in the middle of one.
        """
        while True:
            self._ready([], None)
            message, fds, _, _ = socket.recv_fds(self._line, 16, 4)
            if not message:
                return
            report, start, before_s = Report(), time.monotonic(), self._used_s()
            try:
                self._run(report, message, fds)
            except (OSError, ValueError) as error:
                report.fault = f"the processes for a program cannot be had: {error}"
                self._nursery = self._dismiss(self._nursery)
                self._judge = self._dismiss(self._judge)
            finally:
                for fd in fds:
                    os.close(fd)
            if report.status == -signal.SIGKILL and not report.stopped and self._memory_ran_out():
                report.fault = "the machine ran out of memory"
            report.wall_s = time.monotonic() - start
            self._line.send(json.dumps(vars(report)).encode())
            self._desk.look_back(self._used_s() - before_s + report.cpu_s, report.wall_s)

    def _run(self, report: Report, message: bytes, fds: list[int]) -> None:
        nursery = self._nursery = self._nursery or self._start(
            "nursery", partial(serve_as_nursery, finish=self._confinement.finish)
        )
        self._gather(nursery)
        if message == SCRIPT:
            with self._born(nursery, SCRIPT, fds) as tested:
                self._watch(report, tested, None)
        else:
            program, checks, ruling = fds
            judge = self._judge = self._judge or self._start("judge", serve_as_judge)
            self._gather(judge)
            near, far = socket.socketpair()
            with self._born(nursery, TESTED, [program, far.fileno()]) as tested:
                far.close()
                with near:
                    socket.send_fds(judge.line, [b"rule"], [checks, ruling, near.fileno()])
                self._watch(report, tested, judge)
            if report.tests_stopped or judge.line.recv(16) != READY:
                self._judge = self._dismiss(judge)
        nursery.line.send(END)
        status, cpu_s, peak_bytes = _answer(nursery).split()
        report.status, report.peak_bytes = int(status), int(peak_bytes)
        report.cpu_s = max(report.cpu_s, float(cpu_s))
        if not self._confinement.own_process_table:
            self._nursery = self._dismiss(nursery)
            self._end_orphans()
        elif nursery.cpu_s() > self._limits.cpu_s / 2:  # the limit that its programs inherit holds for it as well
            self._nursery = self._dismiss(nursery)
        _clear(self._confinement.box)

    def _used_s(self) -> float:
        """Processor time of this process and its helpers since they were started (seconds)."""
        return time.process_time() + sum(helper.cpu_s() for helper in (self._nursery, self._judge) if helper)

    def _gather(self, helper: _Helper) -> None:
        """Bring a helper, and what it starts, to the processor that this process is on."""
        if helper.processor != self._desk.processor:
            os.sched_setaffinity(helper.pid, {self._desk.processor})
            helper.processor = self._desk.processor

    def _start(self, who: Who, serve: Callable[[socket.socket, Limits], int]) -> _Helper:
        """A confined helper, with nothing open but a line to this process."""
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._confinement.new_process_table()
            pid = os.fork()
            if pid == 0:
                self._help(who, serve, theirs)
        helper = _Helper(pid, os.pidfd_open(pid), line)
        if (answer := _answer(helper)) != READY:
            self._dismiss(helper)
            raise OSError(answer.decode())
        return helper

    def _help(self, who: Who, serve: Callable[[socket.socket, Limits], int], line: socket.socket) -> NoReturn:
        """The life of a helper."""
        status = 1
        try:
            self._confinement.put_on(who)
            os.closerange(3, line.fileno())
            os.closerange(line.fileno() + 1, _DESCRIPTORS)
            random.seed(0)
            kernel.tidy_heap()
            line.send(READY)
            status = serve(line, self._limits)
        except BaseException as error:
            line.send(f"a process of the sandbox failed: {type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)

    @contextlib.contextmanager
    def _born(self, nursery: _Helper, message: bytes, fds: list[int]) -> Generator[int]:
        """A pidfd of the process of a new program."""
        socket.send_fds(nursery.line, [message], fds)
        answer, pidfds, _, _ = socket.recv_fds(nursery.line, 1024, 1)
        if not pidfds:
            raise OSError(answer.decode() or "the process that starts programs died")
        try:
            yield pidfds[0]
            signal.pidfd_send_signal(pidfds[0], signal.SIGKILL)
        finally:
            os.close(pidfds[0])

    def _dismiss(self, helper: _Helper | None) -> None:
        if helper is not None:
            os.kill(helper.pid, signal.SIGKILL)
            os.waitpid(helper.pid, 0)
            os.close(helper.pidfd)
            helper.line.close()

    def _watch(self, report: Report, tested: int, judge: _Helper | None) -> None:
        """Wait for the tests to be done, or the program behind the pidfd `tested` if there are none, and for limits."""
        start = time.monotonic()
        awaited = tested if judge is None else judge.line.fileno()
        judges = [] if judge is None else [self._pid(judge.pidfd)]
        judge_cpu_s = 0.0 if judge is None else judge.cpu_s()
        judge_queued_s, ended_s = math.nan, math.nan
        left_s = self._limits.cpu_s
        while True:
            ended = not math.isnan(ended_s)
            ready = self._ready([awaited] if ended else [awaited, tested], min(_GLANCE_S, max(0.001, left_s)))
            if self._line.fileno() in ready:
                raise LeftAloneError
            if awaited in ready:
                return
            elapsed_s, left_s = time.monotonic() - start, self._limits.cpu_s
            if math.isnan(judge_queued_s):  # it has waited for many programs
                judge_queued_s = self._queued_s(judges)
            queued_s = self._queued_s(judges) - judge_queued_s
            if not ended:
                family = self._family(tested)
                report.cpu_s = self._cpu_s(family)
                left_s -= report.cpu_s
                # Program and tests take turns: what the one waits for a processor, the other waits for the one.
                queued_s += self._queued_s(family)
                report.stopped = "" if tested in ready else self._over(report.cpu_s, elapsed_s, queued_s)
                if tested in ready or report.stopped:
                    signal.pidfd_send_signal(tested, signal.SIGKILL)
                    ended_s, judge_queued_s = elapsed_s, math.nan
            if judge is not None:
                used_s = judge.cpu_s() - judge_cpu_s
                left_s = min(left_s, self._limits.cpu_s - used_s)
                since_s = elapsed_s - ended_s if ended else 0.0
                report.tests_stopped = self._over(used_s, since_s, queued_s)
                if report.tests_stopped:
                    return

    def _over(self, cpu_s: float, elapsed_s: float, queued_s: float) -> str:
        """The limit, if any, that is passed by so much processor time, elapsed time, and waiting for a processor."""
        if cpu_s > self._limits.cpu_s:
            return "cpu"
        if elapsed_s - queued_s > self._limits.wall_s:
            return "wall"
        return "starved" if elapsed_s > PATIENCE * self._limits.wall_s else ""

    def _ready(self, fds: list[int], timeout_s: float | None) -> set[int]:
        """Those of `fds`, and of the line, that have something to say."""
        poll = select.poll()
        for fd in (self._line.fileno(), self._employer, *fds):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if timeout_s is None else math.ceil(timeout_s * 1000))}
        if self._employer in ready:
            raise LeftAloneError
        return ready

    def _family(self, tested: int) -> list[str]:
        """A program's process, all that it has started, and what that has."""
        nursery = [] if self._nursery is None else self._children(self._pid(self._nursery.pidfd))
        pids = [*{self._pid(tested), *nursery}]
        for pid in pids:
            pids += [child for child in self._children(pid) if child not in pids]
        return pids

    def _cpu_s(self, pids: list[str]) -> float:
        """Processor time of processes, with that of their children which have ended (seconds)."""
        # After the name, which can hold anything: state is the first word, the times are the 12th to the 15th.
        times = [self._read_proc(f"{pid}/stat").rpartition(")")[2].split()[11:15] for pid in pids]
        return sum(int(word) for words in times for word in words) / os.sysconf("SC_CLK_TCK")

    def _queued_s(self, pids: list[str]) -> float:
        """How long the threads of processes have waited for a processor, as the kernel tells it (seconds)."""
        stats = [self._read_proc(f"{pid}/task/{t}/schedstat").split() for pid in pids for t in self._threads(pid)]
        return sum(int(words[1]) for words in stats if words) / 1e9

    def _children(self, pid: str) -> list[str]:
        return [c for t in self._threads(pid) for c in self._read_proc(f"{pid}/task/{t}/children").split()]

    def _threads(self, pid: str) -> list[str]:
        try:
            threads = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._proc)
        except OSError:
            return []
        try:
            return os.listdir(threads)  # noqa: PTH208 - it has no path here
        finally:
            os.close(threads)

    def _pid(self, pidfd: int) -> str:
        """The number of a process in /proc, which is not that in the table of this process."""
        _, _, rest = self._read_proc(f"self/fdinfo/{pidfd}").partition("\nPid:")
        return rest.partition("\n")[0].strip()

    def _memory_ran_out(self) -> bool:
        """Whether the kernel has killed a process for want of memory since this was asked last."""
        before, self._memory_kills = self._memory_kills, self._count_memory_kills()
        return self._memory_kills > before

    def _count_memory_kills(self) -> int:
        words = self._read_proc("vmstat").split()
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0

    def _read_proc(self, name: str) -> str:
        """A file below /proc; empty if it is not there, be it that the process is gone or that this kernel has none."""
        try:
            with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=self._proc)) as file:
                return file.read()
        except OSError:
            return ""

    def _end_orphans(self) -> None:
        # All that a program started becomes our child when its parent ends, since we are a "subreaper".
        kept = None if self._judge is None else self._judge.pid
        while orphans := [pid for pid in map(int, self._children("self")) if pid != kept]:
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
            for pid in orphans:
                os.waitpid(pid, 0)


class LeftAloneError(Exception):
    """Nobody is left to report to."""


def _answer(helper: _Helper) -> bytes:
    answer = helper.line.recv(1024)
    if not answer:
        raise OSError("a process of the sandbox died")
    return answer


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
    for name in (*_COMMON.split(), *setup["packages"]):
        importlib.import_module(name)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, most))
    confinement = Confinement(Path(setup["base"]), limits)
    confinement.leave()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    confinement.settle(_readable(map(Path, setup["path"])))
    os.environ.update(HOME=str(confinement.box), TMPDIR=str(confinement.box))
    sys.argv = ["program.py"]
    server = Server(line, (employer, proc), confinement, limits, Desk(setup["seat"]))
    _warm_up(limits)
    gc.disable()
    gc.collect()
    gc.freeze()  # forks share what is not touched
    kernel.tidy_heap()
    return server, confinement


def _warm_up(limits: Limits) -> None:
    """Go through a small program and its tests in this process, where nothing is at stake.

    A fork then finds the code specialised and the memory laid out that it will use: it takes half as many page faults.
    """
    checks = ("asserts", _SMALL_TESTS, "f")
    asked = [("get", 0, ("f",)), *(("call", 1, ([n, "a"],)) for n in range(3))]
    requests = [
        wire.request(operation, handle, wire.dumps((args, dict[str, object]()))) for operation, handle, args in asked
    ]
    for _ in range(_WARM_UPS):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps apart what is sent ahead
        with near, far:
            for request in (*requests, b"no more"):
                wire.write_frame(near.fileno(), request)
            program = os.memfd_create("program")
            os.pwrite(program, _SMALL_PROGRAM, 0)
            with contextlib.suppress(struct.error):
                candidate.serve(program, far.fileno(), limits.value_bytes)
            outcome, reason, _ = rule(checks, near.fileno(), limits.value_bytes)  # the answers are there already
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
