"""Lists generated from the classes."""

from __future__ import annotations

import json
import subprocess
import sys

from isoflop.cli.catalogue import all_methods


def test_methods_tell_paper_cost_law_and_fields(isoflop):
    listed = {m["name"]: m for m in json.loads(isoflop("methods", "--json").stdout)}
    words = isoflop("methods").stdout
    assert set(listed) == set(all_methods())
    for name, method in all_methods().items():
        assert (listed[name]["paper"], listed[name]["cost"], listed[name]["buys"]) == (
            method.source,
            method.cost,
            method.buys,
        )
        assert f"{name}: {listed[name]['what']}\n" in words
    assert "stop=never (or confident)" in listed["self_consistency"]["fields"]


def test_one_method_is_told_in_full(isoflop):
    told = isoflop("methods", "best_of_n").stdout
    assert told.startswith("best_of_n(n=16, batch=4")
    assert "Args:" in told


def test_allocators_are_listed(isoflop):
    assert {a["name"] for a in json.loads(isoflop("allocators", "--json").stdout)} >= {"uniform", "first_success"}
    assert "uniform: Advance whatever has spent least" in isoflop("allocators").stdout
    assert isoflop("allocators", "first_success").stdout.startswith("first_success(at_least=0.95)")


def test_a_family_alone(isoflop):
    names = [m["name"] for m in json.loads(isoflop("methods", "--family", "compress", "--json").stdout)]
    assert "keep" in names
    assert "best_of_n" not in names
    failed = isoflop("methods", "--family", "magic")
    assert failed.exit_code == 2
    assert "unknown family magic; known are " in failed.stderr


def test_without_torch_the_other_methods_are_listed_and_shrink_says_what_it_needs():
    """In a process that cannot import it; nothing of isoflop imports torch before it is needed."""
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from isoflop.cli.app import app\n"
        "import isoflop\n"
        "try: isoflop.shrink\n"
        "except ModuleNotFoundError as error: print(error)\n"
        "app(sys.argv[1:])"
    )

    def without(*words):
        command = [sys.executable, "-c", script, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    listed = without("methods")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("isoflop.shrink needs torch: pip install 'isoflop[shrink]'")
    assert "best_of_n: " in listed.stdout
    assert "compress: needs torch: pip install 'isoflop[shrink]'" in listed.stderr
    shrunk = without("shrink", "a:b", "--task", "c:d")
    assert shrunk.returncode == 2
    assert "isoflop: shrink needs torch: pip install 'isoflop[shrink]'" in shrunk.stderr
