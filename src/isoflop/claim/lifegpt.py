"""A decoder learns the rules of Life from examples, on a torus of any size, well enough to be run on its own output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size, Value
from isoflop.claim.tiny_models import answers, shipped
from isoflop.task.generate.life import Board, Life, evolved

_RIGHT = 0.95  # of next states, whole boards; the paper's "near-perfect", in our figures
_ROLLED_OUT = 0.8  # of boards still right after all generations; ours
_PROBLEMS = {"quick": 40, "full": 200}
_GENERATIONS = {"quick": 8, "full": 16}


@final
@dataclass(frozen=True)
class Lifegpt(Claim):
    """Berkovich and Buehler 2024: a GPT simulates Life on a torus without being told its size or its edges.

    Theirs reads a 32 by 32 board as plain rows; the shipped one reads boards of at most 8 by 8 whose wrapped
    neighbours stand around them (`task.generate.life`), so that the torus is on the page and the network need not find
    its edges. What is tested is thus the rule and that it carries over to sizes never seen, not the discovery of
    the topology.
    """

    paper: ClassVar[str] = "LifeGPT: Topology-Agnostic Generative Pretrained Transformer (arXiv 2409.12182)"
    says: ClassVar[str] = (
        "a decoder trained on examples gives the next state of Life on a torus almost perfectly, whatever the grid, "
        "and fed with its own output it goes on for many generations"
    )
    tested_by: ClassVar[str] = (
        f"the shipped model, greedy, on held-out boards of the sizes of its training and on sizes it never saw: at "
        f"least {_RIGHT:.0%} of next states right in every cell; run on its own output, at least {_ROLLED_OUT:.0%} of "
        "the boards still right after 8 (quick) or 16 generations"
    )

    def findings(self, size: Size) -> list[Finding]:
        """Quick: 40 boards a size, 8 generations. Full: 200 and 16."""
        name, task = shipped("life")[-1], Life()
        found = list[Finding]()
        for n in (*task.trained, *task.beyond):
            split = "test" if n in task.trained else "harder"
            boards = [board_of(task, task.problem(split, i, n).prompt) for i in range(_PROBLEMS[size])]
            seen = "trained" if n in task.trained else "never seen"
            found += _size_findings(f"{name}, {n} by {n} ({seen})", name, boards, _GENERATIONS[size])
        return found


def board_of(task: Life, prompt: str) -> Board:
    """The board of a prompt, without the cells around it."""
    return tuple(row[1:-1] for row in task.rows(prompt[:-1])[1:-1])


def rolled_out(name: str, boards: list[Board], generations: int) -> list[list[bool]]:
    """For each generation which boards were right in every cell until then, each made from the model's last one."""
    task, now = Life(), dict(enumerate(boards))
    rows = list[list[bool]]()
    for _ in range(generations):
        texts = answers(name, [task.asked(board).prompt for board in now.values()]) if now else []
        truth = {i: evolved(board) for i, board in now.items()}
        now = {i: truth[i] for i, text in zip(now, texts, strict=True) if task.rows(text) == truth[i]}
        rows.append([i in now for i in range(len(boards))])
    return rows


def _size_findings(what: str, name: str, boards: list[Board], generations: int) -> list[Finding]:
    right = [sum(row) / len(row) for row in rolled_out(name, boards, generations)]
    still = sum(evolved(board) == board for board in boards) / len(boards)
    shown: dict[str, Value] = {
        "right": round(right[0], 4),
        "right_a_cell_if_cells_err_alone": round(right[0] ** len(boards[0]) ** -2, 4),
        "boards": float(len(boards)),
        "right_if_nothing_moved": round(still, 4),
        "right_by_a_coin_a_cell": round(0.5 ** len(boards[0]) ** 2, 6),
    }
    if right[0] < _RIGHT:
        cells = 1 - right[0] ** len(boards[0]) ** -2
        shown["why not"] = f"the rule is learned in part at this compute: about {cells:.1%} of cells err"
    return [
        Finding(f"{what}: next states at least {_RIGHT:.0%} right", right[0] >= _RIGHT, shown),
        Finding(
            f"{what}: on its own output at least {_ROLLED_OUT:.0%} right after {generations} generations",
            right[-1] >= _ROLLED_OUT,
            {"right_by_generation": [round(v, 3) for v in right]},
        ),
    ]
