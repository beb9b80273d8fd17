"""Train a tiny model: metered, in a fixed order, resumable to the bit."""

from __future__ import annotations

import io
import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from isoflop.cost import Cost
from isoflop.cost.energy import EnergyMeter
from isoflop.model.tiny.decoder import PAD, Decoder, architecture_for


class Worked(Protocol):
    """A problem with its solution."""

    @property
    def prompt(self) -> str:
        """What is asked."""
        ...

    @property
    def response(self) -> str:
        """What the model should write."""
        ...


W = TypeVar("W", bound=Worked, covariant=True)


class Source(Protocol[W]):
    """Where problems come from, such as a generator of `isoflop.task.generate`."""

    @property
    def name(self) -> str:
        """What the model is named after."""
        ...

    @property
    def alphabet(self) -> str:
        """Every character."""
        ...

    @property
    def ends(self) -> tuple[str, str]:
        """The characters that end a prompt and a response."""
        ...

    @property
    def room(self) -> tuple[int, int]:
        """The longest prompt and the longest response (characters)."""
        ...

    @property
    def trained(self) -> Sequence[int]:
        """The difficulties, from easy to hard."""
        ...

    def problem(self, split: Literal["train", "dev", "test", "harder"], index: int, difficulty: int | None = None) -> W:
        """Problem number `index`."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train; the defaults are what paid when tried (LOG.md).

    Args:
        rows: problems a step (count), one a row.
        groups: of rows of about equal length, computed one after the other (count); saves padding.
        rate: peak learning rate at width 64; it falls as the root of the width.
        warm_up: part of the FLOPs over which the rate rises; it then falls linearly to a twentieth.
        weight_decay: AdamW's, on matrices.
        curriculum: part of the FLOPs over which the difficulties open up, easy ones first; 0 is all from the start.
        checkpoint_s: seconds between checkpoints.
    """

    rows: int = 64
    groups: int = 2
    rate: float = 4e-3
    warm_up: float = 0.03
    weight_decay: float = 0.05
    curriculum: float = 0.2
    checkpoint_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands, and one row of its curve.

    Args:
        step: updates done (count).
        tokens: tokens computed, padding included (count).
        targets: response tokens that the loss was on (count).
        flops: spent, forward and backward (count).
        wall_s: spent computing, without what a kill lost (seconds).
        joules: measured where the machine has a counter, else from the hardware table.
        loss: mean over the targets of the step, in a row of the curve of all since the row before (nats a token).
        rate: learning rate.
    """

    step: int = 0
    tokens: int = 0
    targets: int = 0
    flops: int = 0
    wall_s: float = 0.0
    joules: float = 0.0
    loss: float = math.nan
    rate: float = 0.0


Batch = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def batch(decoder: Decoder, problems: Sequence[Worked]) -> Batch:
    """Rows of one problem each: inputs, positions and targets, all [B, T]; targets outside responses are padding."""
    a = decoder.architecture
    texts = [p.prompt + p.response for p in problems]
    T = max(map(len, texts)) - 1
    inputs, positions, targets = (np.zeros((len(texts), T), np.int64) for _ in range(3))
    for row, (text, p) in enumerate(zip(texts, problems, strict=True)):
        ids = a.encode(text)
        inputs[row, : len(ids) - 1] = ids[:-1]
        positions[row, : len(ids) - 1] = a.positions(text)[:-1]
        asked = len(p.prompt) - 1
        targets[row, asked : len(ids) - 1] = ids[asked + 1 :]
    return inputs, positions, targets


def mean_loss(decoder: Decoder, problems: Sequence[Worked]) -> float:
    """Mean over the response tokens of some problems (nats a token)."""
    inputs, positions, targets = (torch.as_tensor(x) for x in batch(decoder, problems))
    with torch.inference_mode():
        asked = targets != PAD
        return functional.cross_entropy(decoder(inputs, positions)[asked], targets[asked]).item()


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model and how it got there.

    Args:
        decoder: the network.
        rows: its learning curve, a row for every 1 % of the FLOPs; the last one has the totals.
        settings: what it was trained with.
    """

    decoder: Decoder
    rows: Sequence[Progress]
    settings: Mapping[str, Any]

    @property
    def curve(self) -> str:
        """Its learning curve as JSON lines, which `isoflop fit` reads; each says which run it is of."""
        run = {
            "task": self.settings["task"],
            "params": self.decoder.architecture.shape.params,
            "seed": self.settings["seed"],
        }
        return "".join(json.dumps(run | asdict(row)) + "\n" for row in self.rows)

    @property
    def cost(self) -> Cost:
        """What the training spent; memory and its traffic were not measured."""
        last = self.rows[-1]
        return Cost(
            flops=last.flops,
            bytes_moved=math.nan,
            peak_bytes=math.nan,
            tokens_in=last.tokens,
            wall_s=last.wall_s,
            joules=last.joules,
        )


