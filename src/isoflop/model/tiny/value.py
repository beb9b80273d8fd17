"""Process reward: how likely a response that has come this far will end right, learned from rollouts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from isoflop.cost import Cost, in_sequence
from isoflop.model.base import Prompt, Sampling
from isoflop.model.tiny.decoder import PAD, Architecture, Decoder
from isoflop.model.tiny.engine import Engine, Job
from isoflop.model.tiny.ship import Graded
from isoflop.model.tiny.train import Worked
from isoflop.model.tiny.weights import SHIPPED, keep, kept, names, read

W = TypeVar("W", bound=Worked)
STEP_END = " "
_HEADING = "## Process reward\n"
_SECTION = """
A value head (`isoflop.model.tiny.value`) at the end of each step, fitted to the outcomes of 4 rollouts of each of
{problems} training problems. On {c.states:,} states of rollouts on problems of the split dev,
{c.base_rate:.1%} of which ended right: Brier score {c.brier:.4f} (the base rate alone: {blind:.4f}), expected
calibration error {c.expected_error:.4f}, area under the ROC curve {c.auc:.3f}.
"""
_HIDDEN = 64


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far values can be trusted, on problems that no rollout of the fit was about.

    Args:
        states: ends of steps that were valued (count).
        base_rate: share of them whose response ended right.
        brier: mean squared difference of value and outcome; a value that is always the base rate has
            base_rate * (1 - base_rate).
        expected_error: mean over ten bins of |mean value - share right|, weighted by their states.
        auc: probability that a state of a right response has a higher value than one of a wrong response.
    """

    states: int
    base_rate: float
    brier: float
    expected_error: float
    auc: float


class StepValue(nn.Module):
    """A head of one hidden layer on what a decoder has at the end of each step: its last stream, and how likely it
    found the response so far (log-probabilities: their sum, the least one, and the sum over this step).

    Args:
        decoder: whose stream it reads; not trained with it.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self._decoder = [decoder]  # in a list, so that its weights are not the head's
        width = decoder.architecture.width
        self.layers = nn.Sequential(nn.Linear(width + 3, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, 1))

    @property
    def architecture(self) -> Architecture:
        """The decoder's."""
        return self._decoder[0].architecture

    def forward(self, states: Tensor) -> Tensor:
        """States [B, D + 3] to log-odds [B] of ending right."""
        return self.layers(states)[:, 0]

    @torch.inference_mode()
    def of(self, prompt: Prompt, texts: Sequence[str]) -> tuple[list[list[float]], Cost]:
        """For each text after a prompt the probabilities of ending right, one at the end of each step.

        Cost: a forward pass over prompt and text for each; to be charged to the role `judge`.
        """
        decoder = self._decoder[0]
        asked = prompt if isinstance(prompt, str) else "".join(turn.content for turn in prompt)
        states, rows = _states(decoder, [asked] * len(texts), texts)
        values = torch.sigmoid(self(states)).double().numpy()
        found: list[list[float]] = [[] for _ in texts]
        for row, value in zip(rows, values, strict=True):
            found[row].append(float(value))
        costs = [self.cost(len(asked), len(text), len(one)) for text, one in zip(texts, found, strict=True)]
        return found, in_sequence(costs)

    def cost(self, asked: int, answered: int, steps: int) -> Cost:
        """What the values of one text cost; time and energy apart.

        Args:
            asked: characters of the prompt (count).
            answered: characters of the text (count).
            steps: ends of steps in it (count).
        """
        shape, T = self.architecture.shape, asked + answered
        weight_bytes = 4 * (shape.params + _HIDDEN * (shape.d_model + 5) + 1)
        return Cost(
            flops=shape.flops(T, logits=T - 1) + 2 * _HIDDEN * (shape.d_model + 4) * steps,
            bytes_moved=weight_bytes + shape.kv_traffic(T, value_bytes=4),
            peak_bytes=weight_bytes + shape.kv_bytes(T, 4),
            tokens_in=T,
        )


def _states(decoder: Decoder, prompts: Sequence[str], texts: Sequence[str]) -> tuple[Tensor, list[int]]:
    """The states [N, D + 3] at the ends of steps of each text after its prompt, and to which text each belongs."""
    a = decoder.architecture
    ends = {a.encode(STEP_END)[0], a.end}
    rows = [a.encode(p + t) for p, t in zip(prompts, texts, strict=True)]
    T = max(map(len, rows))
    tokens = torch.tensor([row + [PAD] * (T - len(row)) for row in rows])
    positions = torch.tensor([a.positions(p + t) + [0] * (T - len(p) - len(t)) for p, t in zip(prompts, texts)])
    stream = decoder.stream(tokens, positions)
    logits = decoder.head(stream[:, :-1])
    logits[..., PAD] = -torch.inf
    likely = functional.log_softmax(logits, -1).gather(-1, tokens[:, 1:, None])[..., 0].numpy()
    states, owners = list[Tensor](), list[int]()
    for i, row in enumerate(rows):
        start = at = len(prompts[i])
        for j in range(start, len(row)):
            if row[j] in ends:
                so_far = likely[i, start - 1 : j]
                told = [so_far.sum(), so_far.min(), likely[i, at - 1 : j].sum()]
                states.append(torch.cat([stream[i, j], torch.tensor(told)]))
                owners.append(i)
                at = j + 1
    return torch.stack(states) if states else stream.new_zeros(0, stream.shape[-1] + 3), owners


