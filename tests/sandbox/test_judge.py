"""The dialogue between tests and program, with both in this process: what it lets through and what not."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from isoflop.sandbox import candidate, judge, wire


def ruling(program, checks, most_bytes=1 << 20):
    near, far = socket.socketpair()
    source = os.memfd_create("program")
    os.pwrite(source, program.encode(), 0)

    def run():
        with contextlib.suppress(EOFError, OSError):
            candidate.serve(source, far.fileno(), most_bytes)

    thread = threading.Thread(target=run)
    thread.start()
    with far:
        with near:
            result = judge.rule(checks, near.fileno(), most_bytes)
        thread.join()
    sys.modules.pop("program", None)
    return result


def passes(program, tests, entry_point=""):
    outcome, reason, passed = ruling(program, ("asserts", tests, entry_point))
    assert (outcome == "pass") == (passed == 1) == (reason == "")
    return outcome == "pass"


def calls(program, function, *cases, tolerance=0.0):
    return ruling(program, ("calls", function, tuple((args, {}, expected) for args, expected in cases), tolerance))


def test_tests_call_the_program_by_name_or_as_candidate():
    assert passes("def f(x): return x + 1", "assert f(1) == 2")
    assert not passes("def f(x): return x + 2", "assert f(1) == 2")
    assert passes("def f(x): return x + 1", "def check(candidate):\n    assert candidate(1) == 2 == f(1)", "f")


def test_a_program_cannot_put_its_own_in_the_place_of_what_python_or_the_tests_define():
    program = "abs = all = lambda x: True\ndef g(x): return x\ndef f(x): return 5"
    assert not passes(program, "def g(x): return x + 100\nassert abs(f(1) - 1) < 1e-6 and all([f(1) == 1])")
    assert passes(program, "def g(x): return x + 100\nassert g(f(1)) == 105")


def test_data_and_modules_of_the_program_can_be_used():
    program = "import math\nLIMIT = [1, 2]\nclass A:\n    size = 3\n"
    assert passes(program, "assert LIMIT == [1, 2] and A.size == 3 and math.floor(2.5) == 2")


def test_changes_to_arguments_are_seen():
    program = """
def sort(values, table, *, seen):
    values.sort()
    table.setdefault("b", []).append(1)
    seen.add(9)
    return values
"""
    tests = """
inner = [3]
values, table, seen = [2, 1], {"b": inner}, {1}
same = sort(values, table, seen=seen)
assert values == [1, 2] and table == {"b": [3, 1]} and inner == [3, 1] and seen == {1, 9}
assert same is values
"""
    assert passes(program, tests)
    assert not passes(program.replace("values.sort()", "values = sorted(values)"), tests)


def test_objects_of_the_program_stay_there_and_can_be_used_from_afar():
    program = """
class Stack:
    def __init__(self, *items): self.items = list(items)
    def push(self, item): self.items.append(item); return self
    def top(self): return self.items[-1]
    def join(self, other): return Stack(*self.items, *other.items)
    def __len__(self): return len(self.items)
    def __getitem__(self, i): return self.items[i]
    def __contains__(self, item): return item in self.items
def count():
    n = 0
    while True:
        yield (n := n + 1)
"""
    tests = """
stack = Stack(1, 2).push(3)
assert stack.top() == 3 and stack.items == [1, 2, 3] and len(stack) == 3 and stack[0] == 1 and 2 in stack
both = stack.join(Stack("a"))
assert list(both) == [1, 2, 3, "a"] and both.items == [1, 2, 3, "a"]
stack.items = [7]
assert stack.top() == 7
numbers = iter(count())
assert [next(numbers), next(numbers)] == [1, 2]
assert [n for n, _ in zip(count(), "abc")] == [1, 2, 3]
"""
    assert passes(program, tests)


@pytest.mark.parametrize(
    "claim", ["f() == {}", "{} == f()", "f() == f()", "f() in [{}]", "f()", "not f()", "f() == {} or f()"]
)
@pytest.mark.parametrize("value", ["1", "'a'", "[1]", "True", "None"])
def test_an_object_that_says_it_equals_everything_equals_nothing(claim, value):
    for base in ("object", "int", "str", "list", "dict"):
        equal = "__eq__ = __contains__ = __bool__ = lambda *_: True\n    __hash__ = lambda _: 1"
        program = f"class A({base}):\n    {equal}\ndef f(): return A()"
        assert not passes(program, f"assert {claim}".format(value, value))


def test_it_equals_nothing_inside_of_a_plain_value_either():
    program = (
        "class A(int):\n    __eq__ = lambda *_: True\n    __hash__ = lambda _: 1\ndef f(): return [1, {'a': A(2)}]"
    )
    assert not passes(program, "assert f() == [1, {'a': 2}]")
    assert passes(program, "assert f()[0] == 1")


def test_what_honest_programs_return_for_a_dict_or_a_number_is_one():
    program = """