def train(
    task: Source[Worked], params: float, flops: float, seed: int, out_dir: Path, recipe: Recipe = Recipe()
) -> Trained:
    """A model for `task`: `Training` run to its end."""
    training = Training(task, params, flops, seed, out_dir, recipe)
    for _ in training.run():
        pass
    return training.trained


class Training:
    """The training of a model until `flops` are spent; one that was cut short in `out_dir` goes on.

    The order of the data follows from the seed, and a checkpoint holds all that the next step depends on, so a
    training that was killed ends in the same weights as one that was not. The loss is on the response only.

    Cost: three forward passes a row and step (the backward pass is two).
    Args:
        task: where the problems come from.
        params: wanted size (count); the nearest network is taken.
        flops: what to spend (count).
        seed: fixes the weights at the start and the order of the data.
        out_dir: the checkpoint and the curve (`curve.jsonl`) go here.
        recipe: how.

    Raises:
        ValueError: `out_dir` holds a training with other settings, or a broken checkpoint, and is left as it is; or
            nothing is to be spent.
    """

    def __init__(
        self, task: Source[Worked], params: float, flops: float, seed: int, out_dir: Path, recipe: Recipe = Recipe()
    ) -> None:
        if not flops > 0:
            raise ValueError(f"flops={flops:g} must be positive")
        self._task, self._flops, self._seed, self._dir, self._recipe = task, flops, seed, out_dir, recipe
        self.decoder = Decoder(architecture_for(params, task.alphabet, task.ends, task.room))
        self.decoder.initialise(seed)
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.decoder.parameters() if p.dim() == 2], "weight_decay": recipe.weight_decay},
                {"params": [p for p in self.decoder.parameters() if p.dim() < 2], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
            fused=True,
        )
        self.settings: dict[str, Any] = {
            "task": task.name,
            "architecture": asdict(self.decoder.architecture),
            "flops": flops,
            "seed": seed,
            "recipe": {key: value for key, value in asdict(recipe).items() if key != "checkpoint_s"},
        }
        self.at, self.rows, self._loss = Progress(), list[Progress](), [0.0, 0]  # loss: sum and targets since a row
        self._energy = EnergyMeter()
        self._load()
        self._clock, self._busy = time.perf_counter(), time.process_time()

    @property
    def trained(self) -> Trained:
        """What has become of it."""
        return Trained(self.decoder, self.rows, self.settings)

    def run(self) -> Iterator[Progress]:
        """Train to the end, a step at a time; where it stands after each.

        Raises:
            OSError: a checkpoint could not be written; the one before it is whole.
        """
        saved_at = time.perf_counter()
        while self.at.flops < self._flops:
            self._step()
            yield self.at
            if time.perf_counter() - saved_at > self._recipe.checkpoint_s:
                self._save()
                saved_at = time.perf_counter()
        self._save()

    def _step(self) -> None:
        """One update."""
        recipe, decoder, shape = self._recipe, self.decoder, self.decoder.architecture.shape
        done = self.at.flops / self._flops
        problems = sorted(self._problems(done), key=lambda p: len(p.prompt) + len(p.response))
        count = sum(len(p.response) for p in problems)
        self._optimizer.zero_grad(set_to_none=True)
        tokens, flops, summed = 0, 0, 0.0
        size = -(-recipe.rows // recipe.groups)
        for first in range(0, recipe.rows, size):
            inputs, positions, targets = (torch.as_tensor(x) for x in batch(decoder, problems[first : first + size]))
            asked = targets != PAD
            logits = decoder.head(decoder.stream(inputs, positions)[asked])
            loss = functional.cross_entropy(logits, targets[asked], reduction="sum") / count
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
            B, T = inputs.shape
            tokens += B * T
            flops += 3 * (B * shape.flops(T, logits=0) + 2 * len(logits) * shape.head_params)
            summed += loss.item() * count
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        rising, falling = (done + 1e-4) / recipe.warm_up, 1 - 0.95 * (done - recipe.warm_up) / (1 - recipe.warm_up)
        rate = recipe.rate * (64 / decoder.architecture.width) ** 0.5 * min(rising, falling)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        clock, busy = time.perf_counter(), time.process_time()
        self.at = Progress(
            self.at.step + 1,
            self.at.tokens + tokens,
            self.at.targets + count,
            self.at.flops + flops,
            self.at.wall_s + clock - self._clock,
            self.at.joules + self._energy.since_last(busy - self._busy).mid,
            summed / count,
            rate,
        )
        self._clock, self._busy = clock, busy
        self._loss[0] += summed
        self._loss[1] += count
        if int(self.at.flops / self._flops * 100) > int(done * 100):
            self.rows.append(replace(self.at, loss=self._loss[0] / self._loss[1]))
            self._loss = [0.0, 0]

    def _problems(self, done: float) -> list[Worked]:
        """The problems of the next step; difficulties up to the one that the curriculum has opened, equally likely."""
        recipe, step = self._recipe, self.at.step
        difficulties = self._task.trained
        opened = 1.0 if recipe.curriculum == 0 else min(1.0, done / recipe.curriculum)
        open_ = difficulties[: 2 + round(opened * (len(difficulties) - 2))]
        draw = random.Random(f"{self._seed}/{step}")
        first = (self._seed << 40) + step * recipe.rows
        return [self._task.problem("train", first + i, draw.choice(open_)) for i in range(recipe.rows)]

    def _save(self) -> None:
        """Keep everything; a kill at any instant leaves the checkpoint before or this one."""
        self._dir.mkdir(parents=True, exist_ok=True)
        _replace(self._dir / "curve.jsonl", self.trained.curve.encode())
        content = io.BytesIO()
        state = {
            "settings": self.settings,
            "weights": self.decoder.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "at": asdict(self.at),
            "rows": [asdict(row) for row in self.rows],
            "summed": self._loss,
        }
        torch.save(state, content)
        _replace(self._dir / "checkpoint.pt", content.getvalue())

    def _load(self) -> None:
        path = self._dir / "checkpoint.pt"
        if not path.exists():
            return
        try:
            saved: dict[str, Any] = torch.load(path, weights_only=True)
        except (EOFError, KeyError, RuntimeError, UnpicklingError) as error:
            raise ValueError(f"{path} is no checkpoint, or a broken one; remove it to start anew") from error
        other = _differences(saved["settings"], self.settings)
        if other:
            raise ValueError(
                f"{self._dir} holds a training with other settings ({other}); give another folder or remove it"
            )
        self.decoder.load_state_dict(saved["weights"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self.at, self.rows = Progress(**saved["at"]), [Progress(**row) for row in saved["rows"]]
        self._loss = saved["summed"]


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Where settings differ, in words; nothing where they do not."""
    before, now = _flat(json.loads(json.dumps(there))), _flat(json.loads(json.dumps(here)))
    names = dict.fromkeys([*now, *before])
    return ", ".join(
        f"{name} {_shown(before.get(name))} there and {_shown(now.get(name))} here"
        for name in names
        if before.get(name) != now.get(name)
    )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict[str, Any]()
    for name, value in settings.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    try:
        partial.write_bytes(content)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
