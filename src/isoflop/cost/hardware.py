"""Hardware: peak arithmetic, memory bandwidth and power of a few common parts, each figure with source and date."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Precision = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8"]


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a part can do at most, and the power it is built for.

    Args:
        name: as its maker calls it.
        kind: `cpu` or `gpu`.
        cores: physical cores of a CPU (count); 1 for a GPU, which is used as a whole.
        flops_per_s: peak rate by precision (FLOP/s, a multiply-add is two, no sparsity), of the whole part.
        bytes_per_s: peak memory bandwidth (bytes/s).
        tdp_w: thermal design power of the whole part (watts).
        matches: regular expression that finds it in the name the system gives.
        source: where the figures are from, and when they were noted.
    """

    name: str
    kind: Literal["cpu", "gpu"]
    cores: int
    flops_per_s: Mapping[Precision, float]
    bytes_per_s: float
    tdp_w: float
    matches: str
    source: str

    @property
    def core_w(self) -> float:
        """Power of one busy core when all are busy (watts)."""
        return self.tdp_w / self.cores


def _peak(**tera: float) -> Mapping[Precision, float]:
    return MappingProxyType({precision: value * 1e12 for precision, value in tera.items()})  # pyright: ignore[reportReturnType] - keywords are the precisions


# A CPU's fp32 peak is cores x base clock x 32 FLOP a cycle (two 256-bit multiply-adds) or 64 (two 512-bit ones).
HARDWARE: tuple[Hardware, ...] = (
    Hardware("NVIDIA B200 SXM", "gpu", 1, _peak(bf16=2250, fp16=2250, fp8=4500), 8.0e12, 1000, r"\bB200\b", "NVIDIA data sheet, dense, from memory, 2025-06"),  # noqa: E501
    Hardware("NVIDIA H100 SXM", "gpu", 1, _peak(fp64=34, fp32=67, tf32=494, bf16=989, fp16=989, fp8=1979, int8=1979), 3.35e12, 700, r"\bH100\b(?!.*PCIe)", "NVIDIA data sheet, dense, from memory, 2025-06; TDP as in mlco2/impact d0d3ee5"),  # noqa: E501
    Hardware("NVIDIA A100 SXM 80 GB", "gpu", 1, _peak(fp64=9.7, fp32=19.5, tf32=156, bf16=312, fp16=312, int8=624), 2.039e12, 400, r"\bA100\b.*80 ?GB", "NVIDIA data sheet, dense, from memory, 2025-06; bf16 and TDP as in mlco2/impact d0d3ee5"),  # noqa: E501
    Hardware("NVIDIA L4", "gpu", 1, _peak(fp32=30.3, bf16=121, fp16=121, fp8=242, int8=242), 3.0e11, 72, r"\bL4\b", "NVIDIA data sheet, dense, from memory, 2025-06; TDP as in mlco2/impact d0d3ee5"),  # noqa: E501
    Hardware("NVIDIA RTX 4090", "gpu", 1, _peak(fp32=82.6, bf16=165, fp16=165, fp8=330), 1.008e12, 450, r"\bRTX 4090\b", "NVIDIA Ada white paper, fp32 accumulate, dense, from memory, 2025-06; fp32 and TDP as in mlco2/impact d0d3ee5"),  # noqa: E501
    Hardware("NVIDIA T4", "gpu", 1, _peak(fp32=8.1, fp16=65, int8=130), 3.2e11, 70, r"\bT4\b", "NVIDIA data sheet, from memory, 2025-06; fp32, fp16 and TDP as in mlco2/impact d0d3ee5"),  # noqa: E501
    Hardware("NVIDIA V100 SXM2 32 GB", "gpu", 1, _peak(fp64=7.8, fp32=15.7, fp16=125), 9.0e11, 300, r"\bV100\b.*32 ?GB", "NVIDIA data sheet, from memory, 2025-06; TDP as in mlco2/impact d0d3ee5"),  # noqa: E501
    Hardware("AMD EPYC 7763", "cpu", 64, _peak(fp64=2.51, fp32=5.02), 2.048e11, 280, r"EPYC 7763\b", "AMD product page, 2.45 GHz base, 8 x DDR4-3200, from memory, 2025-06"),  # noqa: E501
    Hardware("AMD EPYC 9654", "cpu", 96, _peak(fp64=3.69, fp32=7.37), 4.608e11, 360, r"EPYC 9654\b", "AMD product page, 2.4 GHz base, 12 x DDR5-4800, from memory, 2025-06"),  # noqa: E501
    Hardware("Intel Xeon Platinum 8480+", "cpu", 56, _peak(fp64=3.58, fp32=7.17), 3.072e11, 350, r"Platinum 8480", "Intel ARK, 2.0 GHz base, 8 x DDR5-4800, AMX not counted, from memory, 2025-06"),  # noqa: E501
    Hardware("Apple M2", "cpu", 8, _peak(fp32=0.45), 1.0e11, 20, r"Apple M2$", "CPU only: 4 fast and 4 slow cores, power a reviewers' measurement, from memory, 2025-06"),  # noqa: E501
)  # fmt: skip
GENERIC_CPU_CORE = Hardware("generic CPU core", "cpu", 1, _peak(fp64=0.04, fp32=0.08), 3.2e9, 4.5, r"(?!)", "one core of a 64-core server at 280 W, 2.5 GHz, two 256-bit multiply-adds a cycle: an assumption, 2025-06")  # noqa: E501 # fmt: skip


def find(name: str) -> Hardware | None:
    """The part that the system calls `name`, or None.

    >>> find("AMD EPYC 7763 64-Core Processor").tdp_w
    280
    >>> find("Abacus") is None
    True
    """
    return next((h for h in HARDWARE if re.search(h.matches, name)), None)


def this_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Hardware:
    """The CPU of this machine, or a generic core where the table does not have it (as in most virtual machines)."""
    try:
        model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        model = None
    return find(model[1].strip() if model else platform.processor()) or GENERIC_CPU_CORE
