import numpy as np

from isoflop.task.generate.life import Life, evolved


def test_the_next_state_is_that_of_rolled_arrays():
    for index in range(40):
        e = Life().problem("test" if index % 2 else "harder", index)
        board = np.array([[c == "#" for c in row[1:-1]] for row in Life().rows(e.prompt[:-1])[1:-1]])
        around = sum(
            np.roll(board, (r, c), (0, 1)).astype(int) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)
        )
        after = (around == 3) | (board & (around == 2))
        assert e.answer == "/".join("".join(".#"[int(x)] for x in row) for row in after)


def test_a_glider_comes_back_after_four_times_its_way_around():
    board = start = (".#...", "..#..", "###..", ".....", ".....")
    for _ in range(20):
        board = tuple(Life().asked(board).answer.split("/"))
    assert board == start != evolved(start)


def test_rows_are_judged_one_by_one():
    e = Life().problem("test", 0, 4)
    wrong = e.response[0].translate(str.maketrans(".#", "#.")) + e.response[1:]
    assert Life().check_steps(e.prompt, wrong) == [False, True, True, True]
    assert Life().grade(e, wrong) == 0
