"""All that holds a program in: found out and set up once by a lane, put on by the processes that it forks."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from isoflop.sandbox import kernel, landlock, namespaces, seccomp
from isoflop.sandbox.limits import Limits

Who = Literal["nursery", "judge"]
_BOX = Path("/box")
_FIRST_UID, _UIDS = 61184, 4336  # the range that systemd keeps for users made on the fly (its UIDS-GIDS.md)


class Confinement:
    """The mechanisms of the kernel that are in force, and why others are not.

    Used in this order by a lane: `leave`, `settle`; then `new_process_table`, fork and, in the child, `put_on`;
    and in what that forks for each program, `finish`.

    Args:
        base: a directory of the lane's own with the empty directories `root` and `box` in it.
        limits: what each program may use.
    """

    def __init__(self, base: Path, limits: Limits) -> None:
        self.active = ["own process group", "resource limits"]
        self.missing: dict[str, str] = {}
        self.box = base / "box"
        """The directory that the program may write in."""
        self._root, self._limits = base / "root", limits
        self._first_uid = _FIRST_UID + 2 * (os.getpid() % (_UIDS // 2))
        self._interpreter_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        self._user_namespace = False
        self._process_table: int | None = None
        self._uids: dict[Who, int] = {}
        self._rules: dict[Who, int] = {}
        self._filter: seccomp.Filter | None = None
        self._no_forks: seccomp.Filter | None = None

    @property
    def own_process_table(self) -> bool:
        """Whether each program has a process table of its own, so that its end is the end of all that it started."""
        return self._process_table is not None

    @property
    def _counted(self) -> bool:
        return bool(self._uids) or self._user_namespace

    def leave(self) -> None:
        """Leave the namespaces that all share; returns in a new process, the first of its process table.

        The old process stays behind to hand on the new one's exit status, and ends with it.
        """
        with self._trying("namespaces (network, mounts, IPC, names, processes)"):
            _rehearse(_leave_and_fork)  # there is no way back from half of it
            self._user_namespace = namespaces.leave()
            new = os.fork()
            if new:
                os.closerange(3, 256)
                os._exit(os.waitstatus_to_exitcode(os.waitpid(new, 0)[1]) & 0xFF)
            kernel.die_with_parent()
            self._process_table = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def settle(self, readable: list[Path]) -> None:
        """Set up all else; afterwards the old root may be gone.

        Args:
            readable: files and directories that programs may read.
        """
        shown = [path for path in readable if not any(parent in readable for parent in path.parents)]
        if self.own_process_table:
            with self._trying("own root directory"):
                namespaces.new_root(self._root, shown, _BOX, 4 * self._limits.file_bytes)
                self.box = _BOX
                shown = [Path("/")]
        with self._trying("own user"):
            self._take_users()
        with self._trying("landlock"):
            null = namespaces.DEVICES[0]
            shown += [path for path in namespaces.DEVICES if path.exists()]
            self._rules = {
                "nursery": landlock.ruleset(shown, [self.box, null]),
                "judge": landlock.ruleset(shown, [null]),
            }
        with self._trying("seccomp"):
            self._filter = seccomp.Filter(
                metadata=not self._uids and self.box != _BOX,
                signals=not self.own_process_table,
            )
        with self._trying("count of processes"):
            if not self._counted:
                self._no_forks = seccomp.Filter(forks=True)
                raise PermissionError("no user for each program to count for; instead, programs can start none")

    def new_process_table(self) -> None:
        """Have the next fork start a process table of its own, where the kernel allows it."""
        if self._process_table is not None:
            kernel.setns(self._process_table)
            kernel.unshare(kernel.CLONE_NEWPID)

    def put_on(self, who: Who) -> None:
        """Confine this process and all that it will start, for good.

        Raises:
            OSError: a mechanism that worked when it was tried does not now.
        """
        limits = self._limits
        os.setsid()
        if who in self._uids:
            os.setgroups([])
            os.setresgid(*[self._uids[who]] * 3)
            os.setresuid(*[self._uids[who]] * 3)
        elif self._user_namespace:
            kernel.unshare(kernel.CLONE_NEWUSER)  # the limit on processes counts from here
        kernel.drop_capabilities()
        for kind, most in (
            (resource.RLIMIT_AS, self._interpreter_bytes + limits.memory_bytes),
            (resource.RLIMIT_FSIZE, limits.file_bytes),
            (resource.RLIMIT_NOFILE, limits.open_files),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (most, most))
        if self._counted:
            most = limits.processes + 1  # one is this process
            resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        kernel.die_with_parent()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        os.chdir(self.box if who == "nursery" else "/")
        if who in self._rules:
            landlock.restrict(self._rules[who])
        if self._filter is not None:
            self._filter.restrict()

    def finish(self) -> None:
        """What is left to do in the process of each program, where no process table ends with it."""
        if not self.own_process_table:
            os.setpgid(0, 0)
            kernel.die_with_parent()
            if self._no_forks is not None:
                self._no_forks.restrict()

    def _take_users(self) -> None:
        if self._user_namespace:
            raise PermissionError("no privilege to change the user; a user namespace for each program instead")

        def read_as_another() -> None:
            os.setresuid(*[self._first_uid] * 3)
            Path(os.__file__).read_bytes()

        _rehearse(read_as_another)
        self._uids = {"nursery": self._first_uid, "judge": self._first_uid + 1}
        os.chown(self.box, *[self._first_uid] * 2)

    @contextmanager
    def _trying(self, mechanism: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            self.missing[mechanism] = str(error)
        else:
            self.active.append(mechanism)


def _leave_and_fork() -> None:
    namespaces.leave()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _rehearse(act: Callable[[], None]) -> None:
    """Do `act` in a process of its own, to see whether it can be done.

    Raises:
        OSError: it cannot.
    """
    child = os.fork()
    if child == 0:
        try:
            act()
        except OSError as error:
            os._exit(error.errno or errno.EPERM)
        os._exit(0)
    if failed := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(failed, os.strerror(failed))
