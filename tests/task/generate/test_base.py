import random
import re

import pytest

from isoflop.task import TaskError
from isoflop.task.generate import generator, generators
from isoflop.task.generate.base import PROBLEM_SPLITS, PROMPT_END, RESPONSE_END


def everything():
    return [generator(name) for name in generators()]


def test_every_file_of_the_folder_is_a_generator_and_names_round_trip():
    names = generators()
    assert {"chain", "countdown", "countdown-search", "automata-direct", "connectivity", "life", "program"} <= {*names}
    assert [generator(name).name for name in names] == list(names)


@pytest.mark.parametrize("task", everything(), ids=lambda g: g.name)
def test_own_solutions_are_right_and_every_step_of_them(task):
    for split in PROBLEM_SPLITS:
        for index in range(12):
            e = task.problem(split, index)
            assert e == task.problem(split, index)
            assert e.prompt.endswith(PROMPT_END)
            assert e.prompt.count(PROMPT_END) == 1
            assert e.response.endswith(RESPONSE_END)
            assert set(e.prompt + e.response) <= set(task.alphabet)
            assert len(e.prompt) <= task.room[0]
            assert len(e.response) <= task.room[1]
            assert e.difficulty in (task.beyond if split == "harder" else task.trained)
            assert task.extract(e.response) == e.answer == task.extract(e.answer)
            assert task.grade(e, e.response) == 1
            assert task.check_steps(e.prompt, e.response) == [True] * len(e.steps)
            assert task.check_step(e.prompt, "".join(e.steps[:-1]), e.steps[-1])


@pytest.mark.parametrize("task", everything(), ids=lambda g: g.name)
def test_noise_is_never_an_error_and_mostly_wrong(task):
    rng = random.Random(0)
    grades = []
    for index in range(60):
        e = task.problem("dev", index, task.trained[-1])
        noise = "".join(rng.choice(task.alphabet) for _ in range(rng.randrange(20)))
        grades.append(task.grade(e, noise))
        assert all(isinstance(verdict, bool) for verdict in task.check_steps(e.prompt, noise))
        other = task.problem("dev", index + 1, task.trained[-1])
        grades.append(task.grade(e, other.response))
    assert sum(grades) < 0.55 * len(grades)  # two answers are possible in connectivity, five in automata
    assert task.grade(e, "") == 0
    assert task.check_steps("nonsense", e.response) in ([], [False] * len(e.steps))


@pytest.mark.parametrize("task", everything(), ids=lambda g: g.name)
def test_no_problem_is_in_two_splits(task):
    difficulty = task.trained[0]  # the smallest space, where chance would repeat problems
    keys = {split: {task.problem(split, i, difficulty).key for i in range(150)} for split in ("train", "dev", "test")}
    assert not keys["train"] & keys["dev"]
    assert not keys["train"] & keys["test"]
    assert not keys["dev"] & keys["test"]
    assert not set(task.trained) & set(task.beyond)


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(TaskError, match=re.escape("chain")):
        generator("chian")
    with pytest.raises(TaskError, match="automata-direct"):
        generator("automata-fast")


def test_a_difficulty_out_of_the_split_is_refused():
    with pytest.raises(ValueError, match="'train' has difficulties"):
        generator("chain").problem("train", 0, 8)
