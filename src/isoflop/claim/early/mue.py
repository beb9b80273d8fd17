"""Exits by similarity in an encoder and a decoder trained here; the trap of sink tokens in a real language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.claim.base import Finding, Size, Value
from isoflop.claim.early.compare import made
from isoflop.cost import Meter
from isoflop.example import prose
from isoflop.method.conditional.blocks import find_chains
from isoflop.method.conditional.exit_training import Descent
from isoflop.method.conditional.mue import Mue, SimilarityExit, mean_flops
from isoflop.method.shrink import Data, Original, Refused, Shrunk, Workload
from isoflop.model.base import ModelError

_WIDTH, _HEADS = 48, 4
_COPY, _SORT = 12, 13  # what an input begins with; the tokens before them are what is copied or sorted
_TOKENS, _LENGTH = 14, 9
_KEPT = {0.96: 0.6, 0.99: 0.5}  # of the quality, at this share of the time: the paper's two tasks


class Sorter(nn.Module):
    """An encoder and a decoder of as many blocks: token ids [B, T] to logits [B, T, V]."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(_TOKENS, _WIDTH), nn.Embedding(_LENGTH, _WIDTH)
        self.net = nn.Transformer(_WIDTH, _HEADS, layers, layers, 2 * _WIDTH, dropout=0.0, batch_first=True)
        self.head = nn.Linear(_WIDTH, _TOKENS)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        at = self.places(torch.arange(ids.shape[1])).expand(len(ids), -1, -1)
        return self.head(self.net(self.tokens(ids) + at, at))


def findings(size: Size) -> list[Finding]:
    """Compare exits with the whole model, depths by lot and half the depth; full: refuse the trap on SmolLM2."""
    layers, steps, tuned, count = (2, 200, 200, 1000) if size == "quick" else (4, 700, 900, 2000)
    module, work = _sorter(steps, layers, count)
    whole = Original(module, work, Meter(), module).quality(module, work.test)
    budgets = (0.8, 0.6) if size == "quick" else (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    points, why = _exited(Mue(budgets=budgets, steps=tuned, trained_trunk=True), module, work)
    chains = find_chains(module, work.test.rows(slice(0, 1)).inputs)
    measured: dict[str, Value] = {"whole accuracy": whole}
    if why:
        measured["refused"] = why
    lots: dict[str, Value] = {}
    kept, lowest = dict.fromkeys(_KEPT, 1.0), whole
    above, left = bool(points), {"encoder": 0.0, "decoder": 0.0}
    for shrunk in points:
        model = shrunk.module
        assert isinstance(model, SimilarityExit)
        with torch.no_grad():
            cost = mean_flops(model, chains, work.test, 100)
            quality = float(work.scores(model.depths(work.test.inputs)[0], work.test).mean())
            ran = model.depths(work.test.inputs)[1]
            by_lot = _by_lot(model, ran, work)
        if cost >= 0.5:
            lowest = min(lowest, quality)
        for chain, name in enumerate(left):
            left[name] = max(left[name], round(float((ran[:, chain] < layers).double().mean()), 3))
        above = above and quality > by_lot
        measured[f"accuracy at {cost:.2f}x"] = round(quality, 4)
        lots[f"at {cost:.2f}x, and by lot"] = [round(quality, 4), round(by_lot, 4)]
        for share in kept:
            if quality >= share * whole:
                kept[share] = min(kept[share], cost)
    held = all(kept[share] <= cost for share, cost in _KEPT.items())
    half = _sorter(2 * (steps + tuned), layers // 2, count)[0]  # a step costs half
    shallow = Original(half, work, Meter(), half).quality(half, work.test)
    found = [
        Finding("half the compute at 99 % of the quality, 0.6 of it at 96 %", held, measured),
        Finding(
            "encoder and decoder are both left early",
            all(left.values()),
            {f"inputs that leave the {name} early, at one budget": share for name, share in left.items()},
        ),
        Finding("similarity is better than the same depths given out by lot", above, lots),
        Finding(
            "exits at half the cost or more answer no worse than a model of half the depth, trained for the same FLOPs",
            bool(points) and lowest >= shallow,
            {"accuracy of half the depth": round(shallow, 4), "least accuracy of exits": round(lowest, 4)},
        ),
    ]
    return found if size == "quick" else [*found, _trap()]


def _exited(method: Mue, module: nn.Module, work: Workload) -> tuple[list[Shrunk], str]:
    """What a method yields, or why it refuses."""
    try:
        return made(method, module, work)[0], ""
    except Refused as refused:
        return [], str(refused)


def _by_lot(model: SimilarityExit, ran: Tensor, work: Workload) -> float:
    """The quality when each example gets the depths of another one."""
    other = ran[torch.randperm(len(ran), generator=torch.Generator().manual_seed(3))]
    right = 0.0
    for depths in sorted({tuple(int(n) for n in row) for row in other}):
        rows = torch.nonzero((other == torch.tensor(depths)).all(1)).squeeze(1)
        part = work.test.rows(rows)
        right += float(work.scores(model.at(part.inputs, [n - 1 for n in depths]), part).sum())
    return right / len(ran)


def _sorter(steps: int, layers: int, count: int) -> tuple[nn.Module, Workload]:
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.default_generator.manual_seed(0)
        net = Sorter(layers)
    generator = torch.Generator().manual_seed(1)

    def draw(examples: int) -> Data:
        first = _COPY + torch.randint(2, (examples, 1), generator=generator)
        ids = torch.randint(_COPY, (examples, _LENGTH - 1), generator=generator)
        wanted = torch.where(first == _SORT, ids.sort(1).values, ids)
        return Data((torch.cat([first, ids], 1),), torch.cat([first, wanted], 1))

    def loss(out: Tensor, wanted: Tensor) -> Tensor:
        return functional.cross_entropy(out.flatten(0, 1), wanted.flatten())

    descent = Descent(list(net.parameters()), 2e-3, steps)
    for _ in range(steps):
        batch = draw(64)
        assert batch.targets is not None
        descent.step(loss(net(*batch.inputs), batch.targets))
    parts = [draw(examples) for examples in (count, 400, 400)]
    return net.eval(), Workload(
        "sorting", *parts, score=lambda out, t: (out.argmax(2) == t).float().mean(1), loss=loss, batch=64
    )


def _trap() -> Finding:
    """SmolLM2, whose first token carries massive activations: the flattened cosine must be refused."""
    what = "on SmolLM2 the flattened cosine is refused by name"
    try:
        module, work = prose.build(), prose.workload()
    except ModelError as error:
        return Finding(what, False, {"not tested": str(error)})
    few = Workload(
        "prose", work.calibration.rows(slice(0, 4)), work.dev, work.test, work.score, work.quality, work.loss, batch=2
    )
    _, why = _exited(Mue(budgets=(0.7, 0.6, 0.5), compared="flattened", steps=0), module, few)
    return Finding(what, "compared=flattened" in why, {"refused": why or "not refused"})
