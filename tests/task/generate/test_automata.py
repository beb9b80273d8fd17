from itertools import product

from isoflop.task.generate.automata import Automata


def state(word, start):
    return next(s for s in "01234" if Automata(steps=False).check_steps(f"{start}{word}:", s)[0])


def test_the_letters_generate_all_of_s5():
    letters = {x: tuple(int(state(x, s)) for s in range(5)) for x in "abcd"}
    assert all(sorted(p) == [0, 1, 2, 3, 4] for p in letters.values())
    group, new = set(letters.values()), set(letters.values())
    while new:
        new = {tuple(q[i] for i in p) for p, q in product(new, letters.values())} - group
        group |= new
    assert len(group) == 120


def test_words_compose():
    for index in range(50):
        e = Automata().problem("test", index, 6)
        at = e.prompt[0]
        for letter, written in zip(e.prompt[1:-1], e.response, strict=False):
            at = state(letter, at)
            assert at == written
        assert at == e.answer


def test_a_wrong_state_does_not_spoil_the_steps_after_it():
    e = Automata().problem("test", 0, 4)
    wrong = next(s for s in "01234" if s != e.steps[0])
    rest = [wrong]
    for letter in e.prompt[2:-1]:
        rest.append(state(letter, rest[-1]))
    assert Automata().check_steps(e.prompt, "".join(rest) + "\n") == [False, True, True, True]
    assert Automata().grade(e, "".join(rest) + "\n") == 0  # permutations never merge two ways again


def test_both_variants_have_the_same_problems():
    a, b = Automata().problem("test", 5), Automata(steps=False).problem("test", 5)
    assert (a.prompt, a.answer) == (b.prompt, b.answer)
    assert b.response == b.answer + "\n"
