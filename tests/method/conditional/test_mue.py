"""Exits by similarity, in encoder and decoder; the trap of sink tokens is refused."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.conditional.blocks import find_chains  # noqa: E402
from isoflop.method.conditional.mue import Mue, SimilarityExit, Stage, mean_flops  # noqa: E402
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload, digest  # noqa: E402
from isoflop.model.base import ModelError  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

T, D = 6, 8


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self, strength):
        super().__init__()
        self.first, self.second, self.strength = nn.Linear(D, 2 * D), nn.Linear(2 * D, D), strength

    def forward(self, x):
        return x + self.strength * self.second(self.first(nn.functional.layer_norm(x, (D,))).tanh())


class Both(nn.Module):
    """An encoder and a decoder, whose blocks do less and less; the decoder sees the mean of the encoder."""

    def __init__(self, strengths=(1.0, 0.5, 0.1, 0.02, 0.01)):
        super().__init__()
        self.encoder = nn.ModuleList(Block(s) for s in strengths)
        self.decoder = nn.ModuleList(Block(s) for s in strengths)
        self.head = nn.Linear(D, 3)

    def forward(self, x):
        y = x.flip(1)
        for block in self.encoder:
            x = block(x)
        y = y + x.mean(1, keepdim=True)
        for block in self.decoder:
            y = block(y)
        return self.head(y)


class Pinned(nn.Module):
    """A block that turns all tokens but the first, which is massive and stays."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Linear(D, D, bias=False)
        nn.init.orthogonal_(self.turn.weight)

    def forward(self, x):
        return torch.cat([x[:, :1], self.turn(x[:, 1:])], 1)


class Massive(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Pinned() for _ in range(6))

    def forward(self, x):
        x = torch.cat([torch.full_like(x[:, :1], 1e3), x], 1)
        for block in self.blocks:
            x = block(x)
        return x[:, 1:] * 1.0


def task(net, n=90):
    x = torch.randn(n, T, D)
    with torch.no_grad():
        y = net(x)
    parts = [Data((x[i : i + n // 3],), y[i : i + n // 3]) for i in range(0, n, n // 3)]
    return Workload("tokens", *parts, score=lambda o, t: -((o - t) ** 2).mean((1, 2)), batch=30)


def run(method, net, work):
    problem = Original(net, work, Meter(), net)
    return list(method.run(problem, problem.meter, np.random.default_rng(0)))


def test_it_keeps_the_contract():
    net = Both((1.0, 0.01))
    check_method(Mue(budgets=(0.75,), steps=1), Shrinking(net, task(net, 24)))


def test_encoder_and_decoder_are_left_where_they_stop_changing_things():
    net = Both()
    work = task(net)
    before = digest(net)
    point = run(Mue(budgets=(0.9, 0.8, 0.7, 0.6), steps=5), net, work)[-1]
    assert digest(net) == digest(point.module.trunk) == before
    row = work.dev.rows([0])
    _, ran = point.module.depths(row.inputs)
    assert (ran < 5).all()  # both chains are left early
    assert all("forward" not in vars(m) for m in point.module.modules())
    free = Original(net, work, Meter(), net)
    assert free.quality(point.module, work.dev) > -0.01 * work.dev.targets.var().item()


def test_a_trained_trunk_learns_to_be_left_early_and_the_original_stays():
    net = Both((1.0, 1.0, 1.0))
    work, before = task(net), digest(net)
    free = Original(net, work, Meter(), net)
    frozen, trained = (run(Mue(budgets=(0.7,), steps=80, trained_trunk=t), net, work)[-1].module for t in (False, True))
    assert digest(net) == digest(frozen.trunk) == before != digest(trained.trunk)
    assert free.quality(trained, work.dev) > free.quality(frozen, work.dev)


def test_leaving_truly_skips_and_a_batch_changes_no_answer():
    net = Both()
    x = torch.randn(12, T, D)
    chains = find_chains(net, (x[:1],))
    model = SimilarityExit(net, [Stage(chain.blocks, D) for chain in chains], 0.0, "tokens")
    with torch.no_grad():
        alike = torch.cat([model.similarity(row[None], net.encoder[0](row[None])) for row in x])
    for threshold in (0.9, float(alike.median()), 0.99, 2.0):
        model.threshold = threshold
        with torch.no_grad():
            assert torch.allclose(model(x), torch.cat([model(row[None]) for row in x]), atol=1e-5)
            _, ran = model.depths((x[:1],))
            with OpMeter() as ops:
                model(x[:1])
        block = 2 * 2 * T * D * 2 * D
        maps = int((ran < 5).sum()) * 2 * T * D * D
        assert ops.flops == ran.sum() * block + maps + 2 * T * D * 3
        share = mean_flops(model, chains, Data((x[:1],)), 1)
        assert share == pytest.approx((ops.flops - maps) / chains[0].total)
    with torch.no_grad():
        assert torch.equal(model(x), net(x))  # nobody is alike to 2


def test_a_sink_token_hides_that_all_others_change_and_the_rule_is_refused():
    net = Massive()
    x = torch.randn(1, T, D)
    (chain,) = find_chains(net, (x,))
    model = SimilarityExit(net, [Stage(chain.blocks, D)], 0.999, "flattened")
    with torch.no_grad():
        assert int(model.depths((x,))[1]) == 1  # the first block seems to do nothing
        model.compared = "tokens"
        assert int(model.depths((x,))[1]) == 6
    work = task(net)
    with pytest.raises(Refused, match="compared=flattened would break the model: it reads at least"):
        run(Mue(compared="flattened", steps=0), net, work)


def test_blocks_that_change_shape_are_refused():
    net = nn.Sequential(
        nn.Sequential(nn.Linear(D, D)), nn.Sequential(nn.Linear(D, 2 * D)), nn.Sequential(nn.Linear(2 * D, D))
    )
    with pytest.raises(Refused, match="change shape"):
        run(Mue(), net, task(net))


def test_the_trap_of_a_real_language_model_is_refused():
    prose = pytest.importorskip("isoflop.example.prose")
    try:
        net, work = prose.build(), prose.workload(windows=2, tokens=16)
    except ModelError as error:
        pytest.skip(str(error))
    few = replace(work, calibration=Data((work.calibration.inputs[0].repeat(2, 1),)))
    with pytest.raises(Refused, match="compared=flattened would break the model: it reads at least (0.99|1.0)"):
        run(Mue(compared="flattened", budgets=(0.5,), steps=0), net, few)
