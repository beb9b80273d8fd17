"""Landlock: what part of the file system a process may touch, enforced without any privilege."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from isoflop.sandbox.kernel import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # bits of file-system rights by ABI version


def version() -> int:
    """The kernel's landlock ABI.

    Raises:
        OSError: it has none, or it is switched off.
    """
    return syscall("landlock", _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))


def ruleset(readable: Iterable[Path], writable: Iterable[Path]) -> int:
    """A file descriptor of rules for `restrict`: read below `readable`, everything below `writable`, no TCP.

    Where the ABI knows it (6), a restricted process can also not signal one outside of its rules, nor connect to
    an abstract socket there.

    Raises:
        OSError: no landlock here, or a path does not exist.
    """
    abi = version()
    every_right = (1 << _RIGHTS[min(abi, 5)]) - 1
    attributes = (ctypes.c_uint64 * 3)(every_right, 3, 3)  # files; TCP bind and connect; abstract sockets and signals
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    rules = syscall("landlock_create_ruleset", _CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    for paths, rights in ((readable, _READ), (writable, every_right & ~_EXECUTE)):
        for path in paths:
            _allow(rules, path, rights)
    return rules


def restrict(rules: int) -> None:
    """Hold this process and its children to `rules`; needs no_new_privs."""
    syscall("landlock_restrict_self", _RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))


def _allow(rules: int, path: Path, rights: int) -> None:
    below = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not path.is_dir():
            rights &= _ON_FILES
        rule = rights.to_bytes(8, "little") + below.to_bytes(4, "little")
        syscall("landlock_add_rule", _ADD_RULE, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint(0))
    finally:
        os.close(below)
