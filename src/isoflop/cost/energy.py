"""Energy: measured where the machine has a counter, else an interval from the hardware table and what it assumes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from isoflop.cost.hardware import Hardware, this_cpu

POWERCAP = Path("/sys/class/powercap")


class NoCounter(Exception):  # noqa: N818 - a state of the machine, not a fault
    """This machine has no energy counter that can be read; the message says why, and what would change it."""


@dataclass(frozen=True, slots=True)
class Joules:
    """An amount of energy as an interval.

    Args:
        low: lower end (joules).
        mid: what to put on the `joules` axis (joules).
        high: upper end (joules).
        basis: how it was had: the counter that was read, or what the estimate assumes.
    """

    low: float
    mid: float
    high: float
    basis: str


def cpu_joules(busy_core_s: float, hardware: Hardware | None = None) -> Joules:
    """Energy of CPU work that kept cores busy for `busy_core_s` in all, from the hardware table.

    mid is the part's design power shared by its cores. low is half of it: one of two hyperthreads, or a package below
    its design power. high is twice it: memory, fans and power supply, or a core that has the package to itself.

    Args:
        busy_core_s: sum over cores of the time each was busy (core-seconds), as `time.process_time()` counts it.
        hardware: the CPU; this machine's if not given.

    Raises:
        ValueError: a negative or infinite time.

    >>> from isoflop.cost.hardware import GENERIC_CPU_CORE
    >>> cpu_joules(10, GENERIC_CPU_CORE).mid
    45.0
    """
    if not 0 <= busy_core_s < math.inf:
        raise ValueError(f"busy_core_s={busy_core_s} must be a finite number of core-seconds, not negative")
    part = this_cpu() if hardware is None else hardware
    mid = busy_core_s * part.core_w
    basis = f"{part.name}: {part.core_w:.3g} W a busy core (TDP over cores), within a factor of 2; {part.source}"
    return Joules(0.5 * mid, mid, 2 * mid, basis)


@dataclass(slots=True)
class _Zone:
    path: Path
    name: str
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def advance(self) -> None:
        now = _read(self.path / "energy_uj")
        # The counter starts again at 0 after its range; a second lap between two readings cannot be seen.
        self.total_uj += now - self.last_uj if now >= self.last_uj else now + self.range_uj - self.last_uj
        self.last_uj = now


class Rapl:
    """The processor's own energy counters (RAPL, on Intel and AMD), summed over packages and their memory.

    They count the whole package, so other programs on the machine are in the figure. Read at least once a lap of the
    counter, which is some minutes on a large server at full power.

    Args:
        root: the powercap folder.

    Raises:
        NoCounter: there is none, or it may not be read.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        # A package holds its cores and graphics; memory counts apart; psys would count everything a second time.
        paths = sorted(p for p in root.glob("intel-rapl:*") if p.is_dir()) if root.is_dir() else []
        self._zones: list[_Zone] = []
        for path in paths:
            try:
                name = (path / "name").read_text().strip()
                if name.startswith(("package", "dram")):
                    limit, now = _read(path / "max_energy_range_uj"), _read(path / "energy_uj")
                    self._zones.append(_Zone(path, name, limit, now))
            except PermissionError:
                raise NoCounter(
                    f"the energy counter in {path} may be read by root only; to allow it: chmod a+r {root}/*/energy_uj"
                ) from None
            except (OSError, ValueError) as error:
                raise NoCounter(f"the energy counter in {path} cannot be read: {error}") from error
        if not self._zones:
            raise NoCounter(f"no energy counter under {root} (virtual machines seldom have one)")

    def joules(self) -> float:
        """Energy since this object was made (joules).

        Raises:
            NoCounter: the counter has gone.
        """
        try:
            for zone in self._zones:
                zone.advance()
        except (OSError, ValueError) as error:
            raise NoCounter(f"an energy counter can no longer be read: {error}") from error
        return sum(zone.total_uj for zone in self._zones) * 1e-6

    def __str__(self) -> str:
        return f"RAPL, {', '.join(zone.name for zone in self._zones)}"


class EnergyMeter:
    """Joules of CPU work by the best means at hand: RAPL, else the hardware table.

    Args:
        hardware: the CPU for the table; this machine's if not given.
        root: the powercap folder.
    """

    def __init__(self, hardware: Hardware | None = None, root: Path = POWERCAP) -> None:
        self._hardware = this_cpu() if hardware is None else hardware
        self._spent = 0.0
        self._rapl: Rapl | None = None
        self.why_not_measured = ""
        """Empty while a counter is read; else why none is."""
        try:
            self._rapl = Rapl(root)
        except NoCounter as reason:
            self.why_not_measured = str(reason)

    def since_last(self, busy_core_s: float) -> Joules:
        """Energy since the last call, or since this object was made.

        Args:
            busy_core_s: what the work kept busy meanwhile (core-seconds); used where nothing is measured.
        """
        if self._rapl is not None:
            try:
                total = self._rapl.joules()
            except NoCounter as reason:
                self._rapl, self.why_not_measured = None, str(reason)
            else:
                step, self._spent = total - self._spent, total
                return Joules(step, step, step, f"measured: {self._rapl}, other programs included")
        return cpu_joules(busy_core_s, self._hardware)


def _read(path: Path) -> int:
    return int(path.read_text())
