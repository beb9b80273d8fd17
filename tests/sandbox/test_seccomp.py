"""Filters are put on by a process of its own: there is no way to take one off."""

import subprocess
import sys

import pytest

_TRY = """
import os, socket, sys
from isoflop.sandbox import kernel, seccomp
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.Filter(**eval(sys.argv[1])).restrict()
def refused(act):
    try:
        act()
    except OSError as error:
        return error.strerror.rpartition(": ")[2]
    return ""
for word in sys.argv[2:]:
    print(refused(eval(word)))
"""


NO, FINE = "Operation not permitted", ""


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        (
            {},
            {
                "socket.socket()": NO,
                "socket.socketpair()": FINE,
                "os.sched_setaffinity(0, os.sched_getaffinity(0))": NO,
                "kernel.unshare(kernel.CLONE_NEWNS)": NO,
                "kernel.prctl(kernel.PR_SET_PDEATHSIG, 0)": NO,
                "kernel.die_with_parent()": FINE,
                "kernel.syscall('io_uring_setup', 425, 1, None)": "Function not implemented",
                "os.kill(os.getpid(), 0)": FINE,
            },
        ),
        ({"metadata": True}, {"os.chmod('/dev/null', 0o666)": NO, "open('/dev/null').close()": FINE}),
        ({"signals": True}, {"os.kill(os.getpid(), 0)": NO}),
        ({"forks": True}, {"os.fork()": NO, "__import__('threading').Thread(target=int).start()": FINE}),
    ],
)
def test_what_a_filter_refuses(options: dict[str, bool], answers: dict[str, str]) -> None:
    words = [sys.executable, "-c", _TRY, repr(options), *(f"lambda: {word}" for word in answers)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert dict(zip(answers, done.stdout.split("\n"))) == answers
