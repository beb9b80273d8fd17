"""Claims are found by listing, run at two sizes, and keep their evidence whole."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.claim import Evidence, Finding, claims, keep, kept_evidence
from isoflop.claim.base import SIZES


def test_claims_are_their_files_and_say_what_they_are():
    for slug, claim in claims().items():
        assert claim.label() == slug
        assert claim.paper
        assert claim.says
        assert claim.tested_by


def test_every_claim_ships_evidence_that_reads_back():
    for slug in claims():
        for size in SIZES:
            evidence = kept_evidence(slug, size)
            assert evidence is not None, f"isoflop claims run {slug} --size {size} --keep src/isoflop/claim/evidence"
            assert (evidence.claim, evidence.size) == (slug, size)
            assert evidence.findings
            assert evidence.made["date"]


def test_a_claim_holds_only_if_every_finding_does(tmp_path):
    good, bad = Finding("a", True, {"x": 1.0}), Finding("b", False, {"y": [1.0, 2.0]})
    assert Evidence("c", "quick", [good], 1.0).holds
    mixed = Evidence("c", "quick", [good, bad], 1.0, {"date": "2026-11-23"})
    assert not mixed.holds
    file = keep(mixed, tmp_path)
    assert Evidence.from_json(file.read_text()) == mixed
    assert list(tmp_path.iterdir()) == [file]


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="unknown size 'huge'; use quick or full"):
        next(iter(claims().values())).run("huge")


def test_evidence_of_what_does_not_exist_is_none():
    assert kept_evidence("no_such_claim", "quick") is None


def test_a_verdict_of_numpys_is_read_back_as_one() -> None:
    written = Evidence("toy", "quick", [Finding("it is so", np.bool_(False), {})], 1.0)  # pyright: ignore[reportArgumentType]
    read = Evidence.from_json(written.to_json())
    assert read.findings[0].holds is False
    assert not read.holds
