"""What a study keeps comes back as it was, whole or not at all."""

import math

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from tests.run.shrink.toys import build, data, task  # noqa: E402

from isoflop.cost import Cost  # noqa: E402
from isoflop.run.shrink.kept import Bill, Candidate, Ended, Kept, about, workload_digest  # noqa: E402
from isoflop.run.shrink.measure import Measured  # noqa: E402

PATH = ("cast@1", "skip(n=2)")
DEV = Measured(*(np.arange(3.0) + i for i in range(4)))


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path / "kept", {"model": "a"})


def test_candidates_come_back(kept):
    made = kept.add(Candidate(PATH, 2, "note", Cost(flops=5, joules=math.nan), DEV), build())
    kept.add_test(made, DEV.then(DEV))
    (found,) = Kept(kept.folder, {"model": "a"}).of(PATH)
    assert (found.path, found.step, found.note, found.once.flops) == (PATH, 2, "note", 5)
    assert math.isnan(found.once.joules)
    assert found.name == "cast@1 then skip(n=2)@2"
    assert (found.dev.flops == DEV.flops).all()
    assert len(found.test) == 6
    assert torch.equal(found.module()[0].weight, build()[0].weight)
    assert kept.of(("skip(n=2)",)) == []


def test_what_cannot_be_pickled_leaves_nothing(kept):
    net = build()
    net.made_here = lambda: None
    with pytest.raises(ValueError, match="its module cannot be pickled"):
        kept.add(Candidate(PATH, 0, "note", Cost(), DEV), net)
    assert kept.of(PATH) == []
    assert not list(kept.folder.rglob(".new*"))


def test_below_the_floor_only_the_figures_are_kept(kept):
    assert not kept.add(Candidate(PATH, 0, "note", Cost(), DEV), None).has_module


def test_ends_beginnings_and_bills(kept):
    assert kept.ended(PATH) is None
    assert [kept.begin(PATH), kept.begin(PATH)] == [0, 1]
    kept.end(Ended(PATH, "ok"))
    assert kept.ended(PATH) == Ended(PATH, "ok")
    assert kept.begin(PATH) == 0
    kept.give_up(PATH)
    assert kept.begin(PATH) == 0
    assert kept.bill().total == Cost()
    kept.write_bill(Bill(3.0, {"tune": Cost(flops=2, wall_s=1), "train": Cost(flops=1)}))
    assert (kept.bill().total.flops, kept.bill().total.wall_s) == (3, 3.0)


def test_a_folder_that_cannot_be_read_says_so(kept):
    (kept.folder / "bill.json").write_text("{")
    with pytest.raises(ValueError, match=r"bill\.json cannot be read .*; remove it"):
        kept.bill()


def test_other_models_data_and_seeds_are_other_studies():
    same = about(build(), task(), 0)
    assert same == about(build(), task(), 0)
    assert same != about(build(), task(), 1)
    other = build()
    other[0].weight.data[0, 0] += 1
    assert about(other, task(), 0)["model"] != same["model"]
    facts = {k: getattr(task(), k) for k in ("name", "calibration", "dev", "score")}
    assert workload_digest(type(task())(**facts, test=data(256, 9))) != same["workload"]
