"""The hardware table: consistent, dated, and found by the names systems give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from isoflop.cost.hardware import GENERIC_CPU_CORE, HARDWARE, find, this_cpu


@pytest.mark.parametrize("part", [*HARDWARE, GENERIC_CPU_CORE], ids=lambda h: h.name)
def test_figures_are_of_the_right_size_and_dated(part):
    assert re.search(r"20\d\d-\d\d", part.source)
    assert part.kind in ("cpu", "gpu")
    assert (part.cores == 1) or part.kind == "cpu"
    watts_per_core = part.core_w
    assert 1 < watts_per_core < (20 if part.kind == "cpu" else 1500)
    best = max(part.flops_per_s.values())
    assert 3e9 < best / part.tdp_w < 1e13  # FLOP/J
    assert 1 < best / part.bytes_per_s < 1000  # FLOP a byte at the roofline's ridge
    order = [part.flops_per_s[p] for p in ("fp64", "fp32", "tf32", "fp16", "fp8") if p in part.flops_per_s]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("says", "name"),
    [
        ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763"),
        ("Intel(R) Xeon(R) Platinum 8480+", "Intel Xeon Platinum 8480+"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM 80 GB"),
        ("NVIDIA L4", "NVIDIA L4"),
        ("Tesla V100-SXM2-32GB", "NVIDIA V100 SXM2 32 GB"),
    ],
)
def test_a_part_is_found_by_the_name_the_system_gives(says: str, name: str):
    assert find(says).name == name


@pytest.mark.parametrize("says", ["NVIDIA L40S", "NVIDIA H100 PCIe", "AMD EPYC 77", "", "Apple M2 Max"])
def test_a_part_that_is_not_in_the_table_is_not_guessed(says: str):
    assert find(says) is None


def test_this_cpu_is_looked_up_and_generic_if_unknown(tmp_path: Path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\n")
    assert this_cpu(info).cores == 96
    info.write_text("processor\t: 0\nmodel name\t: AMD EPYC\n")
    assert this_cpu(info) is GENERIC_CPU_CORE
