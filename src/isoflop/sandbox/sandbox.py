"""The sandbox: programs in, verdicts out."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import random
import signal
import sys
import weakref
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from isoflop.sandbox import wire
from isoflop.sandbox.checks import Asserts, Calls, Checks, Stdio
from isoflop.sandbox.compare import same_print
from isoflop.sandbox.judge import ENDED
from isoflop.sandbox.lane import Isolation, Lane, LaneError
from isoflop.sandbox.limits import Limits
from isoflop.sandbox.verdict import Execution, Outcome, Report, Verdict

_STDERR_BYTES = 4000


class Sandbox:
    """Runs programs that nobody has read, each in a process of its own, and says whether they are right.

    Made once and used for many programs, from any number of threads; workers start when they are first needed and again
    when they die. Close it, or use it as a context.

    Args:
        limits: what each program may use.
        workers: programs run at the same time; the number of processors if not given.
        packages: third-party packages that programs and tests may import; the standard library is always there.

    Raises:
        ValueError: no workers, or a package that is not installed.
        OSError: this is not Linux.

    >>> from isoflop.sandbox import Calls, Case
    >>> with Sandbox(workers=1) as sandbox:
    ...     sandbox.run("def inc(x): return x + 1", Calls("inc", (Case((1,), 2),))).outcome
    'pass'
    """

    def __init__(self, limits: Limits | None = None, workers: int | None = None, packages: Sequence[str] = ()) -> None:
        if sys.platform != "linux":
            raise OSError(f"the sandbox needs Linux and this is {sys.platform}; grade code on a Linux machine")
        for name in packages:
            if importlib.util.find_spec(name) is None:
                raise ValueError(f"package {name!r} is not installed, so programs cannot import it")
        self.workers = len(os.sched_getaffinity(0)) if workers is None else workers
        if self.workers < 1:
            raise ValueError(f"workers={self.workers} must be at least 1")
        self.limits = limits or Limits()
        first_seat = random.randrange(1 << 16)  # sandboxes of many processes need not all crowd the first processor
        lanes = [Lane(self.limits, packages, first_seat + i) for i in range(self.workers)]
        self._free: queue.LifoQueue[Lane] = queue.LifoQueue()
        for lane in lanes:
            self._free.put(lane)
        self._end = weakref.finalize(self, _close, lanes)

    def run(self, program: str, checks: Checks) -> Verdict:
        """Whether `program` (Python source) passes `checks`; waits for a free worker and then for the verdict.

        Raises:
            ValueError: `checks` hold values that are not plain.
        """
        if isinstance(checks, Stdio):
            return self._run_cases(program, checks)
        with self._lane() as lane:
            return _judged(lane, program, checks)

    def run_many(self, jobs: Iterable[tuple[str, Checks]]) -> list[Verdict]:
        """The verdict of each pair of program and checks, in order, all workers at once."""
        with ThreadPoolExecutor(self.workers) as threads:
            return [future.result() for future in [threads.submit(self.run, *job) for job in jobs]]

    def execute(self, program: str, stdin: str = "") -> Execution:
        """Run `program` as a script and keep what it prints."""
        with self._lane() as lane:
            return _executed(lane, program, stdin)

    def isolation(self) -> Isolation:
        """Which mechanisms of the kernel are in force here.

        Raises:
            LaneError: no worker can be started here.
        """
        with self._lane() as lane:
            return lane.isolation()

    def close(self) -> None:
        """End all workers, and the programs that they are running."""
        self._end()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _lane(self) -> Generator[Lane]:
        lane = self._free.get()
        try:
            yield lane
        finally:
            self._free.put(lane)

    def _run_cases(self, program: str, checks: Stdio) -> Verdict:
        cpu_s, wall_s, peak_bytes = 0.0, 0.0, 0
        outcome: Outcome = "pass"
        reason, passed = "", 0
        for stdin, stdout in checks.cases:
            done = self.execute(program, stdin)
            cpu_s, wall_s, peak_bytes = cpu_s + done.cpu_s, wall_s + done.wall_s, max(peak_bytes, done.peak_bytes)
            outcome, reason = done.outcome, done.reason
            if outcome == "pass" and not same_print(done.stdout, stdout, checks.tolerance):
                outcome, reason = "fail", "printed something else than expected"
            if outcome != "pass":
                reason = f"case {passed + 1}: {reason}"
                break
            passed += 1
        return Verdict(outcome, reason, passed, len(checks.cases), cpu_s, wall_s, peak_bytes)


def _close(lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.close()


def _judged(lane: Lane, program: str, checks: Asserts | Calls) -> Verdict:
    if isinstance(checks, Asserts):
        total, words = 1, ("asserts", checks.code, checks.entry_point or "")
    else:
        cases = tuple((case.args, dict(case.kwargs), case.expected) for case in checks.cases)
        total, words = len(cases), ("calls", checks.function, cases, float(checks.tolerance))
    try:
        packed = wire.dumps(words)
    except wire.NotPlainError as error:
        raise ValueError(f"arguments and expected results of tests must be plain values: {error}") from None
    report, (ruling,) = _attempted(lane, "tests", (_encoded(program), packed), 1)
    outcome, reason = _of_the_processes(report, lane.limits)
    passed = 0
    if not reason:
        outcome, reason, passed = json.loads(ruling or '["fail", "the tests crashed on the program\'s answers", 0]')
        if reason == ENDED:
            reason = f"{ENDED}, {_ending(report.status)}"
    return Verdict(outcome, reason, passed, total, report.cpu_s, report.wall_s, report.peak_bytes)


def _executed(lane: Lane, program: str, stdin: str) -> Execution:
    report, (stdout, stderr) = _attempted(lane, "script", (_encoded(program), _encoded(stdin)), 2)
    errors = stderr[-_STDERR_BYTES:].decode(errors="replace")
    outcome, reason = _of_the_processes(report, lane.limits)
    if not reason and report.status:
        last_line = errors.rstrip().rpartition("\n")[2]
        outcome, reason = "fail", f"{_ending(report.status)} {last_line}".rstrip()
    printed = stdout.decode(errors="replace")
    return Execution(outcome, reason, printed, errors, report.cpu_s, report.wall_s, report.peak_bytes)


def _attempted(lane: Lane, kind: str, given: tuple[bytes, ...], blank: int) -> tuple[Report, list[bytes]]:
    """Run a program on the `given` files, once more if the machine was at fault; what was written to `blank` others."""
    report, written = _attempt(lane, kind, given, blank)
    return _attempt(lane, kind, given, blank) if report.fault else (report, written)


def _attempt(lane: Lane, kind: str, given: tuple[bytes, ...], blank: int) -> tuple[Report, list[bytes]]:
    files: list[int] = []
    try:
        for content in (*given, *[b""] * blank):
            files.append(os.memfd_create(kind))
            _write(files[-1], content)
        report = lane.run(kind, files)
        return report, [os.pread(file, os.fstat(file).st_size, 0) for file in files[len(given) :]]
    except (LaneError, OSError) as error:
        return Report(fault=str(error)), [b""] * blank
    finally:
        for file in files:
            os.close(file)


def _write(file: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(file, memoryview(content)[written:], written)  # leaves the place to read from at the start


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _of_the_processes(report: Report, limits: Limits) -> tuple[Outcome, str]:
    """What can be said without knowing what the tests say."""
    if report.fault:
        return "grader-error", report.fault
    if "starved" in (report.stopped, report.tests_stopped):
        return "grader-error", "the machine gave the program no processor for most of its time"
    for who, stopped in (("the program", report.stopped), ("testing its answers", report.tests_stopped)):
        if stopped == "cpu":
            return "fail", f"{who} took more than {limits.cpu_s:g} s of processor time"
        if stopped == "wall":
            return "fail", f"{who} took more than {limits.wall_s:g} s"
    return "pass", ""


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
