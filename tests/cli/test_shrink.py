"""The command: the same answers as from Python, one message for each fault."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

TOYS = "tests.run.shrink.toys"


@pytest.fixture
def shrink(isoflop, monkeypatch):
    torch.set_num_threads(1)

    def shrink(*words, model=f"{TOYS}:build", task=f"{TOYS}:task"):
        return isoflop("shrink", model, "--task", task, "--axis", "flops", *words)

    return shrink


def test_nothing_to_try_is_an_answer(shrink, tmp_path):
    done = shrink("--only", "keep", "--floor", "0.9x", "-o", "report.html", "--save", "smaller")
    assert done.exit_code == 0, done.output
    assert "Do nothing: no cheaper model was shown to hold the floor of 0.9x" in done.stdout
    assert "wrote report.html" in done.stderr
    assert "Do nothing" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "smaller" / "README.md").exists()
    assert len(list((tmp_path / ".isoflop" / "shrink").iterdir())) == 1


def test_the_answer_for_a_machine(shrink):
    found = json.loads(shrink("--only", "keep", "--json", "--budget", "wall_s=1min", "--uses", "5").stdout)
    assert found["chosen"] == "keep@0"
    assert [t["verdict"] for t in found["techniques"]] == ["do nothing"]
    assert found["techniques"][0]["shares"]["flops"] == [1, 1, 1]


def test_models_and_tasks_of_ones_own_folder_are_found(shrink, tmp_path):
    package = tmp_path / "mypkg_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text(f"from {TOYS} import build as made\nnet = made()\n")
    assert shrink("--only", "keep", model="mypkg_of_a_test.models:net").exit_code == 0


@pytest.mark.parametrize(
    ("words", "changes", "why"),
    [
        ([], {"model": "nowhere.models:build"}, "model 'nowhere.models:build': there is no module nowhere on the path"),
        ([], {"model": "build"}, "model 'build' must read package.module:name"),
        ([], {"model": f"{TOYS}:nothing"}, "tests.run.shrink.toys has no nothing"),
        ([], {"model": f"{TOYS}:task"}, "gives a Workload; it must be, or return, a torch.nn.Module"),
        ([], {"task": f"{TOYS}:build"}, "gives a Sequential; it must be, or return, an isoflop.Workload"),
        ([], {"model": f"{TOYS}:Factors"}, "calling it raised TypeError"),
        (["--floor", "99%"], {}, "floor '99%' must be a share"),
        (["--floor", "0.99"], {}, "the original itself misses the floor"),
        (["--only", "magic"], {}, "unknown method 'magic'; known are "),
        (["--budget", "wall_s=0"], {}, "budget wall_s=0 must be a positive finite number"),
        (["-o", "report.pdf"], {}, "report.pdf: the ending must be .html"),
    ],
)
def test_each_fault_has_one_message(shrink, words, changes, why):
    failed = shrink(*words, **changes)
    assert failed.exit_code == 2
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("isoflop: ")]
    assert why in line
