"""What docs/tiny.md shows, done: its commands, with what they print, and its table against the models' cards."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from isoflop.cli.app import app
from isoflop.model.tiny.weights import SHIPPED, names

torch.set_num_threads(1)
PAGE = (Path(__file__).parents[2] / "docs" / "tiny.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ISOFLOP_STORE", raising=False)


@pytest.mark.usefixtures("workplace")
def test_every_command_works_or_prints_what_is_shown() -> None:
    """In the order of the page, as later commands take what earlier ones wrote."""
    commands = re.findall(r"^\$ isoflop (.*)\n((?:(?!\$ ).*\n)*)", "".join(SESSIONS), re.MULTILINE)
    assert len(commands) >= 8
    for command, shown in commands:
        result = CliRunner().invoke(app, shlex.split(command))
        assert result.exit_code == (2 if shown.startswith("isoflop: ") else 0), result.output
        assert result.output.strip() == shown.strip() or not shown


def test_the_table_of_models_is_that_of_their_cards() -> None:
    """Rewritten by `python tests/docs/test_tiny.py`."""
    assert _table() in PAGE


def _table() -> str:
    rows = ["| model | FLOP | seconds | right at each difficulty | at harder ones |", "|---|---|---|---|---|"]
    for name in names():
        card = (SHIPPED / f"{name}.md").read_text(encoding="utf-8")
        (flops,), (seconds,) = (re.findall(p, card) for p in (r"Training: (\S+) FLOPs", r"Time: (\S+) s"))
        right = re.findall(r"^\| (\d+)( \(never trained\))? \| (\S+)% \|", card, re.MULTILINE)
        shares = [
            ", ".join(f"{d}: {float(share):.0f}%" for d, never, share in right if bool(never) == harder)
            for harder in (False, True)
        ]
        rows.append(f"| `{name}` | {flops} | {seconds} | {shares[0]} | {shares[1]} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "tiny.md"
    page.write_text(
        re.sub(r"(?<=<!-- models -->\n\n).*?(?=\n\n)", lambda _: _table().rstrip("\n"), PAGE, flags=re.DOTALL)
    )
