"""Roll-outs of networks of known rules: the right one holds, one that errs now and then drifts away."""

from __future__ import annotations

import torch

from isoflop.claim import claims, lifegpt
from isoflop.task.generate.life import Life, evolved

torch.set_num_threads(1)
TASK = Life()
BOARDS = [lifegpt.board_of(TASK, TASK.problem("test", i, 4).prompt) for i in range(30)]


def knows(wrong_every=0, cut_every=0):
    """Answers as a network would that is wrong in one cell, or stops early, in every so many boards."""
    asked = 0

    def answers(name, prompts):
        nonlocal asked
        texts = []
        for prompt in prompts:
            asked += 1
            text = TASK.asked(lifegpt.board_of(TASK, prompt)).response
            if wrong_every and asked % wrong_every == 0:
                text = (".#"[text[0] == "."]) + text[1:]
            texts.append(text[:9] if cut_every and asked % cut_every == 0 else text)
        return texts

    return answers


def test_boards_come_back_out_of_their_prompts():
    board = (".#..", "##..", "..#.", "....")
    assert lifegpt.board_of(TASK, TASK.asked(board).prompt) == board


def test_who_knows_the_rule_stays_right(monkeypatch):
    monkeypatch.setattr(lifegpt, "answers", knows())
    rows = lifegpt.rolled_out("", BOARDS, 5)
    assert rows == [[True] * 30] * 5
    assert all(f.holds for f in lifegpt._size_findings("some", "", BOARDS, 5))


def test_errors_grow_with_generations_and_are_reported(monkeypatch):
    monkeypatch.setattr(lifegpt, "answers", knows(wrong_every=7))
    first, rolled = lifegpt._size_findings("some", "", BOARDS, 12)
    assert first.measured["right"] == 0.8667
    right = rolled.measured["right_by_generation"]
    assert right[-1] < right[0]
    assert not first.holds
    assert not rolled.holds


def test_a_board_cut_short_is_wrong_from_then_on(monkeypatch):
    monkeypatch.setattr(lifegpt, "answers", knows(cut_every=15))
    rows = lifegpt.rolled_out("", BOARDS, 3)
    assert sum(rows[0]) == 28
    assert all(not later for row in rows[1:] for first, later in zip(rows[0], row) if not first)


def test_quick():
    evidence = claims()["lifegpt"].run("quick")
    assert len(evidence.findings) == 10
    still = evidence.findings[0].measured["right_if_nothing_moved"]
    assert evolved(BOARDS[0]) != BOARDS[0]
    assert still < 0.5