from collections import Counter, OrderedDict, defaultdict
def f():
    d = defaultdict(list)
    d["a"].append(Counter("xx"))
    return [d, OrderedDict(b=1), 2j]
"""
    assert passes(program, "assert f() == [{'a': [{'x': 2}]}, {'b': 1}, 2j]")
    np = pytest.importorskip("numpy")
    assert passes("import numpy as np\ndef f(): return [np.float64(0.5), np.int32(3)]", "assert f() == [0.5, 3]")
    assert not passes("import numpy as np\ndef f(): return np.arange(2)", f"assert f() == {np.arange(2).tolist()}")


def test_exceptions_of_the_program_can_be_expected():
    program = "class E(KeyError): pass\ndef f(x):\n    raise {0: ValueError('no'), 1: E('k')}[x]"
    tests = """
for x, kind in ((0, ValueError), (1, KeyError), (1, LookupError)):
    try:
        f(x)
    except kind as error:
        assert error.args[0] in ("no", "'k'")
    else:
        raise AssertionError
"""
    assert passes(program, tests)
    assert ruling(program, ("asserts", "f(0)", ""))[1] == "the program raised ValueError(no) on its line 3"
    assert not passes(program, "try:\n    f(0)\nexcept KeyError: pass")


@pytest.mark.parametrize("body", ["raise SystemExit(0)", "raise KeyboardInterrupt", "raise GeneratorExit", "exit()"])
def test_leaving_is_no_way_to_pass(body):
    for tests in ("f()", "try:\n    f()\nexcept BaseException: pass", "try:\n    f()\nexcept:\n    pass\nassert True"):
        assert not passes(f"def f(): {body}", tests)
    assert not passes(body, "")


def test_a_program_cannot_end_a_loop_of_the_tests():
    assert not passes("def f(x): raise StopIteration", "assert all(map(f, [1, 2]))")
    assert not passes("def f(x): raise StopIteration", "assert list(map(f, [1])) == []")


def test_tests_that_cannot_be_run_are_not_the_programs_fault():
    for tests in ("assert f(", "import no_such_module", "assert f(lambda: 1) == 1", "assert f([object()])"):
        outcome, reason, _ = ruling("def f(x): return 1", ("asserts", tests, ""))
        assert outcome == "grader-error"
        assert reason.startswith("the tests cannot be run: ")
    outcome, reason, _ = ruling("def f(x): return 1", ("asserts", "x = 1", "f"))
    assert outcome == "grader-error"
    assert "check(candidate)" in reason


def test_a_missing_module_or_function_is_the_programs_fault():
    assert ruling("import no_such_module", ("asserts", "", ""))[0] == "fail"
    assert ruling("def f():\n import no_such_module", ("asserts", "f()", ""))[0] == "fail"
    assert ruling("x = 1", ("asserts", "f()", ""))[0] == "fail"
    assert "'f'" in ruling("x = 1", ("asserts", "def check(c): c()", "f"))[1]
    assert "line 2" in ruling("x = 1\nx = = 2", ("asserts", "", ""))[1]


def test_calls():
    program = "def f(x, y=1):\n    return (x, [y])"
    assert calls(program, "f", ((1,), [1, [1]]), ((1, 2), (1, [2]))) == ("pass", "", 2)
    outcome, reason, passed = calls(program, "f", ((1,), [1, [1]]), ((1, 2), [1, [3]]), ((0,), 0))
    assert (outcome, reason, passed) == ("fail", "case 2: returned (1, [2]) instead of [1, [3]]", 1)
    assert calls("def f(x): return 1 / x", "f", ((2,), 0.5), ((0,), 0))[1:] == (
        "case 2: the program raised ZeroDivisionError(division by zero) on its line 1",
        1,
    )
    assert calls("def f(x): return x + 0.1", "f", ((0.2,), 0.3), tolerance=1e-9)[0] == "pass"
    assert calls("def f(x): return x + 0.1", "f", ((0.2,), 0.3))[0] == "fail"
    assert ruling(program, ("calls", "f", (((1,), {"y": 3}, [1, [3]]),), 0.0)) == ("pass", "", 1)
    solution = "class Solution:\n    n = 0\n    def f(self, x):\n        self.n += x\n        return self.n"
    assert calls(solution, "Solution.f", ((1,), 1), ((2,), 2))[0] == "pass"


def test_values_that_are_too_large():
    assert "in transit" in ruling("def f(): return 'x' * 5000", ("asserts", "f()", ""), most_bytes=1000)[1]


@pytest.mark.parametrize(
    "answer",
    [
        ("ok",),
        ("ok", 1, (1, 2, 3)),
        ("ok", 1, ((), {"x": 1})),
        ("raise", 5, "", 1),
        ("raise", [], "", 1),
        ("raise", ["Exception", 5], "", 1),
        ("raise", ["UnicodeDecodeError", "Exception"], "", 1),
        ("pass", "", 1),
        None,
        [],
        "pass",
    ],
)
def test_forged_answers(answer):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        for reply in (("ok", None, None), answer, answer):
            wire.write_frame(far.fileno(), wire.dumps(reply))
        assert judge.rule(("asserts", "assert f == 2", ""), near.fileno(), 1000)[0] == "fail"


_SERVE = """
import socket, sys, types
for name, path in zip(("isoflop", "isoflop.sandbox"), sys.argv[2:]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from isoflop.sandbox import judge
from isoflop.sandbox.limits import Limits
judge.serve(socket.socket(fileno=int(sys.argv[1])), Limits())
"""


def served(*jobs):
    """What the judge's process says and rules about a program without a flaw, for one set of tests after the other."""
    line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(60)
    room = Path(judge.__file__).parent
    with theirs:
        words = [sys.executable, "-c", _SERVE, str(theirs.fileno()), str(room.parent), str(room)]
        process = subprocess.Popen(words, pass_fds=[theirs.fileno()])
    answers = []
    with line:
        for tests in jobs:
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps apart what is sent ahead
            for reply in (("ok", None, None), ("raise", ["AttributeError", "Exception"], "x", 0)):
                wire.write_frame(far.fileno(), wire.dumps(reply))
            checks, verdict = os.memfd_create("checks"), os.memfd_create("verdict")
            os.pwrite(checks, wire.dumps(("asserts", tests, "")), 0)
            with near, far, contextlib.suppress(BrokenPipeError):
                socket.send_fds(line, [b"rule"], [checks, verdict, near.fileno()])
                answers.append((line.recv(16), os.pread(verdict, 100, 0)))
            os.close(checks)
            os.close(verdict)
    assert process.wait(60) == 0
    return answers


def test_one_judge_serves_many_programs_until_tests_may_have_changed_it():
    answers = served("x = 1", "assert 1 == 2", "x")
    assert [said for said, _ in answers] == [judge.READY] * 3
    assert answers[0][1] == b'["pass", "", 1]'
    assert answers[1][1] == b'["fail", "AssertionError, line 1 of the tests: assert 1 == 2", 0]'
    assert b"NameError" in answers[2][1]  # the first tests' names went with them


@pytest.mark.parametrize(
    "tests",
    [
        "import math\nmath.pi = 3",
        "import random\nsetattr(random, 'seed', None)",
        "import sys\nsys.modules['json'] = None",
        "def f():\n    class A:\n        def __init__(self): self.x = 1\nf()",
        "import threading",
    ],
)
def test_after_tests_that_may_have_changed_it_the_judge_ends(tests):
    answers = served("x = 1", tests, "x = 2")
    assert [said for said, _ in answers] == [judge.READY, b""]
    assert answers[1][1] == b'["pass", "", 1]'
