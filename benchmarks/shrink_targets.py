"""What `shrink` and its methods were to reach, each beside what they do reach, in one table.

    python -m benchmarks.shrink_targets [--kept]

Runs the claims and tests that the figures come from, at full size: an hour or more. With `--kept` the claims' figures
are those of the evidence that comes with this version, so that only the tests run. What it cannot hold in one line has
a command of its own: `python -m benchmarks.decode` (SmolLM2 at 15 % more perplexity) and `python -m benchmarks.shrink`
(torchao, torch-pruning, quanto and NNCF on the same models, at three floors and on four axes).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from isoflop.claim.base import Finding, claims, kept_evidence


@dataclass(frozen=True)
class Target:
    """One figure to reach.

    Args:
        what: in words.
        wanted: the figure, in words.
        claim: whose findings at full size tell.
        begins: how the finding begins that tells.
        shown: its figures to print, by how their names begin; all without any.
    """

    what: str
    wanted: str
    claim: str
    begins: str
    shown: tuple[str, ...] = ()


TARGETS = (
    Target(
        "MiniLM in 4 bits, without data",
        "cosine .943, above clipped uniform",
        "nupes",
        "4 bits without data",
        ("cosine, even, clipped", "cosine, power, clipped", "cosine, power, learned"),
    ),
    Target(
        "MiniLM in 3 bits, without data",
        "cosine .800, above clipped uniform",
        "nupes",
        "3 bits without data",
        ("cosine, even, clipped", "cosine, power, clipped", "cosine, power, learned"),
    ),
    Target(
        "the same learned, 4 bits", "above without data", "nupes", "4 bits: learned on", ("once TFLOP, power, learned",)
    ),
    Target(
        "the same learned, 3 bits", "above without data", "nupes", "3 bits: learned on", ("once TFLOP, power, learned",)
    ),
    Target(
        "exits of a CNN on MNIST",
        "equal accuracy at 0.34x FLOPs",
        "deer_vla",
        "digits, by confidence: equal accuracy",
        ("whole accuracy", "least cost"),
    ),
    Target("their mean cost", "within 5 % of the budget", "deer_vla", "digits, by confidence: the realised mean"),
    Target(
        "CREPE tiny before full, held-out thresholds",
        ".98 of full's pitch accuracy at 0.5x FLOPs",
        "nano_drone",
        "a cascade keeps pitch accuracy",
        ("least cost, cascade by gain",),
    ),
    Target("the same beside a random router", "above it", "nano_drone", "cascade by gain is better than lots"),
    Target("Compressor's 3 MB genome", "found in under 1 s", "compressor", "the best of 10944000", ("seconds",)),
)

TESTS = {
    "a slice of ACM's learners is its gated computation": "tests/method/conditional/test_acm.py",
    "step by step is window by window": "tests/method/conditional/test_continual_inference.py",
    "agent attention: identity and FLOPs": "tests/method/architecture/test_agent_attention.py",
    "a state space model's convolution is its recurrence": "tests/method/conditional/test_selective_ssm.py",
    "leaving by similarity is refused where sink tokens fool it": "tests/method/conditional/test_mue.py",
    "bad input: one message each, resumable": "tests/run/shrink",
    "the same at the command line": "tests/cli/test_shrink.py",
}


def main() -> int:
    """Print the table; 1 where something was not reached."""
    find = _kept if "--kept" in sys.argv else _run
    found: Mapping[str, list[Finding]] = {slug: find(slug) for slug in dict.fromkeys(t.claim for t in TARGETS)}
    missed = 0
    print(f"{'what':60} {'wanted':44} {'reached':8} measured")
    for t in TARGETS:
        finding = next((f for f in found[t.claim] if f.what.startswith(t.begins)), None)
        missed += finding is None or not finding.holds
        reached = "untold" if finding is None else "yes" if finding.holds else "NO"
        figures = {} if finding is None else _shown(finding, t.shown)
        print(f"{t.what:60} {t.wanted:44} {reached:8} {', '.join(f'{k} {v}' for k, v in figures.items())}")
    for what, where in TESTS.items():
        failed = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", where], capture_output=True, check=False
        ).returncode
        missed += bool(failed)
        print(f"{what:60} {'tests pass':44} {'NO' if failed else 'yes':8} {where}", flush=True)
    return bool(missed)


def _shown(finding: Finding, names: tuple[str, ...]) -> dict[str, object]:
    return {k: v for k, v in finding.measured.items() if not names or k.startswith(names)}


def _kept(slug: str) -> list[Finding]:
    evidence = kept_evidence(slug, "full")
    return [] if evidence is None else evidence.findings


def _run(slug: str) -> list[Finding]:
    print(f"running the claim {slug} at full size", file=sys.stderr, flush=True)
    return claims()[slug].run("full").findings


if __name__ == "__main__":
    sys.exit(main())
