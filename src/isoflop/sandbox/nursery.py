"""The process that programs are forked from: warm, and confined once for all of them.

It can do no more than they can, knows nothing of them, and in a process table of its own they can do nothing to it.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
from typing import NoReturn

from isoflop.sandbox import candidate, kernel
from isoflop.sandbox.limits import Limits

SCRIPT, TESTED = b"script", b"tested"
"""Run a program as a script on the files program, standard input, output and error; or for the tests at the other end of
a connection, on the files program and connection."""
END = b"end"


def serve(line: socket.socket, limits: Limits) -> int:
    """Start programs one after the other: answer with a pidfd, and when told to end it, with what the program used."""
    while True:
        message, fds, _, _ = socket.recv_fds(line, 16, 4)
        if not message:
            return 0
        pid = os.fork()
        if pid == 0:
            _live(message, fds, line, limits)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(line, [message], [pidfd])
        os.close(pidfd)
        if line.recv(16) != END:
            return 1
        os.kill(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        if os.getpid() == 1:
            _end_all_others()
        answer = (os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
        line.send(json.dumps(answer).encode())


def _live(message: bytes, fds: list[int], line: socket.socket, limits: Limits) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        line.close()
        cpu_s = math.ceil(limits.cpu_s) + 1  # the server looks at the exact time; this holds for children as well
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        if os.getppid() != 1:
            kernel.die_with_parent()  # the end of the first process of a table is the end of all in it anyway
        source = os.pread(fds[0], os.fstat(fds[0]).st_size, 0)
        os.close(fds[0])
        if message == SCRIPT:
            for number, fd in enumerate(fds[1:]):
                os.dup2(fd, number)
                os.close(fd)
            status = candidate.run_script(source)
        else:
            candidate.serve(source, fds[1], limits.value_bytes)
    finally:
        os._exit(status)


def _end_all_others() -> None:
    """End all that the program started: the first process of a table may signal all others in it at once."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.wait()
    except (ProcessLookupError, ChildProcessError):
        return
