"""What one program may use."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

PATIENCE = 30
"""Without a processor for this many times its allowance of elapsed time, a program is not to blame for being late."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one program may use; whoever goes over a limit fails, and the reason says over which.

    Processor time and elapsed time are apart: on a busy machine a correct program waits for its turn, and where the
    kernel tells that waiting it is counted against neither. A program and its tests have one processor between them.

    Args:
        cpu_s: processor time of the program with all that it starts; again as much for testing its answers (seconds).
        wall_s: elapsed time less the time spent waiting for a processor (seconds); ends programs that sleep or hang.
        memory_bytes: address space of each process, beyond the interpreter's own (bytes).
        file_bytes: any one file, and all that is printed; four times this for all files together (bytes).
        value_bytes: any one value returned to the tests, in transit (bytes).
        open_files: file descriptors of each process (count).
        processes: processes and threads alive at the same time, the program's own included (count).

    Raises:
        ValueError: a limit that is not positive and finite.
    """

    cpu_s: float = 5.0
    wall_s: float = 10.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    value_bytes: int = 64 << 20
    open_files: int = 64
    processes: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if not (limit > 0 and math.isfinite(limit)):
                raise ValueError(f"sandbox limit {field.name}={limit!r} must be a positive finite number")
