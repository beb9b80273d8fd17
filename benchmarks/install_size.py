"""How large a fresh installation is, extra by extra: installed, `du` of site-packages, without pip and bytecode.

Prints the size of site-packages after the core and what each extra adds to it, in this order (what two extras share is
the first one's), without pip itself.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

EXTRAS = ("gguf", "math", "code", "parquet", "plot", "ray", "torch")
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Install and measure."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / "bin" / "python"
        (packages,) = Path(folder).glob("lib/python*/site-packages")
        before = empty = size(packages)
        for extra in ("", *EXTRAS):
            words = ["-m", "pip", "install", "--quiet", "--no-compile", "--constraint", str(ROOT / "constraints.txt")]
            subprocess.run([python, *words, f"{ROOT}[{extra}]" if extra else str(ROOT)], check=True)
            now = size(packages)
            print(
                f"{extra or 'core':8} {(now - before) / 1e6:8.1f} MB   {(now - empty) / 1e6:8.1f} MB in all", flush=True
            )
            before = now


def size(folder: Path) -> int:
    """Bytes in the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main()
