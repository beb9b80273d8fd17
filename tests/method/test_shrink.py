"""What shrinking methods get: data apart, and compute that is always charged."""

import copy
from dataclasses import dataclass
from typing import final

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Budget, BudgetExhausted, Meter  # noqa: E402
from isoflop.method.shrink import (  # noqa: E402
    Data,
    Original,
    Shrinking,
    ShrinkMethod,
    Shrunk,
    Workload,
    WorkloadError,
    digest,
)
from isoflop.testing import check_method  # noqa: E402

N, D = 6, 3
FORWARD = 2 * N * D * 2
STEP = 2 * FORWARD  # and the weights' gradient; the inputs need none


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def workload(**changes):
    data = Data((torch.randn(N, D),), torch.randn(N, 2))
    facts = {"calibration": data, "dev": data, "test": data, "score": lambda out, t: -((out - t) ** 2).mean(1)}
    return Workload("toy", **(facts | changes))


def original(meter=None, **changes):
    net = nn.Linear(D, 2)
    return Original(net, workload(**changes), Meter() if meter is None else meter, net)


def descend(problem, net):
    (inputs,) = problem.calibration.inputs
    problem.workload.imitation(net(inputs), problem.calibration.targets).backward()


def train(problem, net, steps):
    for _ in problem.repeat(steps, "train"):
        descend(problem, net)


def test_each_step_of_a_training_is_charged_as_much_as_the_first():
    problem = original()
    net = problem.copy()
    train(problem, net, 5)
    assert problem.meter.spent.flops == 5 * STEP
    assert set(problem.meter.by_role) == {"train"}


def test_a_training_that_cannot_be_finished_ends_after_the_step_that_tells_its_cost():
    problem = original(Meter([Budget("flops", 4.5 * STEP)]))
    net = problem.copy()
    with pytest.raises(BudgetExhausted) as refused:
        train(problem, net, 5)
    assert problem.meter.spent.flops == STEP
    assert refused.value.asked == 4 * STEP


def test_a_training_in_several_loops_ends_where_not_all_of_them_fit():
    problem = original(Meter([Budget("flops", 10 * STEP)]))
    net = problem.copy()
    steps = problem.repeat(5, "train", loops=3)
    with pytest.raises(BudgetExhausted) as refused:
        [descend(problem, net) for _ in steps]
    assert problem.meter.spent.flops == STEP
    assert refused.value.asked == 14 * STEP


def test_of_steps_that_differ_the_first_of_each_kind_is_counted():
    kinds = [1, 3, 1, 1, 3]

    def run(problem):
        for i in problem.repeat(5, "train", kinds=kinds):
            for _ in range(kinds[i]):
                problem.outputs(problem.module, problem.calibration)

    problem = original()
    run(problem)
    assert problem.meter.spent.flops == 9 * FORWARD
    short = original(Meter([Budget("flops", 8.5 * FORWARD)]))
    with pytest.raises(BudgetExhausted) as refused:
        run(short)
    assert (short.meter.spent.flops, refused.value.asked) == (4 * FORWARD, 5 * FORWARD)


@pytest.mark.parametrize(("budget_s", "steps"), [(150.0, 5), (135.0, 2)])
def test_the_time_to_come_is_told_by_the_second_step(monkeypatch, budget_s, steps):
    """The first one, which is counted, takes 100 s here, each other one 10 s: 140 s in all."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    problem, done = original(Meter([Budget("wall_s", budget_s)])), []
    try:
        for i in problem.repeat(5):
            now[0] += 10.0 if i else 100.0
            done.append(i)
    except BudgetExhausted as refused:
        assert (refused.spent, refused.asked) == (110.0, 30.0)
    assert len(done) == steps


def test_work_inside_work_is_charged_once():
    problem = original()
    with problem.spending("tune"):
        problem.outputs(problem.module, problem.calibration)
    for _ in problem.repeat(3):
        problem.outputs(problem.module, problem.calibration)
    assert problem.meter.spent.flops == 4 * FORWARD


def test_quality_is_the_workloads_figure_of_all_scores():
    problem = original(quality=lambda scores: float(np.exp(scores.mean())))
    scores = problem.workload.score(problem.module(*problem.workload.dev.inputs), problem.workload.dev.targets)
    assert problem.quality(problem.module, problem.workload.dev) == pytest.approx(scores.mean().exp().item())
    assert set(problem.meter.by_role) == {"verify"}


def test_without_targets_merit_is_likeness_to_the_teacher():
    problem = original(calibration=Data((torch.randn(N, D),)))
    other = nn.Linear(D, 2)
    assert problem.merit(problem.module) == 0 > problem.merit(other)


def test_a_digest_tells_weights_apart():
    net = nn.Linear(D, 2)
    other = copy.deepcopy(net)
    assert digest(net) == digest(other)
    with torch.no_grad():
        other.bias[0] += 1
    assert digest(net) != digest(other)
    assert Shrinking(net, workload()).digest == digest(net)


@final
@dataclass(frozen=True)
class Descend(ShrinkMethod):
    """Train a little."""

    steps: int = 3
    source, cost, buys = "none", "steps", "nothing"

    def run(self, problem, meter, rng):
        net = problem.copy()
        train(problem, net, self.steps)
        problem.outputs(net, problem.calibration)
        yield Shrunk(net, "trained")


def test_a_method_that_spends_keeps_the_contract():
    check_method(Descend(), Shrinking(nn.Linear(D, 2), workload()))


def test_bad_workloads_say_what_is_wrong():
    with pytest.raises(WorkloadError, match="without examples"):
        Data((torch.ones(0, 3),))
    with pytest.raises(WorkloadError, match=r"\[6, 5\] rows"):
        Data((torch.ones(6, 3),), torch.ones(5))
    with pytest.raises(WorkloadError, match="test data have no targets"):
        workload(test=Data((torch.ones(6, 3),)))
    raises, misshapen = original(score=lambda out, t: 1 / 0), original(score=lambda out, t: out - t)
    with pytest.raises(WorkloadError, match="ZeroDivisionError"):
        raises.quality(raises.module, raises.workload.dev)
    with pytest.raises(WorkloadError, match=r"shape \(6, 2\) for 6 examples"):
        misshapen.quality(misshapen.module, misshapen.workload.dev)
