"""Lists generated from the classes."""

from __future__ import annotations

import json

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
