"""Model-written programs, run at arm's length."""

from isoflop.sandbox.checks import Asserts, Calls, Case, Checks, Stdio
from isoflop.sandbox.lane import Isolation, LaneError
from isoflop.sandbox.limits import Limits
from isoflop.sandbox.sandbox import Sandbox
from isoflop.sandbox.verdict import Execution, Outcome, Verdict

__all__ = [
    "Asserts",
    "Calls",
    "Case",
    "Checks",
    "Execution",
    "Isolation",
    "LaneError",
    "Limits",
    "Outcome",
    "Sandbox",
    "Stdio",
    "Verdict",
]
