"""Model-written programs, run at arm's length."""

from isoflop.sandbox.checks import Asserts, Calls, Case, Checks, Stdio
from isoflop.sandbox.limits import Limits
from isoflop.sandbox.sandbox import Isolation, Sandbox
from isoflop.sandbox.verdict import Execution, Outcome, Verdict

__all__ = [
    "Asserts",
    "Calls",
    "Case",
    "Checks",
    "Execution",
    "Isolation",
    "Limits",
    "Outcome",
    "Sandbox",
    "Stdio",
    "Verdict",
]
