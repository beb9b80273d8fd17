"""The scan is the recurrence it says, a convolution where nothing is selected, and runs on over what is left out."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from isoflop.method.conditional.selective_ssm import SelectiveSsm, SsmBlock  # noqa: E402

B, T, D, INNER, N = 2, 11, 5, 6, 3


@pytest.fixture(autouse=True)
def _still():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def unselective():
    """Steps and selections that are the same for every token: a linear time-invariant system."""
    layer = SelectiveSsm(D, INNER, N)
    with torch.no_grad():
        layer.step.weight.zero_()
        layer.selects.weight.zero_()
        layer.selects.bias.normal_()
    return layer


def test_where_nothing_is_selected_it_is_a_convolution():
    layer, u = unselective(), torch.randn(B, T, INNER)
    dt = functional.softplus(layer.step.bias)
    b, c = layer.selects.bias.chunk(2)
    powers = torch.arange(T)[:, None, None] * dt[:, None] * -layer.rates.exp()
    kernel = (powers.exp() * b * c).sum(2) * dt
    kernel[0] += layer.skip
    padded = functional.pad(u.transpose(1, 2), (T - 1, 0))
    convolved = functional.conv1d(padded, kernel.T.flip(1).unsqueeze(1), groups=INNER)
    assert torch.allclose(layer.scan(u), convolved.transpose(1, 2), atol=1e-5)


def test_running_on_over_what_is_left_out_is_scanning_nothing_there():
    layer = unselective()
    layer.usual_step.copy_(functional.softplus(layer.step.bias.detach()))
    u = torch.randn(B, T, INNER)
    stay = [0, 1, 4, 5, 9]
    emptied = torch.zeros_like(u)
    emptied[:, stay] = u[:, stay]
    left_out = torch.tensor([0.0, 0, 2, 0, 3]).expand(B, -1)
    ours = layer.scan(u[:, stay], left_out)
    assert torch.allclose(ours, layer.scan(emptied)[:, stay], atol=1e-6)
    assert not torch.allclose(layer.scan(u[:, stay]), ours, atol=1e-3)


def test_a_token_does_not_see_those_after_it():
    block, x = SsmBlock(D, INNER, N), torch.randn(B, T, D)
    changed = x.clone()
    changed[:, 7:] += 1
    assert torch.equal(block(x)[:, :7], block(changed)[:, :7])
    assert block.scored(x)[1].min() >= 0
