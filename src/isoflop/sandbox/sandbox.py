"""The sandbox: programs in, verdicts out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from isoflop.sandbox.checks import Checks
from isoflop.sandbox.limits import Limits
from isoflop.sandbox.verdict import Execution, Verdict


@dataclass(frozen=True, slots=True)
class Isolation:
    """What holds a program in on this machine.

    Args:
        active: mechanisms in force.
        missing: mechanisms that are not, each with why.
    """

    active: tuple[str, ...]
    missing: dict[str, str]


class Sandbox:
    """Runs programs that nobody has read, each in a process of its own, and says whether they are right.

    Made once and used for many programs, from any number of threads; workers start on first use and are restarted when
    they die. Close it, or use it as a context.

    Args:
        limits: what each program may use.
        workers: programs run at the same time; the number of processors if not given.
        packages: third-party packages that programs and tests may import; the standard library is always there.

    >>> with Sandbox() as sandbox:  # doctest: +SKIP
    ...     sandbox.run("def inc(x): return x + 1", Calls("inc", (Case((1,), 2),))).outcome
    'pass'
    """

    def __init__(
        self, limits: Limits | None = None, workers: int | None = None, packages: tuple[str, ...] = ()
    ) -> None:
        self.limits, self.workers, self.packages = limits or Limits(), workers, packages

    def run(self, program: str, checks: Checks) -> Verdict:
        """Whether `program` (Python source) passes `checks`; blocks until there is a free worker and then a verdict."""
        raise NotImplementedError

    def run_many(self, jobs: Iterable[tuple[str, Checks]]) -> list[Verdict]:
        """The verdict of each pair of program and checks, in order; all workers at once."""
        raise NotImplementedError

    def execute(self, program: str, stdin: str = "") -> Execution:
        """Run `program` as a script and keep what it prints."""
        raise NotImplementedError

    def isolation(self) -> Isolation:
        """Which of the kernel's mechanisms are in force here."""
        raise NotImplementedError

    def close(self) -> None:
        """End all workers; the sandbox must not be used afterwards."""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
