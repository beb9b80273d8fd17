import pytest

from isoflop.task.generate.base import Example
from isoflop.task.generate.program import Program, run


def test_programs_run_from_left_to_right():
    assert run("", "312") == "312"
    assert run("sr", "312") == "321"
    assert run("ix", "491") == "004"
    assert run("tbec", "98642") == "848"


def test_an_unknown_operation_is_refused_by_name():
    with pytest.raises(ValueError, match="'z' in the program 'rz'.*reverse"):
        run("rz", "1")


def test_the_public_tests_are_not_enough():
    sorted_already = Example("123>321;45>54;678>876;:", (), "r", 1)
    assert Program().passes(sorted_already.prompt, "sr")
    assert Program().grade(sorted_already, "s123 r321 \n") == 0
    assert Program().grade(sorted_already, "r321 \n") == 1


def test_another_program_that_does_the_same_is_right():
    assert Program().right(Example("1234>342;567>67;8912>192;:", (), "t", 1), "rbr") is False  # fails in public
    assert Program().right(Example("1234>234;567>67;8912>912;:", (), "t", 1), "rbr") is True


def test_a_step_is_judged_by_the_list_before_it():
    assert Program().check_steps("312>321;:", "s123 r321 ") == [True, True]
    assert Program().check_steps("312>321;:", "s132 r231 ") == [False, True]
    assert Program().check_steps("312>321;:", "q ") == [False]
