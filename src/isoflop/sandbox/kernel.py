"""The Linux system calls that Python does not wrap."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
CLONE_NEWCGROUP, CLONE_NEWTIME = 0x02000000, 0x80
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38
_SYS_MOUNT_SETATTR = 442  # this one and landlock's have the same number on every architecture
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000

# Looked up once, and what they take made once: a fork that is the first to use something pays for it every time.
_libc = ctypes.CDLL(None, use_errno=True)
_syscall, _prctl, _capset = _libc.syscall, _libc.prctl, _libc.capset
_ZERO = ctypes.c_ulong(0)
_ALL_OF_THIS_PROCESS = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capabilities in the kernel's version 3 of the call
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *args: object) -> int:
    """A system call by number; `what` names it in the error.

    Raises:
        OSError: it failed.
    """
    return _checked(_syscall(ctypes.c_long(number), *args), what)


def prctl(option: int, value: int = 0, pointer: object = None) -> None:
    """Set an attribute of this process."""
    _checked(_prctl(option, ctypes.c_ulong(value), pointer or _ZERO, _ZERO, _ZERO), f"prctl {option}")


def die_with_parent() -> None:
    """Have this process killed when the one that forked it ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tidy_heap() -> None:
    """Have the C library sort its free memory now, which every fork would else do on its first large request."""
    with contextlib.suppress(AttributeError):  # a C library with another heap
        _libc.malloc_trim(ctypes.c_size_t(0))
        bytes(100_000)  # such a request


def processor() -> int:
    """The number of the processor that this process is on."""
    return _checked(_libc.sched_getcpu(), "sched_getcpu")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int) -> None:
    """Enter the namespace that `fd` refers to."""
    _checked(_libc.setns(fd, 0), "setns")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str = "") -> None:
    """Mount `source` on `target`."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    _checked(_libc.mount(*words[:3], ctypes.c_ulong(flags), words[3]), f"mount {target}")


def protect_mount(target: str, *, devices: bool = False, recursive: bool = True) -> None:
    """Make the mount at `target` read-only, without set-user-id programs and (unless `devices`) without devices."""
    read_only, nosuid, nodev = 1, 2, 4
    attributes = (ctypes.c_uint64 * 4)(nosuid if devices else read_only | nosuid | nodev, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    path = ctypes.c_char_p(os.fsencode(target))
    syscall(
        f"mount_setattr {target}", _SYS_MOUNT_SETATTR, _AT_FDCWD, path, flags, attributes, ctypes.sizeof(attributes)
    )


def change_root(root: str) -> None:
    """Make `root`, a mount, the root of this mount namespace and let go of the old one."""
    os.chdir(root)
    here = ctypes.c_char_p(b".")
    syscall("pivot_root", _SYS_PIVOT_ROOT[os.uname().machine], here, here)
    _checked(_libc.umount2(b".", MNT_DETACH), "umount the old root")
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every capability, for good together with no_new_privs."""
    _checked(_capset(_ALL_OF_THIS_PROCESS, _NO_CAPABILITIES), "capset")
