from isoflop.task.generate.base import Example
from isoflop.task.generate.countdown import Countdown

E = Example("20 30 70>72:", (), "", 3)  # 2 3 7 > 27


def test_any_way_that_follows_the_rules_is_right():
    task = Countdown()
    assert task.grade(E, "70+20=90 90*30=72 \n") == 1
    assert task.grade(E, "20+70=90 30*90=72 \n") == 1
    assert task.grade(E, "70+20=90 90*30=62 \n") == 0  # 9 * 3 is not 26
    assert task.grade(E, "70+20=90 \n") == 0  # the 3 is left
    assert task.grade(E, "90*30=72 \n") == 0  # there is no 9
    assert task.grade(Example("30 10>60:", (), "", 2), "30+30=60 \n") == 0  # there is one 3 only
    assert task.grade(Example("30 30>60:", (), "", 2), "30+30=60 \n") == 1


def test_division_is_exact_and_results_are_positive():
    task = Countdown()
    assert task.check_steps("70 20>30:", "70/20=30 ") == [False]
    assert task.check_steps("60 20>30:", "60/20=30 ") == [True]
    assert task.check_steps("20 20>00:", "20-20=00 ") == [False]
    assert task.check_steps("20 70>00:", "20-70=59 ") == [False]


def test_a_step_taken_back_does_not_count():
    task = Countdown(search=True)
    response = "30*20=60 70+60=31 < < 70+20=90 90*30=72 \n"
    assert task.extract(response) == "70+20=90 90*30=72 "
    assert task.grade(E, response) == 1
    assert task.check_steps(E.prompt, response) == [True] * 6
    assert task.check_steps(E.prompt, "< 70+20=90 ") == [False, True]


def test_traces_hold_dead_ends_that_end_elsewhere():
    plain = searched = 0
    for index in range(50):
        e = Countdown(search=True).problem("train", index, 3)
        searched += e.response.count("<")
        plain += Countdown().problem("train", index, 3).response.count("<")
        assert e.answer.count("=") == 2
    assert searched > 50
    assert plain == 0
