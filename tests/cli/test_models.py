"""Kinds of model, and fetching one."""

from __future__ import annotations

import json

from isoflop.model.base import ModelError
from isoflop.model.load import kinds
from isoflop.model.pull import KNOWN


def test_every_kind_is_listed_with_what_it_is(isoflop):
    listed = {m["name"]: m for m in json.loads(isoflop("models", "--json").stdout)}
    assert set(listed) == set(kinds())
    assert all(bool(m["what"]) != bool(m["missing"]) for m in listed.values())
    assert "mock: A model whose every property is known" in isoflop("models").stdout
    assert "Args:" in isoflop("models", "mock").stdout


def test_a_kind_whose_extra_is_missing_says_how_to_get_it(isoflop, monkeypatch):
    def missing(kind: str):
        raise ModelError(f"a {kind} model needs x: pip install 'isoflop[{kind}]'")

    monkeypatch.setattr("isoflop.cli.models.load_class", missing)
    assert "gguf: a gguf model needs x: pip install 'isoflop[gguf]'" in isoflop("models").stdout


def test_pull_says_where_the_weights_are(isoflop, monkeypatch, tmp_path):
    monkeypatch.setattr("isoflop.cli.models.pull_model", lambda name: [tmp_path / f"{name}.gguf"])
    assert isoflop("pull", "some").stdout == f"some: {tmp_path / 'some.gguf'}\n"


def test_pull_lists_what_there_is_and_fetches_all_of_it(isoflop, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    listed = isoflop("pull").stdout
    assert [line.split(":")[0] for line in listed.splitlines()] == list(KNOWN)
    assert "mnist: 5000 handwritten digits; 1 MB, BSD-3-Clause, CC-BY\n" in listed
    monkeypatch.setattr("isoflop.cli.models.pull_model", lambda name: [tmp_path / name])
    assert isoflop("pull", "examples").stdout.count("\n") == len(KNOWN)
