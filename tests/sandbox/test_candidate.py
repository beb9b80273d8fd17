import pytest

from isoflop.sandbox import Sandbox


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ("import sys\nsys.exit()", ""),
        ("import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()", "late\n"),
        ("import atexit\natexit.register(print, 'last')\nprint('first')", "first\nlast\n"),
        ("if __name__ == '__main__':\n    print(input() + input())", "ab\n"),
        ("import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\nprint(A())", "A(x=1)\n"),
        ("import sys\nsys.stdout.write('no end of line')", "no end of line"),
        ("import sys\nsys.stdout.buffer.write(b'\\xff')", "\ufffd"),
    ],
)
def test_a_script_runs_to_its_end(sandbox: Sandbox, script: str, printed: str) -> None:
    done = sandbox.execute(script, "a\nb\n")
    assert (done.outcome, done.stdout, done.reason) == ("pass", printed, "")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys\nsys.exit(3)", "exit status 3"),
        ("import sys\nsys.exit('no more')", "exit status 1 no more"),
        ("x = = 1", "exit status 1 SyntaxError: invalid syntax"),
        ("import os\nos._exit(7)", "exit status 7"),
        ("input()\ninput()\ninput()", "exit status 1 EOFError: EOF when reading a line"),
    ],
)
def test_a_script_that_ends_badly_fails_and_says_how(sandbox: Sandbox, script: str, reason: str) -> None:
    done = sandbox.execute(script, "a\nb\n")
    assert (done.outcome, done.reason) == ("fail", reason)
