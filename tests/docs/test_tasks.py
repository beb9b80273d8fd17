"""What docs/tasks.md shows, done: its files, its commands with what they print, its Python, its tables."""

from __future__ import annotations

import dataclasses
import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isoflop.cli.app import app
from isoflop.task.graders import grader_class, grader_names
from isoflop.task.rows import FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ISOFLOP_STORE", raising=False)
    for name, _, body in BLOCKS:
        if name:
            Path(name).write_text(body, encoding="utf-8")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("session", [body for _, language, body in BLOCKS if language == "console"])
def test_every_command_prints_what_is_shown(session: str) -> None:
    for command, shown in re.findall(r"^\$ isoflop (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
        result = CliRunner().invoke(app, shlex.split(command))
        assert result.exit_code == (2 if shown.startswith("isoflop: ") else 0), result.output
        assert result.output.strip() == shown.strip() or not shown


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("session", [body for _, language, body in BLOCKS if language == "pycon"])
def test_every_session_in_python_runs(session: str) -> None:
    test = doctest.DocTestParser().get_doctest(session, {}, "docs/tasks.md", None, 0)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_no_block_goes_untested() -> None:
    assert {language for name, language, _ in BLOCKS if not name} == {"console", "pycon"}


def test_every_field_of_a_row_is_explained() -> None:
    (table,) = re.findall(r"^\| field \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", table, re.MULTILINE)))) == set(FIELDS)


def test_every_grader_and_every_option_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert {name: re.findall(r"`(\w+)`", options) for name, options in rows} == {
        name: [f.name for f in dataclasses.fields(grader_class(name))]  # pyright: ignore[reportArgumentType]
        for name in grader_names()
    }
