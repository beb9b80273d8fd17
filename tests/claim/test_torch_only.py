"""Claims that need torch are listed without it, and each has its comparison."""

import pytest

from isoflop.claim.base import CouldNotRunError, claims
from isoflop.claim.torch_only import imported


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
