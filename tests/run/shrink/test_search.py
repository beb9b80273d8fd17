"""The search finds what is known to be there, says why it left the rest, and pays for nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.run.shrink.toys import (  # noqa: E402
    MIDDLE,
    WHOLE,
    Blind,
    Deaf,
    Factor,
    Fail,
    Gated,
    H,
    Ladder,
    Misfit,
    No,
    Ruin,
    Skip,
    Train,
    build,
    data,
    right,
    task,
)

from isoflop.cost import Budget  # noqa: E402
from isoflop.method.shrink import Workload, WorkloadError  # noqa: E402
from isoflop.run.shrink import shrink  # noqa: E402

ROOT = Path(__file__).parents[3]
FACTORED = WHOLE - MIDDLE + 2 * 2 * 16 * H


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))


def logged():
    log = Path("log")
    return log.read_text().split("\n")[:-1] if log.exists() else []


def look(*methods, axis="flops", **options):
    return shrink(build(), task(), "0.9x", 1e6, options.pop("budget", []), axis=axis, only=methods, **options)


def verdicts(study):
    return {t.name: t.verdict for t in study.techniques}


def flops(study):
    return study.per_use(study.chosen).flops


def test_the_best_combination_is_found_and_both_orders_are_tried():
    study = look(Factor(), Skip())
    assert flops(study) == FACTORED - MIDDLE
    assert len(study.chosen.path) == 2
    (order,) = study.orders
    assert sorted(re.findall("factor then skip|skip then factor", order)) == ["factor then skip", "skip then factor"]
    saved = flops(study) * 1e6 + study.chosen.once.flops
    assert study.total(study.chosen) == pytest.approx(saved / 1e6)
    assert study.chosen.once.flops > 0


def test_a_spent_budget_loses_nothing_that_was_found():
    found = look(Factor(), Skip(), budget=["flops=1G"], folder="kept")
    again = look(Factor(), Skip(), budget=["flops=1"], folder="kept")
    assert again.chosen.name == found.chosen.name
    assert [c.name for c in again.candidates] == [c.name for c in found.candidates]


def test_a_spent_budget_answers_from_what_was_looked_at_before():
    """The best has not been timed and looked at on test, as after another floor or axis, and there is no budget to."""
    found = look(Factor(), Skip(), budget=["flops=1G"], folder="kept")
    for name in ("test.npz", "final.json"):
        (found.chosen.folder / name).unlink()
    again = look(Factor(), Skip(), budget=["flops=1"], folder="kept")
    assert again.chosen.name not in (found.chosen.name, again.original.name)
    assert again.chosen.test is not None
    assert "the budget ended before all finalists were verified" in " ".join(again.notices)


def test_a_curve_is_left_below_the_floor_and_what_is_below_is_never_chosen():
    study = look(Factor(), Ruin())
    assert logged().count("ruin 3") == 0
    assert verdicts(study)["ruin"] == "below the floor"
    assert (study.chosen.method, study.chosen.step) == ("factor", 1)
    assert study.quality(study.chosen.test).value > 0.8
    assert [e.status for e in study.ended if e.path == ("ruin",)] == ["stopped: below the floor from step 0 on"]
    thrown_out = [c for c in study.candidates if c.path == ("ruin",)]
    assert {len(c.dev) for c in thrown_out} == {64}, "a few examples suffice to see it"
    assert not any(c.has_module for c in thrown_out)


def test_what_does_not_apply_or_fails_is_named_and_the_study_goes_on():
    study = look(No(), Fail(), Fail("memory"), Misfit(), Skip())
    said = verdicts(study)
    assert said["no"] == "refused: there is nothing here that it handles"
    assert "failed: TypeError: layer of a kind never seen" in said["fail"]
    assert "failed: out of memory" in said["fail(what=memory)"]
    assert said["misfit"].startswith("failed: RuntimeError: mat1 and mat2")
    assert flops(study) == WHOLE - MIDDLE


def test_memory_that_torch_cannot_get_is_out_of_memory():
    assert "failed: out of memory" in verdicts(look(Fail("torch")))["fail(what=torch)"]


def test_with_nothing_cheaper_the_answer_is_to_do_nothing():
    study = look(Ruin(), No())
    assert study.chosen is study.original
    assert str(study).startswith("Do nothing")
    assert verdicts(study)["keep"] == "do nothing"


def test_where_uses_are_few_what_costs_more_once_than_it_saves_is_not_worth_it():
    study = shrink(build(), task(), "0.9x", 10, [], axis="flops", only=[Train()])
    once = study.candidates[0].once.flops
    assert study.chosen is study.original
    assert study.break_even(study.candidates[0]).value == pytest.approx(once / MIDDLE)
    assert shrink(build(), task(), "0.9x", 2 * once / MIDDLE, [], axis="flops", only=[Train()]).best.name == "train@0"
    assert logged() == ["train"], "the second study found the first one's work"


def test_a_conditional_module_has_mean_and_worst():
    study = look(Gated())
    c = study.chosen
    assert c.method == "gated"
    assert WHOLE - MIDDLE < study.per_use(c).flops < WHOLE == study.worst(c).flops
    share = study.share(c, "flops")
    assert share.low < share.value < share.high


def test_a_dear_method_does_not_starve_the_others_and_gets_what_is_left():
    """Each look at a method is small at first; what was found too dear then has its turn, or is named."""
    dear, cheap, name = Train(steps=2000), [Factor(), Skip()], "train(steps=2000)"
    once = 2000 * 64 * WHOLE
    study = look(dear, *cheap, budget=[Budget("flops", once)])
    assert verdicts(study)[name].startswith("skipped: needs flops=")
    assert len(study.chosen.path) == 2
    assert study.bill.total.flops < once
    assert logged().count("train") == 1
    richer = look(dear, *cheap, budget=[Budget("flops", 2 * once)])
    assert "train@0" in [c.name.replace("(steps=2000)", "") for c in richer.candidates]
    assert richer.bill.total.flops < 2 * once


def test_a_resumed_study_begins_only_what_now_fits():
    """What a method needs is known since it was skipped; a larger budget goes to those that it suffices for."""
    once, small, large = 64 * WHOLE, Train(steps=2000), Train(steps=8000)
    poor = look(small, large, Skip(), budget=[Budget("flops", 1500 * once)])
    needs = {e.path[0]: e.needs for e in poor.ended if e.needs}
    assert needs == {str(m): Budget("flops", m.steps * once) for m in (small, large)}
    assert sorted(logged()) == ["skip", "train", "train"]
    still = look(small, large, Skip(), budget=[Budget("flops", 1600 * once)])
    assert sorted(logged()) == ["skip", "train", "train"], "too little for either: nothing is begun, nothing is spent"
    assert still.bill.total.flops == poor.bill.total.flops
    richer = look(small, large, Skip(), budget=[Budget("flops", 3000 * once)])
    assert sorted(logged()) == ["skip", "train", "train", "train"]
    assert verdicts(richer)[str(small)].startswith("holds")
    assert verdicts(richer)[str(large)].startswith("skipped: needs flops=")


def test_a_curve_that_continues_goes_on_from_its_last_model_and_pays_for_none_twice():
    rung = 500 * 64 * WHOLE
    poor = look(Ladder(), budget=[Budget("flops", 1.8 * rung)])
    assert [c.note for c in poor.candidates] == ["rank 24"]
    assert [e.needs for e in poor.ended if e.path != ("keep",)] == [Budget("flops", rung)]
    richer = look(Ladder(), budget=[Budget("flops", 4 * rung)])
    assert logged() == ["rung 24", "rung 20", "rung 20", "rung 16"]
    assert [c.note for c in richer.candidates] == ["rank 24", "rank 20", "rank 16"]
    assert [round(c.once.flops / rung, 1) for c in richer.candidates] == [1, 2, 3]
    assert 3 * rung < richer.bill.total.flops < 3.2 * rung
    assert richer.chosen.note == "rank 16"


def test_single_methods_come_before_combinations_however_much_was_spent_before():
    """Of what is left now a part is kept for combinations, and not of all that there ever was."""
    rung = 500 * 64 * WHOLE
    look(Train(steps=6000), budget=[Budget("flops", 15 * rung)], folder="kept")
    study = look(Ladder(), Skip(), budget=[Budget("flops", 18 * rung)], folder="kept")
    assert logged().index("rung 20") < logged().index("rung 24", logged().index("rung 20"))
    assert {w.partition("@")[0] for w in study.chosen.path} == {"ladder", "skip"}


def test_a_look_at_what_was_made_is_not_cut_off_by_a_share():
    """A training that just fits its share; the look at the dev examples, worth four steps, does not."""
    step = 64 * WHOLE
    study = look(Train(steps=48), No(), budget=[Budget("flops", 400 * step)])
    assert logged() == ["train"]
    assert verdicts(study)["train(steps=48)"] == "chosen"


def test_what_would_fall_below_the_floor_together_is_not_combined():
    """Each loses a third of the answers, which the floor allows once."""
    study = shrink(build(), task(), "0.55x", 1e6, [], axis="flops", only=[Blind(), Deaf()])
    assert sorted(c.name for c in study.candidates if study.holds(c)) == ["blind@0", "deaf@0"]
    assert not [e for e in study.ended if len(e.path) > 1]
    both = shrink(build(), task(), "0.25x", 1e6, [], axis="flops", only=[Blind(), Deaf()])
    assert len(both.chosen.path) == 2


def test_what_failed_on_test_speaks_for_all_that_were_no_further_above_the_floor():
    """Blind and Deaf look well on dev data without the classes that they get wrong; one look at test tells both."""
    some, net = data(4000, 3), build()
    with torch.no_grad():
        known = (some.targets != 1) & (some.targets != 3) & (net(some.inputs[0]).argmax(1) == some.targets)
    easy = Workload("toy", data(64, 1), some.rows(known.nonzero().ravel()[:400]), data(400, 4), right)
    study = shrink(net, easy, "0.7x", 1e6, [], axis="flops", only=[Blind(), Deaf(), Factor()])
    failed = [v.candidate for v in study.verdicts if v.why.startswith("fails")]
    lows = [study.margin(c).low for c in failed]
    assert failed
    assert lows == sorted(lows)
    assert len({c.path for c in failed} - {("blind",)}) == 1, "one of those that the same two methods made"
    assert study.chosen.name == "factor@1"


def test_the_cheapest_in_need_come_first_and_the_last_gets_all_that_is_left():
    """After one step each what they need is known: the first look makes none whole, then all fit, one by one."""
    once = 64 * WHOLE
    methods = [Train(steps=n) for n in (3000, 1000, 2000)]
    study = look(*methods, budget=[Budget("flops", 9000 * once)])
    done = [c.path[0] for c in study.candidates if len(c.path) == 1]
    assert done == [str(methods[i]) for i in (1, 2, 0)]
    assert study.bill.total.flops < 9000 * once


def test_memory_is_not_shared_out():
    """Memory is given back, so each method may use all that the study may."""
    peak = look(Skip()).per_use(look(Skip()).original).peak_bytes
    study = look(Skip(), Factor(), No(), budget=[Budget("peak_bytes", 4 * 64 * peak)], folder="limited")
    assert len(study.chosen.path) == 2


def test_what_holds_on_dev_but_not_on_test_is_not_chosen():
    """Dev data all of the class that the ruined model always says: test tells, the next is taken, the study says so."""
    some = data(1600, 3)
    with torch.no_grad():
        zero = (some.targets == 0) & (build()(some.inputs[0]).argmax(1) == 0)
    easy = Workload("toy", data(64, 1), some.rows(zero.nonzero().ravel()), data(400, 4), right)
    study = shrink(build(), easy, "0.9x", 1e6, [], axis="flops", only=[Ruin(), Skip()])
    assert study.chosen.name == "skip@0"
    assert verdicts(study)["ruin"].startswith("fails on test: margin -")
    assert "ruin@0 fails on test" in str(study)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"floor": 0.99}, "the original itself misses the floor: it has 0.[89]"),
        ({"floor": "2x"}, "floor '2x' must be a share"),
        ({"uses": 0}, "uses=0 must be positive"),
        ({"axis": "usd"}, "axis 'usd' must be wall_s"),
        ({"only": ["magic"]}, "unknown method 'magic'; known are .*keep"),
        ({"budget": "wall=3"}, "budget 'wall=3' must read axis=amount"),
    ],
)
def test_bad_questions_get_one_answer(change, why):
    asked = {"floor": "0.9x", "uses": 1e6, "budget": "wall_s=60", "axis": "flops", "only": [Skip()]} | change
    with pytest.raises((WorkloadError, ValueError), match=why):
        shrink(build(), task(), **asked)
    assert logged() == []


def test_a_quality_of_zero_has_no_share():
    some = data(64, 1)
    with pytest.raises(WorkloadError, match="quality on dev is 0, so a share of it means nothing"):
        shrink(build(), Workload("toy", some, some, some, lambda o, t: o[:, 0] * 0), only=[Skip()])


def test_the_folder_of_another_study_is_refused():
    look(Skip(), folder="here")
    with pytest.raises(ValueError, match=r"here holds another study \(seed differ\)"):
        look(Skip(), folder="here", seed=1)


RUN = """
import torch
torch.set_num_threads(1)
from isoflop.run.shrink import shrink
from tests.run.shrink.toys import *
METHODS = [Skip(), Factor(killed_at=1)]
study = shrink(build(), task(), "0.9x", 1e6, "flops=1e12", axis="flops", only=METHODS, folder="kept")
print(study.chosen.name, study.bill.by_role["train"].flops)
"""


def test_a_killed_study_goes_on_and_pays_nothing_twice(tmp_path):
    """Killed inside the second method, before its second module: the first method's work is found again."""
    mark = tmp_path / "mark"
    mark.touch()
    env = os.environ | {"TOY_KILL": str(mark), "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}

    def run():
        return subprocess.run([sys.executable, "-c", RUN], env=env, capture_output=True, text=True, check=False)

    first = run()
    assert first.returncode == -signal.SIGKILL, first.stderr
    before = {p: p.stat().st_mtime_ns for p in Path("kept").rglob("dev.npz")}
    assert len(before) == 3, "the original, skip's module, the first of factor's"
    assert logged() == ["skip", "factor 24", "factor 16"]
    second = run()
    assert second.returncode == 0, second.stderr
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert "skip" not in logged()[3:6], "what had ended is not done again"
    assert logged()[3:6] == ["factor 24", "factor 16", "factor 2"], "what was cut off begins again"
    done = logged()
    assert run().stdout == second.stdout
    assert logged() == done, "a finished study computes nothing"
    assert not list(Path("kept").rglob(".*new*"))


def test_a_method_that_kills_its_process_every_time_is_given_up():
    look(No(), folder="kept")
    (home,) = (p for p in Path("kept").iterdir() if p.name.startswith("no-"))
    (home / "ended.json").rename(home / "begun.json")
    (home / "begun.json").write_text(json.dumps({"times": 2}))  # as processes leave it that die twice
    assert verdicts(look(No(), folder="kept"))["no"].startswith("failed: the process ended 2 times while it worked")


def test_progress_tells_stage_best_and_time_left():
    seen = []
    look(Factor(), Skip(), budget=["wall_s=600"], watch=seen.append)
    assert {s.stage for s in seen} >= {"methods alone", "combinations", "verifying on test"}
    assert seen[-1].best.endswith("x flops")
    assert all(0 < s.left_s <= 600 for s in seen)
    assert seen[-1].holding >= 4
    assert seen[-1].ended == seen[-1].of


def test_records_draw_the_frontier_and_its_picture():
    study = look(Factor(), Skip(), Gated())
    front = study.frontier
    assert front.points[0].name == study.chosen.method
    assert {r.split for r in study.records} == {"dev", "test"}
    assert {len(c.keys) for c in front.curves} == {256}
    assert study.frontier_on("peak_bytes").points[0].cost.value < study.per_use(study.original).peak_bytes
    assert len(front.plot().data) == len(front.curves) + 1
