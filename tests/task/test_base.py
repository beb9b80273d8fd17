import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.task import Grader, GraderError, Question, TaskError
from isoflop.task.graders.exact import Exact
from isoflop.task.graders.numeric import Numeric


class Near(Grader):
    """Numbers one apart are the same: reflexive and symmetric, not transitive."""

    def extract(self, text: str) -> str | None:
        return text or None

    def canonical(self, answer: str) -> str:
        return answer

    def same(self, a: str, b: str) -> bool:
        return abs(int(a) - int(b)) <= 1


def test_groups_are_the_transitive_closure() -> None:
    assert Near().groups(["1", "5", "3", "9", "2", "1"]) == [0, 1, 0, 3, 0, 0]
    assert Near().groups([]) == []


@given(
    st.lists(st.integers(0, 12), max_size=12).flatmap(lambda a: st.tuples(st.just(a), st.permutations(range(len(a)))))
)
def test_groups_do_not_depend_on_the_order(case: tuple[list[int], list[int]]) -> None:
    numbers, order = case
    groups = Near().groups([str(n) for n in numbers])
    shuffled = Near().groups([str(numbers[i]) for i in order])
    together = {(i, j) for i in order for j in order if groups[i] == groups[j]}
    assert together == {
        (order[a], order[b]) for a in range(len(order)) for b in range(len(order)) if shuffled[a] == shuffled[b]
    }


@given(st.lists(st.sampled_from(["Paris", "paris.", "the Paris", "Rome", "rome"]), max_size=8))
def test_a_group_is_named_by_its_first_member(answers: list[str]) -> None:
    groups = Exact().groups(answers)
    assert all(groups[i] <= i and groups[groups[i]] == groups[i] for i in range(len(answers)))


def test_aliases_are_right_too() -> None:
    question = Question("k", "?", "Netherlands", Exact(), aliases=("Holland",))
    assert [Exact().grade(a, question) for a in ("the netherlands", "Holland", "Belgium")] == [1.0, 1.0, 0.0]


def test_a_grader_rejects_an_answer_it_would_not_accept() -> None:
    assert Numeric().rejects(Question("k", "?", "12", Numeric())) is None
    assert "'many'" in str(Numeric().rejects(Question("k", "?", "many", Numeric())))
    assert "'1,5'" in str(Numeric().rejects(Question("k", "?", "12", Numeric(), aliases=("1,5",))))


def test_a_task_error_lists_all_problems() -> None:
    assert str(TaskError("f", ["line 1: a"])) == "f: line 1: a"
    assert str(TaskError("f", ["line 1: a", "line 2: b"])) == "f: 2 problems\n  line 1: a\n  line 2: b"
    assert TaskError("f", ["a", "b"]).problems == ("a", "b")


def test_the_third_verdict_is_no_grade() -> None:
    with pytest.raises(GraderError):
        raise GraderError("the grader's fault")
    assert not issubclass(GraderError, ValueError)
