"""Namespaces: a view of the system with no network, no other processes and only the files that Python needs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from isoflop.sandbox import kernel

DEVICES = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom"))
_APART = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWPID


def leave() -> bool:
    """Leave the network and the mount, IPC, name and process tables that all share; whether it took a user namespace.

    Children of this process are the first of a new process table; this process itself stays in the old one.

    Raises:
        OSError: the kernel does not let us.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        kernel.unshare(_APART)
    except PermissionError:
        kernel.unshare(_APART | kernel.CLONE_NEWUSER)
        for name, words in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path("/proc/self", name).write_text(words)
        return True
    return False


def new_root(root: Path, readable: Iterable[Path], box: Path, box_bytes: int) -> None:
    """Make `root`, an empty directory, the root of all files: `readable` (none below another) and an empty `box`.

    Raises:
        OSError: the kernel does not let us; some mounts may be left behind in this mount namespace.
    """
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", str(root), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for path in readable:
        _show(path, _below(root, path))
    for device in DEVICES:
        _show(device, _below(root, device), devices=True)
    new_box = _below(root, box)
    new_box.mkdir()
    limits = f"mode=700,size={box_bytes},nr_inodes=4096"
    kernel.mount("tmpfs", str(new_box), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, limits)
    if not (root / "tmp").exists():
        (root / "tmp").symlink_to(box)
    kernel.change_root(str(root))
    kernel.protect_mount("/", recursive=False)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _show(path: Path, at: Path, *, devices: bool = False) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        at.symlink_to(path.readlink())
        return
    if path.is_dir():
        at.mkdir(exist_ok=True)
    else:
        at.touch()
    kernel.mount(str(path), str(at), None, kernel.MS_BIND | kernel.MS_REC)
    kernel.protect_mount(str(at), devices=devices)
