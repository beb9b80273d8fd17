"""The life of a worker: a line in, a line out, until there are no more.

Run as a script, with a file of functions and a limit of memory (bytes).
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import signal
import sys
from pathlib import Path


def serve(module: Path, memory_bytes: int) -> None:
    """Answer `[function, args, cpu_s]` with `["value", ...]`, or with what went wrong."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the module prints must not look like an answer
    spec = importlib.util.spec_from_file_location(module.stem, module)
    assert spec is not None
    assert spec.loader is not None
    functions = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(functions)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        function, args, cpu_s = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # nobody handles its signal: the kernel ends the process
        try:
            reply = ["value", getattr(functions, function)(*args)]
        except MemoryError:
            reply = ["memory", ""]
        except Exception as error:  # reported where it was asked
            reply = ["error", f"{type(error).__name__}: {error}"]
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
