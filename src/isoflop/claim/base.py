"""What a paper claims, in words and as something that can be run."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, get_args

from isoflop.method.base import Part, parts
from isoflop.run.provenance import provenance

Size = Literal["quick", "full"]
SIZES: tuple[Size, ...] = get_args(Size)
Value = float | str | bool | list[float]

_KEPT = Path(__file__).parent / "evidence"


class CouldNotRunError(Exception):
    """A claim could not be tested here; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Finding:
    """One comparison that a claim rests on.

    Args:
        what: what was compared, in words.
        holds: whether it came out as claimed.
        measured: the figures, by name.
    """

    what: str
    holds: bool
    measured: Mapping[str, Value]


@dataclass(frozen=True)
class Evidence:
    """What testing a claim brought.

    Args:
        claim: its slug.
        size: `quick` or `full`.
        findings: the comparisons; the claim holds if all do.
        seconds: how long it took.
        made: versions, code and machine, and when (ISO date).
    """

    claim: str
    size: Size
    findings: list[Finding]
    seconds: float
    made: dict[str, object] = field(default_factory=dict[str, object])

    @property
    def holds(self) -> bool:
        """Whether every finding came out as claimed."""
        return all(f.holds for f in self.findings)

    def to_json(self) -> str:
        """As a file keeps it; `from_json` reads it back."""
        findings = [asdict(f) | {"holds": bool(f.holds)} for f in self.findings]  # NumPy's would become a string
        plain = asdict(self) | {"findings": findings, "holds": self.holds}
        return json.dumps(plain, indent=1, allow_nan=False, default=str) + "\n"

    @staticmethod
    def from_json(words: str) -> Evidence:
        """Evidence as `to_json` wrote it."""
        read = json.loads(words)
        findings = [Finding(**f) for f in read["findings"]]
        return Evidence(read["claim"], read["size"], findings, read["seconds"], read["made"])


class Claim(Part, ABC):
    """A paper's claim and the comparison that tests it; one file `<slug>.py` each.

    A claim that does not hold here is reported as such: `run` returns what was measured, whatever it was.
    """

    paper: ClassVar[str]
    """Title and where to find it."""
    says: ClassVar[str]
    """What the paper claims, in our words."""
    tested_by: ClassVar[str]
    """The comparison that tests it here."""

    @abstractmethod
    def findings(self, size: Size) -> list[Finding]:
        """Make the comparison.

        Raises:
            CouldNotRunError: something it needs is not here.
        """

    def run(self, size: Size = "quick") -> Evidence:
        """Test the claim: `quick` in seconds, `full` in minutes.

        Raises:
            CouldNotRunError: something it needs is not here.
            ValueError: unknown size.
        """
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}; use {' or '.join(SIZES)}")
        started = time.monotonic()
        findings = self.findings(size)
        seconds = time.monotonic() - started
        return Evidence(
            self.label(), size, findings, round(seconds, 1), provenance() | {"date": time.strftime("%Y-%m-%d")}
        )


def claims() -> dict[str, Claim]:
    """All claims by slug."""
    return {slug: claim() for slug, claim in sorted(parts(Claim, "isoflop.claim").items())}  # pyright: ignore[reportAbstractUsage] - parts() gives concrete ones


def kept_evidence(slug: str, size: Size) -> Evidence | None:
    """The evidence that this version ships for a claim, or None."""
    file = _KEPT / f"{slug}-{size}.json"
    return Evidence.from_json(file.read_text(encoding="utf-8")) if file.exists() else None


def keep(evidence: Evidence, folder: Path) -> Path:
    """Write evidence into a folder, whole or not at all; `kept_evidence` reads those of `claim/evidence`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{evidence.claim}-{evidence.size}.json"
    part = file.with_suffix(".part")
    part.write_text(evidence.to_json(), encoding="utf-8")
    part.replace(file)
    return file