def _rolled_out(
    decoder: Decoder, task: Graded[W], problems: Sequence[W], samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """States [N, D + 3] at the ends of all steps of sampled responses, and whether each response ended right [N].

    The outcome of a response is one Monte-Carlo estimate of the value of every state on its way.
    """
    a, engine = decoder.architecture, Engine(decoder)
    jobs: dict[Job, W] = {}
    for i, p in enumerate(problems):
        seeds = tuple((seed << 32) + i * samples + k for k in range(samples))
        job = Job(a.encode(p.prompt), a.positions(p.prompt + a.response_end), seeds, Sampling(max_tokens=a.context))
        jobs[job] = p
        engine.submit(job)
    streams, right = list[Tensor](), list[float]()
    while engine.busy:
        done = engine.step()
        if done:
            texts = [a.decode(list(f.sample.token_ids or ())) for f in done]
            with torch.inference_mode():
                states, rows = _states(decoder, [jobs[f.job].prompt for f in done], texts)
            outcomes = [task.grade(jobs[f.job], text) for f, text in zip(done, texts, strict=True)]
            streams.append(states)
            right += [outcomes[row] for row in rows]
    return torch.cat(streams).clone(), torch.tensor(right)


def fit_values(
    decoder: Decoder, task: Graded[W], problems: int = 2000, samples: int = 4, seed: int = 0
) -> tuple[StepValue, Calibration]:
    """A value head for a decoder, fitted to rollouts on training problems, and its calibration on the split dev.

    Args:
        decoder: samples the rollouts, and is read.
        task: draws problems and grades responses.
        problems: to roll out, and a quarter as many to calibrate on (count).
        samples: rollouts a problem (count).
        seed: of the head's weights, its batches and the rollouts.
    """
    first = 1 << 60  # far from the indices that the decoder was trained on
    states, right = _rolled_out(
        decoder, task, [task.problem("train", first + i) for i in range(problems)], samples, seed
    )
    value, random = StepValue(decoder), torch.Generator().manual_seed(seed)
    for weight in value.parameters():
        nn.init.normal_(weight, std=weight.shape[-1] ** -0.5 if weight.dim() > 1 else 0.0, generator=random)
    steps = 2 * problems
    optimizer = torch.optim.AdamW(value.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        chosen = torch.randint(len(states), (512,), generator=random)
        loss = functional.binary_cross_entropy_with_logits(value(states[chosen]), right[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        schedule.step()
    held_out = [task.problem("dev", i) for i in range(problems // 4)]
    states, right = _rolled_out(decoder, task, held_out, samples, seed + 1)
    with torch.inference_mode():
        given = torch.sigmoid(value(states)).double().numpy()
    return value.eval(), calibration(given, right.double().numpy())


def calibration(values: NDArray[np.float64], outcomes: NDArray[np.float64]) -> Calibration:
    """How values [N] in [0, 1] agree with outcomes [N], 0 or 1.

    >>> calibration(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])).auc
    1.0
    """
    bins = np.minimum((values * 10).astype(int), 9)
    gaps = [abs(float((values - outcomes)[bins == b].sum())) for b in range(10)]
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)  # ties share their mean rank
    positive, negative = int(outcomes.sum()), int((1 - outcomes).sum())
    pairs = positive * negative
    above = float(ranks[outcomes == 1].sum()) - positive * (positive + 1) / 2
    return Calibration(
        states=len(values),
        base_rate=float(outcomes.mean()),
        brier=float(((values - outcomes) ** 2).mean()),
        expected_error=sum(gaps) / len(values),
        auc=above / pairs if pairs else float("nan"),
    )


def ship_values(name: str, task: Graded[W], folder: Path = SHIPPED, problems: int = 2000) -> Calibration:
    """Fit the value head of a shipped model, put it beside the model, and its calibration into the model's card."""
    decoder, _ = read(name, folder)
    value, found = fit_values(decoder, task, problems)
    metadata = {"calibration": json.dumps(asdict(found))}
    keep(f"{name}.value", save({k: v.contiguous() for k, v in sorted(value.state_dict().items())}, metadata), folder)
    card = folder / f"{name}.md"
    model_card = card.read_text(encoding="utf-8").partition(_HEADING)[0].rstrip("\n")
    section = _SECTION.format(c=found, problems=problems, blind=found.base_rate * (1 - found.base_rate))
    card.write_text(f"{model_card}\n\n{_HEADING}{section}", encoding="utf-8")
    return found


def valued(folder: Path = SHIPPED) -> list[str]:
    """The models of a folder that have a value head."""
    return [name for name in names(folder) if (folder / f"{name}.value.safetensors").exists()]


def open_values(name: str, folder: Path = SHIPPED) -> StepValue:
    """The value head of a shipped model, such as `chain-34k`.

    Raises:
        ValueError: there is no model of this name; the message lists those that exist.
        ModelError: it has no head, or the file is corrupt.
    """
    value = StepValue(read(name, folder)[0])
    value.load_state_dict(load(kept(f"{name}.value", folder)[0]))
    return value.eval()
