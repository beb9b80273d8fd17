"""The shipped weights: one safetensors file a model, told apart and guarded by their digests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load, save

from isoflop.model.base import ModelError
from isoflop.model.tiny.decoder import Architecture, Decoder

SHIPPED = Path(__file__).parent / "weights"
_MANIFEST = "digests.json"


def names(folder: Path = SHIPPED) -> list[str]:
    """The models of a folder, smaller ones of a task first."""

    def order(name: str) -> tuple[str, float]:
        task, _, size = name.rpartition("-")
        return task, float(size.removesuffix("k"))

    return sorted((stem for stem in _manifest(folder) if "." not in stem), key=order)


def located(name: str) -> tuple[str, Path]:
    """A model's own name and its folder, for a shipped model's name, a folder of one model, or `<folder>/<name>`.

    Raises:
        ValueError: a folder with no model or several; the message lists them.
    """
    folder = Path(name)
    if name in names() or not (folder.is_dir() or "/" in name):
        return name, SHIPPED
    if not folder.is_dir():
        return folder.name, folder.parent
    there = names(folder)
    if len(there) != 1:
        held = ", ".join(there) or "none"
        raise ValueError(f"{folder} must hold one tiny model, or be named as {folder}/<model>; it holds {held}")
    return there[0], folder


def write(decoder: Decoder, task: str, folder: Path = SHIPPED) -> str:
    """Put a model into a folder and its digest into the folder's manifest.

    Args:
        decoder: the model.
        task: what it was trained on.
        folder: where to.

    Returns:
        Its name: the task and the thousands of its parameters, such as `chain-34k`.
    """
    name = f"{task}-{round(decoder.architecture.shape.params / 1000)}k"
    # Keys sorted, so that equal weights make an equal file.
    metadata = {"architecture": json.dumps(asdict(decoder.architecture), sort_keys=True)}
    content = save({key: value.contiguous() for key, value in sorted(decoder.state_dict().items())}, metadata)
    keep(name, content, folder)
    return name


def keep(stem: str, content: bytes, folder: Path = SHIPPED) -> None:
    """Put a safetensors file into a folder and its digest into the folder's manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.safetensors").write_bytes(content)
    manifest = {**_manifest(folder), stem: hashlib.sha256(content).hexdigest()}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def kept(stem: str, folder: Path = SHIPPED) -> tuple[bytes, str]:
    """A file of a folder and its digest.

    Raises:
        ModelError: it is missing, or is not the one that the manifest knows.
    """
    path, known = folder / f"{stem}.safetensors", _manifest(folder).get(stem, "")
    if not path.is_file():
        raise ModelError(f"the weights {path} are missing; {_mend(folder)}", fatal=True)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != known:
        raise ModelError(
            f"the weights {path} are corrupt: their SHA-256 is {digest[:16]}..., not {known[:16]}...; {_mend(folder)}",
            fatal=True,
        )
    return content, digest


def read(name: str, folder: Path = SHIPPED) -> tuple[Decoder, str]:
    """A model by its name, and its digest.

    Raises:
        ValueError: there is none of this name; the message lists those that exist.
        ModelError: the file is missing, or is not the one that the manifest knows.
    """
    if name not in names(folder):
        where = "" if folder == SHIPPED else f" in {folder}"
        raise ValueError(f"there is no tiny model {name!r}{where}; there are {', '.join(names(folder)) or 'none'}")
    content, digest = kept(name, folder)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    decoder = Decoder(Architecture(**json.loads(header["__metadata__"]["architecture"])))
    decoder.load_state_dict(load(content))
    return decoder.eval(), digest


def _mend(folder: Path) -> str:
    return "install isoflop again" if folder == SHIPPED else "train the model again"


def _manifest(folder: Path) -> dict[str, str]:
    path = folder / _MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
