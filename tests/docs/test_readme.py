"""What the README shows, done: its commands, its Python, its tables and its links."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isoflop.cli.app import app
from isoflop.cli.catalogue import all_methods, markdown_table
from isoflop.model.mock import Mock, Skill
from isoflop.testing.server import Server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)```", README, re.DOTALL)


def blocks(language: str) -> list[str]:
    return [body for _, found, body in BLOCKS if found == language]


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with the files that the README shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ISOFLOP_STORE", raising=False)
    for name, _, body in BLOCKS:
        if name:
            (tmp_path / name).write_text(body)
    return tmp_path


def test_every_command_runs(workplace):
    """With the mock in place of the model that has to be fetched, and a server of ours in place of the user's."""
    with Server(Mock(Skill(p=0.3))) as server:
        for line in "".join(blocks("console")).splitlines():
            assert line.startswith("$ isoflop "), line
            words = shlex.split(line)[2:]
            words = [
                w.replace("gguf:smollm2-135m", "mock:").replace("http://127.0.0.1:8000/v1", server.url) for w in words
            ]
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, f"{line}\n{result.output}"
    written = set(re.findall(r"-o (\S+)", "".join(blocks("console"))))
    assert {name for name in written if not (workplace / name).stat().st_size} == set()


def test_every_piece_of_python_runs(workplace):
    """But the one of `shrink`, which docs/shrink.md runs with a model and data."""
    for body in blocks("python"):
        if "isoflop.shrink" in body:
            continue
        done = subprocess.run([sys.executable, "-W", "error", "-c", body], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "tokens: 0." in done.stdout
        assert "expect quality" in done.stdout


def test_every_shell_command_is_a_target_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for line in "".join(blocks("sh")).splitlines():
        make, target = line.split()[:2]
        assert make == "make"
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_no_block_goes_untested():
    assert {language for name, language, _ in BLOCKS if not name} <= {"console", "python", "sh"}


def test_the_table_of_methods_is_the_generated_one():
    (found,) = re.findall(r"<!-- methods -->\n(.*?)\n<!-- /methods -->", README, re.DOTALL)
    assert found == markdown_table(all_methods(["search"])), "paste what the command above the table prints"


def test_every_link_leads_to_a_file():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).is_file(), link
