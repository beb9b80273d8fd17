"""Energy: counters that wrap, counters that are not there, and intervals otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.cost.energy import EnergyMeter, Joules, NoCounter, Rapl, cpu_joules
from isoflop.cost.hardware import GENERIC_CPU_CORE, find

RANGE = 1000_000


def zone(root: Path, path: str, name: str, energy_uj: int) -> Path:
    folder = root / path
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


def test_packages_and_memory_add_up_and_parts_of_a_package_do_not(tmp_path: Path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 100)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 50)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 10)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    psys = zone(tmp_path, "intel-rapl:2", "psys", 0)
    rapl = Rapl(tmp_path)
    assert rapl.joules() == 0
    for file, add in ((package, 5000), (core, 4000), (memory, 300), (second, 20), (psys, 9000)):
        file.write_text(str(int(file.read_text()) + add))
    assert rapl.joules() == pytest.approx(5320e-6)


def test_a_counter_that_starts_again_loses_nothing(tmp_path: Path):
    energy = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 100)
    rapl = Rapl(tmp_path)
    energy.write_text("400")
    assert rapl.joules() == pytest.approx(500e-6)
    energy.write_text("350")  # nearly a whole lap
    assert rapl.joules() == pytest.approx((500 + RANGE - 50) * 1e-6)


def test_no_counter_says_so(tmp_path: Path):
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NoCounter, match="no energy counter"):
            Rapl(root)
    zone(tmp_path, "intel-rapl:0", "package-0", 0).write_text("many")
    with pytest.raises(NoCounter, match="cannot be read"):
        Rapl(tmp_path)


def test_a_forbidden_counter_says_how_to_allow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    energy = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    real = Path.read_text

    def read_text(path: Path, *args: object, **kwargs: object) -> str:
        if path == energy:  # root, as which tests may run, may read anything
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(NoCounter, match=r"root only.*chmod a\+r"):
        Rapl(tmp_path)
    meter = EnergyMeter(GENERIC_CPU_CORE, tmp_path)
    assert "root only" in meter.why_not_measured
    assert meter.since_last(2.0) == cpu_joules(2.0, GENERIC_CPU_CORE)


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_estimates_are_ordered_and_add_up(a: float, b: float):
    part = find("AMD EPYC 7763")
    x, y, both = cpu_joules(a, part), cpu_joules(b, part), cpu_joules(a + b, part)
    assert x.low <= x.mid <= x.high
    assert x.mid + y.mid == pytest.approx(both.mid)
    assert x.mid == pytest.approx(a * 280 / 64)
    assert "within a factor of 2" in x.basis


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_time_must_be_one(bad: float):
    with pytest.raises(ValueError, match="core-seconds"):
        cpu_joules(bad)


def test_the_meter_reads_the_counter_where_there_is_one(tmp_path: Path):
    energy = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(GENERIC_CPU_CORE, tmp_path)
    assert meter.why_not_measured == ""
    energy.write_text("2000")
    assert meter.since_last(100.0).mid == pytest.approx(2e-3)
    energy.write_text("5000")
    step = meter.since_last(100.0)
    assert (step.low, step.high) == (pytest.approx(3e-3), pytest.approx(3e-3))
    assert "measured" in step.basis
    energy.unlink()
    assert meter.since_last(2.0) == Joules(4.5, 9.0, 18.0, cpu_joules(2.0, GENERIC_CPU_CORE).basis)
    assert "no longer" in meter.why_not_measured
