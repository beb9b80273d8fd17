"""What a scaled network spends, against counts by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from isoflop.claim.network.residual import as_built, measure  # noqa: E402


def test_counts_are_those_by_hand():
    """Three blocks a stage, three stages: 16 channels at 32 pixels, 32 at 16, 64 at 8."""
    spent = measure([(1.0, 1.0, 1.0)], 1)[0]
    flops, activations, before = 0, 0, 3
    for channels, side in ((16, 32), (32, 16), (64, 8)):
        flops += 2 * 9 * side * side * channels * (before + 5 * channels)
        activations += 6 * side * side * channels
        before = channels
    assert spent.activations == activations
    assert spent.flops == pytest.approx(flops, rel=0.01), "sums, biases and the mean are little"
    assert spent.seconds > 0


def test_scaling_goes_by_whole_parts():
    assert as_built(2.0, 1.5, 2.0) == (2.0, 1.5, 2.0)
    assert as_built(0.1, 0.01, 1.0) == (1 / 3, 1 / 16, 1.0)
    one, two = measure([(1.1, 1.03, 1.0), (1.0, 1.0, 1.0)], 1)
    assert one[:2] == two[:2]
