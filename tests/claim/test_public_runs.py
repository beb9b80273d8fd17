"""Public runs are found where they may lie, and their absence is said in one message that names them."""

from __future__ import annotations

import pytest

from isoflop.claim import CouldNotRunError, claims
from isoflop.claim.public_runs import folders, public_runs


def test_they_are_read_from_the_folder_that_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("ISOFLOP_DATA", str(tmp_path))
    (tmp_path / "law").mkdir()
    (tmp_path / "law" / "a.csv").write_text("x,y\n1,2\n")
    assert folders() == [tmp_path]
    assert public_runs("a.csv") == [{"x": ["1"], "y": ["2"]}]
    with pytest.raises(CouldNotRunError, match=r"needs the public runs a\.csv, b\.csv: put them into a folder `law`"):
        public_runs("a.csv", "b.csv")


def test_unless_named_they_lie_beside_the_place_where_we_are(monkeypatch, tmp_path):
    monkeypatch.delenv("ISOFLOP_DATA", raising=False)
    here = tmp_path / "work"
    law = tmp_path / "shared" / "data" / "law"
    law.mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    (law / "only_here.csv").write_text("x\n1\n")
    assert public_runs("only_here.csv") == [{"x": ["1"]}]


@pytest.mark.parametrize(("slug", "size"), [("scaling_mystery", "quick"), ("predictable_scaling", "full")])
def test_a_claim_without_its_runs_could_not_be_tested(monkeypatch, tmp_path, slug, size):
    monkeypatch.setenv("ISOFLOP_DATA", str(tmp_path))
    with pytest.raises(CouldNotRunError, match="ISOFLOP_DATA"):
        claims()[slug].run(size)


def test_our_own_curves_are_tried_without_the_public_ones_and_what_is_left_out_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("ISOFLOP_DATA", str(tmp_path))
    *own, last = claims()["predictable_scaling"].run("quick").findings
    assert len(own) >= 6
    assert all(f.what.startswith("tiny models, ") for f in own)
    assert last.what == "translation, five architectures: not tested"
    assert not last.holds
    assert "revisiting_nmt.csv" in last.measured["left out"]
