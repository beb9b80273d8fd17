"""What came of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "grader-error"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a program is right, and why not.

    Args:
        outcome: `fail` is the program's fault; `grader-error` is not, so it must not count as a wrong answer: the
            machine was out of processes or memory, gave the program no processor for long, or the tests themselves
            cannot be run.
        reason: in words, empty for a pass.
        passed: cases passed (count; `Asserts` is one case).
        total: cases there are (count).
        cpu_s: processor time of the program (seconds).
        wall_s: elapsed time, queueing for a worker not included (seconds).
        peak_bytes: resident memory of the program at its worst moment (bytes).
    """

    outcome: Outcome
    reason: str = ""
    passed: int = 0
    total: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0

    def __bool__(self) -> bool:
        return self.outcome == "pass"


@dataclass(frozen=True, slots=True)
class Execution:
    """What a program did that was run as a script.

    Args:
        outcome: `pass` if it ran to its end with exit status 0.
        reason: in words, empty for a pass.
        stdout: what it printed, at most `Limits.file_bytes`; undecodable bytes are replaced.
        stderr: the end of what it wrote there (traceback).
        cpu_s: processor time (seconds).
        wall_s: elapsed time (seconds).
        peak_bytes: resident memory at its worst moment (bytes).
    """

    outcome: Outcome
    reason: str = ""
    stdout: str = ""
    stderr: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0


@dataclass
class Report:
    """What became of the processes of one program.

    Args:
        stopped: the limit for which the program was ended, if it was: `cpu`, `wall` or `starved`.
        tests_stopped: the same of the tests.
        status: the program's exit status, negative for a signal that ended it.
        cpu_s: processor time of the program (seconds).
        wall_s: elapsed time (seconds).
        peak_bytes: resident memory of the program at its worst moment (bytes).
        fault: what the machine could not do.
    """

    stopped: str = ""
    tests_stopped: str = ""
    status: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0
    fault: str = ""
