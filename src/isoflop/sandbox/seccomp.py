"""Seccomp: which system calls a process may make."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

from isoflop.sandbox import kernel

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# Name: number on x86_64, on aarch64 (None: not there).
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),  # socketpair stays: event loops need it and it reaches nobody
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "personality": (135, 92),
    "setpriority": (141, 140),  # what can slow down another process of the same user
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "shmget": (29, 194),  # what stays when all processes are gone
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
# What changes files that landlock lets one not even open; needed where the rest of the system is mounted writable.
_METADATA: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}
# What reaches other processes of the same user; needed where no process table of its own hides them.
_SIGNALS: dict[str, tuple[int | None, int | None]] = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
}
_FORKS: dict[str, tuple[int | None, int | None]] = {"fork": (57, None), "vfork": (58, None)}
# The C library falls back to older calls when told that these do not exist.
_ABSENT = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
_CLONE, _PRCTL, _PRLIMIT = (56, 220), (157, 167), (302, 261)
_CLONE_THREAD = 0x10000
_NEW_NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWCGROUP
)

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _NO_SUCH_CALL = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_Code = list[tuple[int, int, int, int]]
"""Instructions: operation, how many to skip if true, if false, operand."""


class Filter:
    """A compiled filter, put on with `restrict` by any number of processes.

    Args:
        metadata: also refuse to change modes, owners and times of files.
        signals: also refuse to send any signal.
        forks: refuse to start any process, but not a thread.

    Raises:
        OSError: the system calls of this machine's architecture are not known here.
    """

    def __init__(self, *, metadata: bool = False, signals: bool = False, forks: bool = False) -> None:
        machine = os.uname().machine
        if machine not in _ARCHITECTURES:
            raise OSError(errno.ENOSYS, f"no table of system calls for {machine}")
        architecture, column = _ARCHITECTURES[machine]
        rules: dict[int | None, _Code] = {numbers[column]: _answer(_NO_SUCH_CALL) for numbers in _ABSENT.values()}
        for table, used in ((_DENIED, True), (_METADATA, metadata), (_SIGNALS, signals), (_FORKS, forks)):
            rules |= {numbers[column]: _answer(_REFUSE) for numbers in table.values() if used}
        # A process may not make namespaces, set the limits of another, or outlive its parent.
        thread = [(_IF_ANY_BIT, 1, 0, _CLONE_THREAD), *_answer(_REFUSE)] if forks else []
        rules[_CLONE[column]] = [
            (_LOAD, 0, 0, _ARGUMENTS_AT),
            (_IF_ANY_BIT, 0, 1, _NEW_NAMESPACES),
            *_answer(_REFUSE),
            *thread,
        ]
        rules[_PRLIMIT[column]] = [(_LOAD, 0, 0, _ARGUMENTS_AT), (_IF_AT_LEAST, 0, 1, 1), *_answer(_REFUSE)]
        rules[_PRCTL[column]] = [
            (_LOAD, 0, 0, _ARGUMENTS_AT),
            (_IF_EQUAL, 0, 3, kernel.PR_SET_PDEATHSIG),
            (_LOAD, 0, 0, _ARGUMENTS_AT + 8),
            (_IF_EQUAL, 1, 0, signal.SIGKILL),
            *_answer(_REFUSE),
        ]
        code = [
            (_LOAD, 0, 0, _ARCHITECTURE_AT),
            (_IF_EQUAL, 1, 0, architecture),
            (_RETURN, 0, 0, _KILL),
            (_LOAD, 0, 0, _NUMBER_AT),
        ]
        if machine == "x86_64":
            code += [(_IF_AT_LEAST, 0, 1, 0x40000000), *_answer(_REFUSE)]  # the x32 calls, by other numbers
        code += _tree(sorted((number, rule) for number, rule in rules.items() if number is not None))
        self._code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
        self._program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(self._code)))

    def restrict(self) -> None:
        """Hold this process and its children to the filter; needs no_new_privs."""
        kernel.prctl(kernel.PR_SET_SECCOMP, 2, self._program)


def _answer(what: int) -> _Code:
    return [(_RETURN, 0, 0, what)]


def _tree(rules: list[tuple[int, _Code]]) -> _Code:
    """Code that finds the rule of a system call by halving: the kernel tries all of them when the filter is put on."""
    if len(rules) == 1:
        ((number, rule),) = rules
        return [(_IF_EQUAL, 0, len(rule), number), *rule, *_answer(_ALLOW)]
    half = len(rules) // 2
    below = _tree(rules[:half])
    return [(_IF_AT_LEAST, len(below), 0, rules[half][0]), *below, *_tree(rules[half:])]
