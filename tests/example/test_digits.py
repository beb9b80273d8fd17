"""The network that reads digits is trained the same way each time, and its data are apart."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.example import digits  # noqa: E402
from isoflop.method.shrink import digest  # noqa: E402
from isoflop.model.base import ModelError  # noqa: E402
from isoflop.model.pull import absent  # noqa: E402

mnist = pytest.mark.skipif(bool(absent("mnist")), reason=absent("mnist"))


def test_flops_are_as_counted_by_hand():
    with torch.no_grad(), OpMeter() as ops:
        assert digits.network().eval()(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    sides = (14, 14, 14, 7, 7, 4, 4)
    by_hand = 2 * 9 * 16 * 14**2 + 2 * 64 * 10
    for a, b, side in zip(digits.WIDTHS, digits.WIDTHS[1:], sides[1:]):
        by_hand += 2 * (9 * a * b + 9 * b * b + (a * b if a != b else 0)) * side**2
    assert ops.flops == by_hand


@mnist
def test_the_splits_are_apart_and_all_of_it():
    work = digits.workload()
    parts = [work.calibration, work.dev, work.test]
    assert [len(p) for p in parts] == [3000, 1000, 1000]
    together = torch.cat([p.inputs[0] for p in parts])
    labels = torch.cat([p.targets for p in parts])
    assert labels.bincount().tolist() == [500] * 10
    different = together.view(5000, -1).unique(dim=0)
    assert len(different) == 5000


@mnist
def test_training_is_the_same_each_time_and_learns():
    work = digits.workload()
    few, more = (work.calibration.rows(slice(0, rows)) for rows in (100, 1000))
    same, again, other = (digest(digits.trained(digits.network(), few, 1, seed)) for seed in (0, 0, 1))
    assert same == again != other
    model = digits.trained(digits.network(), more, 3)
    with torch.no_grad():
        assert digits.right(model(work.dev.inputs[0]), work.dev.targets).mean() > 0.6


@mnist
def test_what_is_kept_is_used(monkeypatch):
    kept = digits.cache_dir() / "digits" / "residual-6.safetensors"
    if not kept.exists():
        pytest.skip("not trained yet: isoflop.example.digits.build() does, in half a minute")
    monkeypatch.setattr(digits, "trained", lambda *_: pytest.fail("trained again"))
    work = digits.workload()
    with torch.no_grad():
        assert digits.right(digits.build()(work.dev.inputs[0]), work.dev.targets).mean() > 0.97


def test_without_its_files_it_says_which_command_fetches_them(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for ask in (digits.build, digits.workload):
        with pytest.raises(ModelError, match="isoflop pull mnist"):
            ask()
