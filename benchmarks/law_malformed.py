"""Malformed tables as a user would give them to `isoflop fit`, and the one message that each gets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner

from isoflop.cli.app import app
from isoflop.law.chinchilla import Chinchilla

HEADER = ["params", "tokens", "loss"]


def faulty() -> Iterator[tuple[str, list[list[str]], str]]:
    """What is wrong, the table with its header, and what the message must name."""
    x, truth = Chinchilla().example()
    loss = Chinchilla().value(*x, **truth)
    good = [[f"{n:.4g}", f"{d:.4g}", f"{y:.5f}"] for n, d, y in zip(*x, loss)]

    def put(row: int, column: int, value: str) -> list[list[str]]:
        return [[value if (i, j) == (row, column) else v for j, v in enumerate(r)] for i, r in enumerate(good, 1)]

    yield "a missing column", [HEADER[:2], *(r[:2] for r in good)], "'loss'"
    yield "one size only", [HEADER, *(["2e7", *r[1:]] for r in good)], "'params'"
    yield "a negative loss", [HEADER, *put(4, 2, "-3.1")], "'loss', row 4"
    yield "a row twice", [HEADER, *good, good[4]], "rows 5 and 50"
    yield "two units", [HEADER, *put(3, 1, "0.01")], "'tokens': row 3"
    yield "a loss in two units", [HEADER, *put(3, 2, "31000")], "'loss': row"
    yield "not a number", [HEADER, *put(6, 2, "nan")], "'loss', row 6"
    yield "words", [HEADER, *put(6, 0, "60M")], "'params', row 6"
    yield "an empty field", [HEADER, *put(7, 1, "")], "'tokens', row 7"
    yield "three rows", [HEADER, *good[:3]], "3 rows"
    yield "a field too few", [HEADER, *good[:5], good[5][:2], *good[6:]], "'loss'"
    yield "a column twice", [[*HEADER, "loss"], *([*r, "1"] for r in good)], "'loss'"


def malformed() -> None:
    print("\n## Malformed tables given to `isoflop fit`; target: one line each, naming column and row")
    print("| what is wrong | law | status, lines | names it | message |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bad.csv"
        for what, rows, names in faulty():
            file.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
            for law in ("chinchilla", "auto"):
                done = CliRunner().invoke(app, ["fit", str(file), "--law", law])
                said = (done.stdout + done.stderr).strip().splitlines()
                named = "yes" if names in " ".join(said) else "NO"
                print(f"| {what} | {law} | {done.exit_code}, {len(said)} | {named} | {' '.join(said)[:150]} |")
