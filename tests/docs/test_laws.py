"""What docs/laws.md shows, done: its files, its commands with what they print, its Python."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isoflop.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "laws.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)```", PAGE, re.DOTALL)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, _, body in BLOCKS:
        if name:
            Path(name).write_text(body, encoding="utf-8")


def alike(printed: str, shown: str) -> bool:
    """The same words, and numbers within 5 %: ends of intervals rest on random draws and on the machine's rounding."""
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (printed, shown)]
    values = [[float(v) for v in NUMBER.findall(text)] for text in (printed, shown)]
    return words[0] == words[1] and values[0] == pytest.approx(values[1], rel=0.05, abs=1e-3)


def test_another_figure_is_not_alike() -> None:
    assert alike("loss 2.10 (2.0 .. 2.2)", "loss  2.09 (2.0 .. 2.2)")
    assert not alike("loss 2.10", "loss 1.9")
    assert not alike("loss 2.10", "cost 2.10")


@pytest.mark.usefixtures("workplace")
def test_every_command_prints_what_is_shown_and_the_python_runs() -> None:
    """In the order of the page, as later commands take what earlier ones wrote."""
    for name, language, body in BLOCKS:
        if language == "pycon":
            test = doctest.DocTestParser().get_doctest(body, {}, "docs/laws.md", None, 0)
            assert doctest.DocTestRunner().run(test).failed == 0
        if name or language != "console":
            continue
        for command, shown in re.findall(r"^\$ isoflop (.*)\n((?:(?!\$ ).*\n)*)", body, re.MULTILINE):
            result = CliRunner().invoke(app, shlex.split(command))
            assert result.exit_code == (2 if shown.startswith("isoflop: ") else 0), result.output
            assert alike(result.output, shown) or not shown, f"{command}\n{result.output}"


def test_no_block_goes_untested() -> None:
    assert {language for name, language, _ in BLOCKS if not name} == {"console", "pycon"}
