import os
import signal
import threading
from pathlib import Path

import pytest

from isoflop.sandbox import Asserts, Calls, Case, LaneError, Limits, Sandbox, Stdio, Verdict
from isoflop.sandbox.lane import Lane
from isoflop.sandbox.verdict import Report

INC = "def inc(x):\n    return x + 1\n"


def test_pass_fail_and_grader_error(sandbox: Sandbox) -> None:
    right = sandbox.run(INC, Asserts("assert inc(1) == 2"))
    assert (right.outcome, right.reason, right.passed, right.total, bool(right)) == ("pass", "", 1, 1, True)
    assert right.cpu_s > 0
    assert right.wall_s > 0
    assert right.peak_bytes > 1 << 20
    wrong = sandbox.run(INC, Asserts("assert inc(1) == 3"))
    assert (wrong.outcome, wrong.reason) == ("fail", "AssertionError, line 1 of the tests: assert inc(1) == 3")
    broken = sandbox.run(INC, Asserts("assert inc(1) == "))
    assert broken.outcome == "grader-error"
    assert broken.reason.startswith("the tests cannot be run: ")
    assert not broken


def test_calls_count_cases(sandbox: Sandbox) -> None:
    verdict = sandbox.run("def f(x): return x * x", Calls("f", (Case((2,), 4), Case((3,), 8), Case((4,), 16))))
    assert (verdict.outcome, verdict.passed, verdict.total) == ("fail", 1, 3)
    assert verdict.reason == "case 2: returned 9 instead of 8"
    with pytest.raises(ValueError, match="must be plain values"):
        sandbox.run(INC, Calls("inc", (Case((object(),), 1),)))


def test_scripts_by_what_they_print(sandbox: Sandbox) -> None:
    square = "print(int(input()) ** 2)"
    assert sandbox.run(square, Stdio((("3\n", "9"), ("4\n", "16\n\n")))).passed == 2
    verdict = sandbox.run(square, Stdio((("3\n", "9"), ("4\n", "17"), ("5\n", "25"))))
    assert (verdict.outcome, verdict.passed, verdict.total) == ("fail", 1, 3)
    assert verdict.reason == "case 2: printed something else than expected"
    assert sandbox.run("print(9)\nraise SystemExit(3)", Stdio((("", "9"),))).reason == "case 1: exit status 3"


def test_execute_keeps_what_a_script_prints(sandbox: Sandbox) -> None:
    done = sandbox.execute("import sys\nprint(sys.stdin.read()[::-1])\nprint('careful', file=sys.stderr)", "abc")
    assert (done.outcome, done.stdout, done.stderr) == ("pass", "cba\n", "careful\n")
    failed = sandbox.execute("print(1)\n1 / 0")
    assert (failed.outcome, failed.stdout) == ("fail", "1\n")
    assert failed.reason == "exit status 1 ZeroDivisionError: division by zero"
    assert sandbox.execute("import os, signal\nos.abort()").reason.startswith("killed by SIGABRT")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("while True: pass", "the program took more than 0.3 s of processor time"),
        ("import time\ntime.sleep(60)", "the program took more than 1 s"),
        ("x = 'x' * (200 << 20)", "MemoryError"),
        ("open('big', 'wb').write(bytes(17 << 20))", "File too large"),
        ("files = [open('a', 'w') for _ in range(40)]", "Too many open files"),
        (
            "import threading, time\nfor _ in range(9): threading.Thread(target=time.sleep, args=(60,)).start()",
            "can't start new thread",
        ),
        ("def f(): return f()\nf()", "RecursionError"),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
            "the program ended before the tests did, killed by",
        ),
    ],
)
def test_a_limit_is_a_failure_and_the_reason_says_which(strict: Sandbox, program: str, reason: str) -> None:
    verdict = strict.run(program, Asserts("assert True"))
    assert verdict.outcome == "fail"
    assert reason in verdict.reason
    assert strict.run(INC, Asserts("assert inc(1) == 2"))


def test_tests_have_limits_as_well(strict: Sandbox) -> None:
    verdict = strict.run(INC, Asserts("while True: pass"))
    assert (verdict.outcome, verdict.reason[:26]) == ("fail", "testing its answers took m")
    assert "in transit" in strict.run("def f(): return 'x' * (2 << 20)", Asserts("f()")).reason


def test_processor_time_of_what_a_program_starts_counts(strict: Sandbox) -> None:
    if not any(name.startswith("count of") for name in strict.isolation().active):
        pytest.skip("programs can start no process on this machine")
    program = "import os\nif os.fork() == 0:\n    while True: pass\nos.wait()"
    assert strict.run(program, Asserts("")).reason == "the program took more than 0.3 s of processor time"


