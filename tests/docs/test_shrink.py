"""What docs/shrink.md shows, done: its file, its commands with how their answers begin, its Python."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isoflop.cli.app import app

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "shrink.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.timeout(600)
def test_every_command_answers_as_is_shown_and_the_python_runs(tmp_path, monkeypatch, capsys):
    """In the order of the page, as later ones find what earlier ones paid for."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    for name, language, body in BLOCKS:
        if name:
            Path(name).write_text(body)
        elif language == "python":
            exec(compile(body, "docs/shrink.md", "exec"), {})  # here, as importing torch anew takes long
            assert capsys.readouterr().out.startswith("Use cast@1 (bf16, weights in int8): 0.267x")
        elif language == "console":
            for command, shown in re.findall(r"^\$ isoflop (.*)\n((?:(?!\$ ).*\n)*)", body, re.MULTILINE):
                result = CliRunner().invoke(app, shlex.split(command))
                assert result.exit_code == (2 if shown.startswith("isoflop: ") else 0), result.output
                assert shown.strip() in " ".join(re.sub("[│╭╮╰╯─]", " ", result.output).split()), command
    assert {"page.html", "frontier.html", "smaller"} <= {p.name for p in Path().iterdir()}
    assert "weights in int8" in Path("smaller/README.md").read_text()


def test_no_block_goes_untested():
    assert {language for name, language, _ in BLOCKS if not name} == {"console", "python", "sh"}


def test_every_link_leads_to_a_file():
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file(), link
