import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isoflop.task.base import GraderError
from isoflop.task.worker import OverLimit, Worker

MODULE = """
import sys
import time
from builtins import *

def leave(code):
    sys.exit(code)

def sleep(seconds):
    time.sleep(seconds)

def write(text):
    print(text, flush=True)
"""


@pytest.fixture
def builtin(tmp_path: Path) -> Iterator[Worker]:
    module = tmp_path / "functions.py"
    module.write_text(MODULE)
    worker = Worker(module)
    yield worker
    worker.close()


def test_calls_a_function(builtin: Worker) -> None:
    assert builtin.call("max", 3, 7, cpu_s=5) == 7
    assert builtin.call("repr", "ü", cpu_s=5) == "'ü'"


def test_work_that_does_not_end_is_stopped_and_the_next_call_works(builtin: Worker) -> None:
    with pytest.raises(OverLimit, match=r"pow took more than 0.2 s of CPU time"):
        builtin.call("pow", 7, 7**12, cpu_s=0.2)  # one long multiplication: no signal handler would run
    assert builtin.call("max", 1, 2, cpu_s=5) == 2


def test_the_limit_is_on_cpu_time_not_on_waiting(builtin: Worker) -> None:
    assert builtin.call("sleep", 0.5, cpu_s=0.1) is None


def test_too_much_memory(builtin: Worker) -> None:
    with pytest.raises(OverLimit, match="2 GiB of memory"):
        builtin.call("bytearray", 3 << 30, cpu_s=5)
    assert builtin.call("max", 1, 2, cpu_s=5) == 2


def test_what_a_function_raises_is_the_graders_fault(builtin: Worker) -> None:
    with pytest.raises(GraderError, match="functions.max: TypeError"):
        builtin.call("max", 3, cpu_s=5)


def test_a_worker_that_was_killed_is_replaced(builtin: Worker) -> None:
    with pytest.raises(GraderError, match="broke"):
        builtin.call("leave", 3, cpu_s=5)
    assert builtin.call("max", 1, 2, cpu_s=5) == 2


def test_printing_does_not_look_like_an_answer(builtin: Worker) -> None:
    assert builtin.call("write", '["value", 1]', cpu_s=5) is None


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(GraderError, match="exit code 1"):
        Worker(Path("no_such_module.py")).call("f", cpu_s=5)


def test_any_thread_may_call(builtin: Worker) -> None:
    got: list[object] = []
    threads = [
        threading.Thread(target=lambda i=i: got.append((i, builtin.call("abs", -i, cpu_s=5)))) for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [(i, i) for i in range(20)]


def test_a_fork_does_not_share_the_pipe(builtin: Worker) -> None:
    assert builtin.call("max", 1, 2, cpu_s=5) == 2
    child = os.fork()
    if not child:
        right = builtin.call("max", 5, 6, cpu_s=5) == 6
        builtin.close()
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert builtin.call("max", 3, 4, cpu_s=5) == 4
