"""The process that programs are forked from: warm, and confined once for all of them.

It can do no more than they can, knows nothing of them, and in a process table of its own they can do nothing to it.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from isoflop.sandbox import candidate
from isoflop.sandbox.limits import Limits

SCRIPT, TESTED = b"script", b"tested"
"""Run a program as a script, given the files program, standard input, output and error; or for the tests at the other
end of a connection, given the files program and connection."""
END = b"end"


def serve(line: socket.socket, limits: Limits, finish: Callable[[], None]) -> int:
    """Start programs one after the other: answer with a pidfd, and when it is to end, with what the program used.

    Args:
        line: where requests come from.
        limits: what each program may use.
        finish: confines the process of each program as far as that has not been done here.
    """
    cpu_s = math.ceil(limits.cpu_s) + 1  # the server looks at the exact time; this holds for what programs start too
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    own_process_table = os.getpid() == 1  # then it ignores all signals of its programs but those that it handles
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    while True:
        message, fds, _, _ = socket.recv_fds(line, 16, 4)
        if not message:
            return 0
        pid = os.fork()
        if pid == 0:
            _live(message, fds, line.fileno(), limits.value_bytes, finish)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(line, [message], [pidfd])
        os.close(pidfd)
        if line.recv(16) != END:
            return 1
        if own_process_table:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all in the table but its first process, which this is
        _, status, used = os.wait4(pid, 0)
        with contextlib.suppress(ChildProcessError):
            while own_process_table:
                os.wait()
        status = os.waitstatus_to_exitcode(status)
        line.send(b"%d %.6f %d" % (status, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024))


def _live(message: bytes, fds: list[int], line_fd: int, most_bytes: int, finish: Callable[[], None]) -> NoReturn:
    # Whatever is touched for the first time after the fork costs each program a page fault.
    status = 1
    try:
        os.close(line_fd)
        finish()
        gc.enable()
        if message == SCRIPT:
            status = candidate.run_script(*fds)
        else:
            program, connection = fds
            candidate.serve(program, connection, most_bytes)
    finally:
        os._exit(status)
