"""All benchmarks, one after the other, each in a process of its own.

python -m benchmarks [name ...]
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path


def names() -> dict[str, str]:
    """The benchmarks there are, with what each says of itself: files of this folder with a `main`."""
    found: dict[str, str] = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return {name: says for name, says in found.items() if name != "__main__"}


def main() -> int:
    """Run those named, or all; 1 if any of them failed."""
    known = names()
    asked = sys.argv[1:] or list(known)
    if unknown := [name for name in asked if name not in known]:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    failed: list[str] = []
    for name in asked:
        print(f"\n== {name}: {known[name]}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    print(
        f"\n{len(asked) - len(failed)} of {len(asked)} benchmarks ran"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
