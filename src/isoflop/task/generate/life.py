"""Conway's Life on a torus: the next state of a board of any size."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.task.generate.base import PROMPT_END, RESPONSE_END, Example, Generator

_STRIDE = 11  # a row's width on the page: the largest board, 8, the cells around it, and a filler to end every row
Board = tuple[str, ...]
"""Rows of `.` (dead) and `#` (alive), as many as a row is wide."""


def evolved(board: Board) -> Board:
    """The next state: alive with three living neighbours, or with two if alive before; edges wrap around.

    >>> evolved(("....", ".#..", ".#..", ".#.."))
    ('....', '....', '###.', '....')
    """
    n = len(board)
    rows = list[str]()
    for r in range(n):
        three = [board[r - 1], board[r], board[(r + 1) % n]]
        counts = [sum((row[c - 1] + row[c] + row[(c + 1) % n]).count("#") for row in three) for c in range(n)]
        rows.append("".join("#" if x == 3 or (x == 4 and board[r][c] == "#") else "." for c, x in enumerate(counts)))
    return tuple(rows)


@final
@dataclass(frozen=True)
class Life(Generator):
    """The next state of a random board; the difficulty is its size, 4, 6 and 8 in training, 5 and 7 unseen.

    The page has rows of eleven characters, filled up with `_`. In the prompt the board stands with the cells around it,
    wrapped from its other side, so that a cell and its neighbours are equally far apart on boards of all sizes; in the
    response it stands alone, one row a step.

    >>> example = Life().draw(random.Random(0), 4)
    >>> example.prompt
    '...#.._____#.###._____##.###_____##.###_____...#.._____#.###._____:'
    >>> example.steps, example.answer
    (('...._______', '...._______', '#..._______', '...._______'), '..../..../#.../....')
    """

    alphabet: ClassVar[str] = ".#_:\n"
    # A row more than the largest board has, so that no cell's neighbours are as far from it as the prompt's end.
    room: ClassVar[tuple[int, int]] = (11 * _STRIDE + 1, 8 * _STRIDE + 1)
    trained: ClassVar[tuple[int, ...]] = (4, 6, 8)
    beyond: ClassVar[tuple[int, ...]] = (5, 7)

    def draw(self, rng: random.Random, difficulty: int) -> Example:
        """A board whose density of living cells is drawn evenly from 0.1 to 0.7."""
        density = rng.uniform(0.1, 0.7)
        return self.asked(
            tuple("".join(".#"[rng.random() < density] for _ in range(difficulty)) for _ in range(difficulty))
        )

    def asked(self, board: Board) -> Example:
        """The problem of a board; with the answer to one problem as the board of the next, a roll-out."""
        after = evolved(board)
        around = [row[-1] + row + row[0] for row in (board[-1], *board, board[0])]
        return Example("".join(_lines(around)) + PROMPT_END, tuple(_lines(after)), "/".join(after), len(board))

    def extract(self, response: str) -> str | None:
        """The board, its rows apart by `/`."""
        rows = self.rows(response)
        return "/".join(rows) if rows else None

    def rows(self, response: str) -> Board:
        """The rows of a response, or of an answer."""
        text = response.removesuffix(RESPONSE_END)
        if "/" in text:
            return tuple(text.split("/"))
        return tuple(text[i : i + _STRIDE].rstrip("_") for i in range(0, len(text), _STRIDE))

    def right(self, example: Example, answer: str) -> bool:
        """Whether every cell of `answer` is right."""
        return answer == example.answer

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """For each row whether all of its cells are right."""
        board = self._board(prompt)
        right = evolved(board) if board else ()
        return [r < len(right) and row == right[r] for r, row in enumerate(self.rows(response))]

    def _board(self, prompt: str) -> Board:
        rows = self.rows(prompt.removesuffix(PROMPT_END))
        board = tuple(row[1:-1] for row in rows[1:-1])
        return board if all(len(row) == len(board) for row in board) else ()


def _lines(rows: Sequence[str]) -> list[str]:
    return [row.ljust(_STRIDE, "_") for row in rows]
