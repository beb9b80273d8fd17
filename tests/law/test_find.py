"""Laws by name."""

from __future__ import annotations

import pytest

from isoflop.law.find import law, names


def test_names_are_files_and_nothing_else():
    found = names()
    assert found["power_floor"] == "PowerFloor"
    assert "engine" not in found
    assert "base" not in found
    assert all(law(name, **({"schedules": ((1.0,),)} if name == "multi_power" else {})).slug == name for name in found)


def test_unknown_names_are_answered_with_the_list():
    with pytest.raises(ValueError, match=r"unknown law 'hoffmann'; there are .*chinchilla"):
        law("hoffmann")
