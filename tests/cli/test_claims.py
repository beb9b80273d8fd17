"""The claims board, and the exit code of a test of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from isoflop.claim import Claim, CouldNotRunError, Evidence, Finding


@dataclass(frozen=True)
class Pigs(Claim):
    paper: ClassVar[str] = "On pigs"
    says: ClassVar[str] = "pigs fly"
    tested_by: ClassVar[str] = "looking up"

    flying: float | None = 0.0

    def findings(self, size):
        if self.flying is None:
            raise CouldNotRunError("no sky: pip install 'isoflop[sky]'")
        return [Finding("pigs in the air", self.flying > 0, {"pigs": self.flying, "size": size, "by hour": [0.0, 1.0]})]


@pytest.fixture
def pigs(isoflop, monkeypatch):
    def with_pigs(claim: Claim):
        monkeypatch.setattr("isoflop.cli.claims.claims", lambda: {"pigs": claim})
        return isoflop

    return with_pigs


@pytest.mark.parametrize(("flying", "code"), [(2.0, 0), (0.0, 1), (None, 2)])
def test_exit_code_tells_whether_it_holds(pigs, flying, code):
    result = pigs(Pigs(flying))("claims", "run", "pigs", "--size", "full")
    assert result.exit_code == code
    if code == 2:
        assert result.stderr == "isoflop: pigs could not be tested: no sky: pip install 'isoflop[sky]'\n"
    else:
        assert f"pigs {'holds' if code == 0 else 'does not hold'} (full, " in result.stdout
        assert f"    pigs: {flying:g}\n    size: full\n    by hour: 0, 1\n" in result.stdout


def test_evidence_as_json(pigs):
    evidence = json.loads(pigs(Pigs(1.0))("claims", "run", "pigs", "--json").stdout)
    assert evidence["holds"] is True
    assert evidence["findings"][0]["measured"]["size"] == "quick"


def test_evidence_is_kept_where_asked_whether_it_holds_or_not(pigs, tmp_path):
    result = pigs(Pigs(0.0))("claims", "run", "pigs", "--keep", str(tmp_path / "kept"))
    file = tmp_path / "kept" / "pigs-quick.json"
    assert result.exit_code == 1
    assert result.stderr == f"evidence kept in {file}\n"
    assert Evidence.from_json(file.read_text()).findings[0].measured["pigs"] == 0.0


def test_the_list_has_every_claim_with_its_status(isoflop, pigs):
    assert "large_language_monkeys (quick: " in isoflop("claims").stdout
    board = json.loads(isoflop("claims", "--json").stdout)
    assert {"claim", "paper", "says", "status"} <= set(board[0])
    assert "pigs (quick: not run, full: not run)\n" in pigs(Pigs())("claims").stdout
    assert pigs(Pigs())("claims", "run", "pigs", "--size", "huge").exit_code == 2
