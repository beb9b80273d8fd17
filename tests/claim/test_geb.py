"""What the claim rests on is measured, whatever comes out; without an extra it could not be tested."""

from __future__ import annotations

import importlib

import pytest

from isoflop.claim import CouldNotRunError, claims
from isoflop.claim.geb import _quality, _speed

GEB = claims()["geb"]


def test_quick_measures_speed_and_quality_of_both_precisions():
    found = GEB.run("quick").findings
    assert len(found) == 5
    *speeds, quality = found
    for full, small in zip(speeds[::2], speeds[1::2], strict=True):
        assert full.measured["fp32_tokens_per_cpu_s"] > 0
        assert small.holds == (small.measured["8bit_over_fp32"] > 1)
    assert 0 <= quality.measured["pass@1_8bit"] <= 1
    assert quality.measured["loss_8bit"] != quality.measured["loss_fp32"]


@pytest.mark.parametrize(("missing", "extra"), [("isoflop.example.eight_bit", "tiny")])
def test_without_an_extra_it_could_not_be_tested(monkeypatch, missing, extra):
    real = importlib.import_module

    def without(name):
        if name == missing:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name)

    monkeypatch.setattr("isoflop.claim.geb.importlib.import_module", without)
    with pytest.raises(CouldNotRunError, match=rf"needs torch: pip install 'isoflop\[{extra}\]'"):
        GEB.run("quick")


class Timed:
    """In place of a measurement."""

    def __init__(self, full: float, small: float) -> None:
        self.found = [[full] * 5, [small] * 5]

    def speeds(self, *_, rounds):
        return self.found

    def ratio(self, speeds):
        return speeds[1][0] / speeds[0][0]


def test_it_fails_where_eight_bits_are_slower_or_lose_quality():
    assert [f.holds for f in _speed(Timed(100, 150), [], None, "x")] == [True, True]
    assert [f.holds for f in _speed(Timed(100, 80), [], None, "x")] == [True, False]
    assert [f.holds for f in _speed(Timed(3, 4), [], None, "x")] == [False, True]
    assert _quality("x", [1.0, 1.005], {}).holds
    assert not _quality("x", [1.0, 1.02], {}).holds
