"""Exits are trained alone or with the trunk, and what that takes is charged."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Budget, BudgetExhausted, Meter  # noqa: E402
from isoflop.method.conditional.exit_training import Plan, batches, split, train_answers, trained_exits  # noqa: E402
from isoflop.method.conditional.exits import Never  # noqa: E402
from isoflop.method.shrink import Data, Original, Refused, Workload, digest  # noqa: E402

D, N, BATCH, BLOCKS = 6, 400, 20, 4
EXITS = BLOCKS - 1
BLOCK, TAIL, MAP = 2 * D * D, 2 * D * 2, 2 * D * D  # FLOPs of an example


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(D, D)

    def forward(self, x):
        return x + self.map(x).tanh()


def problem(meter=None, targets=True):
    net = nn.Sequential(nn.Sequential(*(Step() for _ in range(BLOCKS))), nn.Linear(D, 2))
    x = torch.randn(N, D)
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin()], 1)
    data = Data((x,), y if targets else None)
    known = Data((x,), y)
    work = Workload(
        "products", data, known, known, lambda o, t: -((o - t) ** 2).mean(1), loss=nn.functional.mse_loss, batch=BATCH
    )
    return Original(net, work, Meter() if meter is None else meter, net)


def trained(owner, steps, trunk, growth=0.0):
    return trained_exits(owner, Plan(EXITS, steps, trunk, "", 0.3, growth), np.random.default_rng(0))


def errors(owner, model):
    with torch.no_grad():
        _, exits, last = model.every(*owner.workload.dev.inputs)
    return [-float(owner.workload.scores(out, owner.workload.dev).mean()) for out in (*exits, last)]


def test_a_trunk_trained_with_its_exits_is_better_at_each_and_the_original_stays():
    owner = problem()
    before = digest(owner.module)
    alone, together = (trained(owner, 150, trunk).model for trunk in (False, True))
    assert digest(owner.module) == digest(alone.trunk) == before != digest(together.trunk)
    assert all(b < a for a, b in zip(errors(owner, alone), errors(owner, together), strict=True))


def test_without_targets_all_exits_learn_what_the_teacher_says():
    owner = problem(targets=False)
    made = trained(owner, 100, trunk=True)
    with torch.no_grad():
        told = owner.teacher(*owner.calibration.inputs)
        _, exits, _ = made.model.every(*owner.calibration.inputs)
    assert float(((exits[-1] - told) ** 2).mean()) < 0.1 * float(told.var())


def test_exits_that_weigh_more_are_learnt_better_by_the_trunk():
    owner = problem()
    even, late = (errors(owner, trained(owner, 150, True, growth).model) for growth in (0.0, 12.0))
    assert even[0] < late[0]
    assert late[-1] < even[-1]


def test_each_step_is_charged_with_its_gradients():
    spent = []
    for steps in (0, 10, 20):
        owner = problem()
        trained(owner, steps, trunk=True)
        spent.append(owner.meter.by_role["train"].flops if steps else 0.0)
    assert spent[2] == 2 * spent[1]
    forward = BLOCKS * BLOCK + TAIL + EXITS * (MAP + TAIL)
    first = BLOCK  # of whose inputs nobody wants the gradient
    taught = BLOCKS * BLOCK + TAIL
    trunk = 3 * forward - first + taught
    heads = EXITS * (3 * MAP - MAP + 2 * TAIL)  # alone: the tail is not trained, nor what comes into the map
    assert spent[1] == 10 * BATCH * (trunk + heads)


def test_a_training_that_does_not_fit_is_not_begun():
    owner = problem(Meter([Budget("flops", 2e6)]))
    with pytest.raises(BudgetExhausted):
        trained(owner, 10_000, trunk=True)
    assert owner.meter.spent.flops < 1e6


def test_answers_of_a_kind_cost_the_same_and_are_counted_once():
    owner = problem()
    net = owner.copy()
    kinds = [1, 2, 1, 2, 2]
    train_answers(
        owner,
        net.parameters(),
        kinds,
        lambda times, part: [(1.0, net(*part.inputs)) for _ in range(times)],
        owner.calibration,
        torch.Generator().manual_seed(0),
    )
    whole = BLOCKS * BLOCK + TAIL
    assert owner.meter.spent.flops == BATCH * (8 * (3 * whole - BLOCK) + 5 * whole)


def test_what_is_held_back_is_not_trained_on():
    owner = problem()
    made = trained(owner, 0, trunk=False)
    assert len(made.held) == 0.3 * N
    assert isinstance(made.model.rule, Never)
    fit, held = split(owner.calibration, 0.25, np.random.default_rng(0))
    rows = torch.cat([fit.inputs[0], held.inputs[0]])
    assert (len(fit), len(held)) == (300, 100)
    assert torch.equal(rows.sort(0).values, owner.calibration.inputs[0].sort(0).values)
    with pytest.raises(Refused, match="too few"):
        split(held.rows([0]), 0.5, np.random.default_rng(0))


def test_batches_go_through_all_examples_before_any_comes_again():
    order = batches(7, 3, torch.Generator().manual_seed(0))
    for _ in range(3):
        seen = torch.cat([next(order), next(order)])
        assert len(seen.unique()) == 6
    assert len(next(batches(2, 3, torch.Generator()))) == 2
