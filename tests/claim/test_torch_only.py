"""Claims that need torch are listed without it, and each has its comparison."""

import sys
from types import SimpleNamespace

import pytest

from isoflop.claim.base import CouldNotRunError, claims
from isoflop.claim.torch_only import compared, imported
from isoflop.model.base import ModelError


@pytest.mark.parametrize("slug", ["cbnet", "cema", "deer_vla", "eco_m2f", "mue", "nano_drone"])
def test_each_claim_has_its_comparison(slug):
    pytest.importorskip("torch")
    pytest.importorskip("tokenizers")
    pytest.importorskip("gguf")
    assert slug in claims()
    assert callable(imported(f"isoflop.claim.early.{slug}").findings)


def test_what_is_missing_is_named():
    with pytest.raises(CouldNotRunError, match="needs isoflop_nowhere"):
        imported("isoflop_nowhere")


def test_what_a_model_lacks_is_said(monkeypatch):
    def findings():
        raise ModelError("no weights here")

    monkeypatch.setitem(sys.modules, "isoflop_somewhere", SimpleNamespace(findings=findings))
    with pytest.raises(CouldNotRunError, match="no weights here"):
        compared("isoflop_somewhere")