def test_what_a_program_left_is_gone_for_the_next(sandbox: Sandbox) -> None:
    leave = "import os, math\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('x')\nos.chmod('a', 0)\nmath.pi = 3"
    assert sandbox.run(leave, Asserts(""))
    look = "import os, math\ndef f(): return os.listdir('.'), math.pi > 3.1"
    assert sandbox.run(look, Asserts("assert f() == ([], True)"))


def test_a_program_sees_nothing_of_its_surroundings(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOFLOP_API_KEY", "sk-secret")
    with Sandbox(workers=1) as fresh:  # its processes start after the key was set
        done = fresh.execute("import os\nprint(dict(os.environ))\nprint(os.listdir('/proc/self/fd'))")
        assert "secret" not in done.stdout
        if "own root directory" in fresh.isolation().active:
            here = Path(__file__)
            shown = fresh.execute(f"import os\nprint(os.path.exists({str(here)!r}), os.path.exists('/proc/1'))")
            assert shown.stdout == "False False\n"


def test_the_same_program_gets_the_same_numbers_again(sandbox: Sandbox) -> None:
    program = "import random\nprint(random.random(), hash('a'), list({'x', 'y', 'z'}))"
    assert len({sandbox.execute(program).stdout for _ in range(4)}) == 1


def test_many_at_once_in_order_from_many_threads() -> None:
    jobs = [(f"def f(): return {i % 3}", Asserts("assert f() == 1")) for i in range(30)]
    with Sandbox(workers=3) as sandbox:
        verdicts: list[list[Verdict]] = []
        threads = [threading.Thread(target=lambda: verdicts.append(sandbox.run_many(jobs))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for got in verdicts:
        assert [bool(verdict) for verdict in got] == [i % 3 == 1 for i in range(30)]


def test_a_worker_that_dies_is_replaced_and_the_program_run_again() -> None:
    others = workers()
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run(INC, Asserts("assert inc(1) == 2"))
        (worker,) = workers() - others
        os.kill(worker, signal.SIGKILL)
        assert sandbox.run(INC, Asserts("assert inc(1) == 2"))


def test_what_the_machine_cannot_do_is_the_third_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def die(_: Lane, kind: str, __: object) -> Report:
        tries.append(kind)
        raise LaneError("out of processes")

    monkeypatch.setattr(Lane, "run", die)
    with Sandbox(workers=1) as sandbox:
        verdict = sandbox.run(INC, Asserts("assert inc(1) == 2"))
        assert (verdict.outcome, verdict.reason) == ("grader-error", "out of processes")
        assert sandbox.execute("print(1)").outcome == "grader-error"
        monkeypatch.setattr(Lane, "run", lambda *_: Report(stopped="starved"))
        assert sandbox.run(INC, Asserts("")).outcome == "grader-error"
        monkeypatch.setattr(Lane, "run", lambda *_: Report(fault="the machine ran out of memory"))
        assert sandbox.run("print(1)", Stdio((("", "1"),))).outcome == "grader-error"
    assert tries == ["tests", "tests", "script", "script"]  # once more before giving up


def test_closing_ends_all_workers() -> None:
    others = workers()
    sandbox = Sandbox(workers=2)
    with sandbox._lane() as lane, sandbox._lane() as other:  # both are started
        assert lane.isolation() == other.isolation()
    assert len(workers() - others) == 2
    sandbox.close()
    assert workers() == others


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="workers=0 must be at least 1"):
        Sandbox(workers=0)
    with pytest.raises(ValueError, match="package 'nosuchpackage' is not installed"):
        Sandbox(packages=["nosuchpackage"])
    with pytest.raises(ValueError, match="cpu_s=0 must be a positive"):
        Limits(cpu_s=0)


def test_packages_that_programs_may_import() -> None:
    program = "import numpy as np\ndef f(n): return np.arange(n).sum()"
    with Sandbox(packages=["numpy"], workers=1) as sandbox:
        assert sandbox.run(program, Asserts("import numpy\nassert f(4) == numpy.int64(6) == 6"))
    with Sandbox(workers=1) as sandbox:
        assert "No module named 'numpy'" in sandbox.run(program, Asserts("f(4)")).reason


def workers() -> set[int]:
    tasks = Path("/proc/self/task")
    children = {pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()}
    return {int(pid) for pid in children if b"isoflop.sandbox.server" in Path(f"/proc/{pid}/cmdline").read_bytes()}
