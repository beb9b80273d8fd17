"""The paper's genome is found exactly; architectures are counted without memory; students learn."""

import sys
import types

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import OpMeter, stored_bytes  # noqa: E402
from isoflop.method.compress.compressor import (  # noqa: E402
    CODE_ENCODERS,
    Compressor,
    best_genome,
    encoder_fitness,
    encoder_megabytes,
    evolved_genome,
)
from isoflop.method.shrink import Data, Refused, Shrinking, Workload  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

SPACE = (("width", (4, 8, 16, 32)), ("depth", (1, 2, 3)))


def student(width, depth):
    """A network of the space; a width of 32 at depth 3 cannot be built."""
    if (width, depth) == (32, 3):
        raise ValueError("too large")
    layers = [nn.Linear(8, width), nn.Tanh()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 4))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _builders(monkeypatch):
    """Tests are no package that a builder could be imported from."""
    module = types.ModuleType("builders_of_a_test")
    module.student, module.other, module.needs_values = student, lambda width, depth: nn.Linear(8, 3), _needs_values
    monkeypatch.setitem(sys.modules, "builders_of_a_test", module)


def _needs_values(width, depth):
    class Branch(nn.Module):
        def forward(self, x):
            return x[:, :4] if x.sum().item() > 0 else -x[:, :4]

    return Branch()


def method(**changes):
    return Compressor(**{"build": "builders_of_a_test:student", "space": SPACE, "steps": 2, "batch": 8} | changes)


def task():
    net, x = student(64, 2), torch.randn(256, 8)
    with torch.no_grad():
        dev = Data((x[:64],), net(x[:64]))
    return Shrinking(net, Workload("toy", Data((x,)), dev, dev, lambda o, t: -((o - t) ** 2).mean(1)))


def run(method, task):
    meter = Meter()
    return list(method.run(task.open("toy", meter, None, 0), meter, np.random.default_rng(0)))


def test_the_papers_genome_of_3_mb_is_the_best_of_all_eleven_million():
    assert np.prod([len(choices) for choices in CODE_ENCODERS.values()]) == 10_944_000
    genome, fitness = best_genome(CODE_ENCODERS, encoder_fitness(3))
    assert genome == {"vocabulary": 1000, "heads": 8, "width": 96, "inner": 64, "layers": 12}
    assert fitness == pytest.approx(2.1915, abs=5e-5)
    assert encoder_megabytes(1000, 96, 64, 12) == pytest.approx(3.06, abs=0.005)


def test_a_genetic_search_may_find_it_and_never_finds_better():
    best = best_genome(CODE_ENCODERS, encoder_fitness(3))[1]
    found = [evolved_genome(CODE_ENCODERS, encoder_fitness(3), np.random.default_rng(s), 2000)[1] for s in range(3)]
    assert max(found) <= best
    assert min(found) > 0.5 * best


def test_it_keeps_the_contract():
    check_method(method(kept_bytes=(0.3,)), task())


def test_it_takes_the_architecture_with_most_flops_within_the_size():
    whole = task()
    for fraction, shrunk in zip((0.5, 0.1), run(method(kept_bytes=(0.5, 0.1), steps=0), whole)):
        limit = fraction * stored_bytes(whole.module)
        candidates = [(w, d) for w in SPACE[0][1] for d in SPACE[1][1] if (w, d) != (32, 3)]
        allowed = [student(*c) for c in candidates if stored_bytes(student(*c)) <= limit]
        x = whole.workload.dev.inputs[0]
        flops = []
        for module in (shrunk.module, *allowed):
            with OpMeter() as ops:
                module(x)
            flops.append(ops.flops)
        assert flops[0] == max(flops)
        assert stored_bytes(shrunk.module) <= limit


def test_a_genetic_search_stands_in_where_the_space_is_large():
    exact, evolved = (run(method(kept_bytes=(0.5,), steps=0, looks=looks), task())[0] for looks in (500, 11))
    assert evolved.note == exact.note


def test_sizes_below_the_smallest_end_the_list():
    assert len(run(method(kept_bytes=(0.5, 1e-4), steps=0), task())) == 1


def test_students_learn_from_outputs_alone():
    whole = task()
    x, exact = whole.workload.dev.inputs[0], whole.workload.dev.targets
    errors = [
        ((run(method(kept_bytes=(0.5,), steps=n, rate=0.01), whole)[0].module(x) - exact) ** 2).mean().item()
        for n in (0, 200)
    ]
    assert errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"build": ""}, "needs build="),
        ({"space": ()}, "needs build="),
        ({"build": "no_such_package:f"}, "cannot be loaded"),
        ({"build": "builders_of_a_test:nobody"}, "cannot be loaded"),
        ({"build": "builders_of_a_test:other"}, "returns shapes"),
        ({"build": "builders_of_a_test:needs_values"}, "cannot be counted|has 0.5 of the original's bytes"),
        ({"kept_bytes": (1e-4,)}, "0.0001 of the original's bytes or less"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, says):
    with pytest.raises(Refused, match=says):
        run(method(**changes), task())
