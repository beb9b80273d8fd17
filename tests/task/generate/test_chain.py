import random
import re

from isoflop.task.generate.base import Example
from isoflop.task.generate.chain import Chain


def test_the_answer_is_what_python_says():
    for index in range(200):
        e = Chain().problem("test", index)
        numbers = [int(e.prompt[1::-1]), *map(int, re.findall(r"[-+*](\d)", e.prompt))]
        total = numbers[0]
        for op, n in zip(re.findall(r"[-+*]", e.prompt), numbers[1:], strict=True):
            total = {"+": total + n, "-": total - n, "*": total * n}[op] % 100
        assert e.answer[::-1] == f"{total:02d}"
        assert len(numbers) == e.difficulty


def test_a_step_is_judged_by_the_total_before_it():
    e = Chain().written(17, ("+", "*"), [5, 3])
    assert e.response == "22 66 \n"
    assert Chain().check_steps(e.prompt, "23 69 \n") == [False, True]  # 32 is wrong, but 32 * 3 = 96
    assert Chain().check_steps(e.prompt, "22 66 66 \n") == [True, True, False]
    assert Chain().check_steps(e.prompt, "2") == [False]


def test_numbers_change_and_the_program_stays():
    a, b = (Chain().written(start, ("*", "-"), [9, n]) for start, n in ((11, 3), (47, 8)))
    assert re.sub(r"\d", "d", a.prompt) == re.sub(r"\d", "d", b.prompt)
    assert a.answer != b.answer


def test_renumbered_it_is_the_same_program():
    task, rng = Chain(), random.Random(0)
    before = [task.problem("test", i) for i in range(50)]
    after = [task.renumbered(e, rng) for e in before]
    assert [re.findall(r"[-+*]", e.prompt) for e in before] == [re.findall(r"[-+*]", e.prompt) for e in after]
    assert sum(a.prompt == b.prompt for a, b in zip(before, after, strict=True)) < 3
    assert all(task.grade(e, e.response) == 1 for e in after)


def test_fixed_problems_are_few_and_always_the_same():
    few = Chain(fixed=60)
    drawn = [few.problem("train", i, 6).key for i in range(2000)]
    assert 40 < len(set(drawn)) <= 60
    assert set(drawn) == {few.problem("train", i, 6).key for i in range(2000, 4000)}
    assert len({Chain().problem("train", i, 6).key for i in range(2000)}) == 2000


def test_the_answer_is_read_from_a_whole_number_only():
    assert Chain().extract("22 66 \n") == "66"
    assert Chain().extract("24 80 \n") == "80"  # the total 8
    assert Chain().extract("22 6") is None
    assert Chain().grade(Example("71 *5 +8 -9:", (), "48", 4), "58 39 48 \n") == 1
