"""Model-written programs, run at arm's length.

A lane is a warm process that has its programs forked, one after the other, from a nursery that was confined before it
saw any: a process table, a network and a root directory of its own with nothing but Python's and the system's
libraries, a user of its own, limits on processor time, memory, files and processes, landlock, and a filter of system
calls; `Sandbox.isolation()` says which of these are in force on this machine, and the rest is done without. Tests run
in another process, the judge, confined alike. It has the program's process do what the tests ask for and takes back
plain values only, so that no object of a program ever meets a test; the program's process never holds the tests or
their expected results, nor a connection on which a verdict could be forged. What is left of a program when its verdict
is in, is killed, and its directory cleared.

What this does not protect against: there is no hypervisor. Programs share the machine's kernel, so a hole in that is a
way out; give programs that somebody may have written to break out a virtual machine around all this. Timing and other
side channels between programs are open. A program may read what lies below /usr. Whoever may change the lane's process
(the same user, root) may change its verdicts. Where `isolation()` names something as missing, that protection is
missing: without namespaces and landlock a program can read what its user can, and without seccomp as well it has the
network.
"""

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
