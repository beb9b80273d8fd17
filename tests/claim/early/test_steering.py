"""The expert comes to its goals, and policies are driven as they would drive alone."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from isoflop.claim.early.steering import (  # noqa: E402
    Driven,
    demonstrations,
    driven,
    driven_early,
    episodes,
    expert,
    forward_flops,
    observed,
    policy,
    scenes,
    trained,
    training_flops,
    workload,
)
from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.conditional.deer_vla import DeerVla  # noqa: E402
from isoflop.method.shrink import Original  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_the_expert_always_arrives_and_who_goes_straight_often_does_not():
    start = scenes(300, 0)
    assert len(start) == 300
    assert episodes(start, expert).all()
    straight = episodes(start, lambda scene: scene[:, 2:4] - scene[:, :2])
    assert 0.3 < straight.mean() < 0.8


def test_only_hands_under_way_are_asked():
    start, asked = scenes(100, 1), []
    there = episodes(start, lambda scene: asked.append(len(scene)) or expert(scene))
    assert there.all()
    assert asked[0] == 100
    assert sorted(asked, reverse=True) == asked
    assert asked[-1] < 100


def test_a_hand_inside_the_ring_is_led_outwards():
    scene = np.array([[0.0, 0.0, 1.0, 0.0, 0.42, 0.0, 0.4]])  # just outside of the disc, and inside of the ring
    assert (expert(scene) * (scene[:, 4:6] - scene[:, :2])).sum() < 0


def test_demonstrations_show_what_the_expert_does():
    data = demonstrations(500, 3)
    assert len(data) == 500
    assert torch.allclose(data.targets.norm(dim=1), torch.ones(500))
    assert torch.equal(data.inputs[0], demonstrations(500, 3).inputs[0])
    assert not torch.equal(data.inputs[0], demonstrations(500, 4).inputs[0])


def test_trainings_cost_what_they_say():
    steps, data = 3, demonstrations(300, 0)
    flops = training_flops(2, steps)
    with OpMeter() as ops:
        trained(2, data, flops)
    # All but the gradient of what the policy sees, and one look that tells the cost.
    assert ops.flops == flops - steps * 200 * 2 * 5 * 32 + forward_flops(policy(2))


def test_a_policy_learns_to_go_around():
    start, data = scenes(200, 5), demonstrations(4000, 1)
    before, after = driven(policy(3), start), driven(trained(3, data, training_flops(3, 300)), start)
    assert after.success > before.success + 0.3
    assert after.as_good_as(before)
    assert not before.as_good_as(after)
    assert Driven(after.there, 1.0).success == after.there.mean()


def test_a_policy_that_leaves_early_is_driven_as_if_alone():
    work, start = workload(2000), scenes(40, 5)
    module = trained(4, work.calibration, training_flops(4, 100))
    problem = Original(module, work, Meter(), module)
    (found,) = DeerVla(budgets=(0.7,), exits=3, steps=30).run(problem, problem.meter, np.random.default_rng(0))
    drove = driven_early(found.module, start)
    spent = []

    def alone(scene):
        actions = []
        for row in scene:
            with OpMeter() as ops, torch.no_grad():
                actions.append(found.module(observed(row[None]))[0].double().numpy())
            spent.append(ops.flops)
        return np.stack(actions)

    assert (episodes(start, alone) == drove.there).all()
    assert drove.flops == pytest.approx(np.mean(spent))
    last = np.eye(4)[3]
    by_lot = driven_early(found.module, start, last)
    assert (by_lot.there == driven(module, start).there).all()
    assert by_lot.flops == pytest.approx(found.module.costs((observed(start[:1]),))[3])
