"""Compressor: the architecture of a given size that computes most, then distillation into it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from isoflop.cost import Meter
from isoflop.cost.ops import OpMeter
from isoflop.method.compress.tuning import Tuning, refresh_norms, seed_of, tune
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk

Space: TypeAlias = Mapping[str, Sequence[int]]
Genome: TypeAlias = dict[str, int]
Fitness: TypeAlias = Callable[..., Any]

_POPULATION, _CROSSED, _BESIDE = 200, 0.5, 0.5  # of the genetic search
_CHILDREN = 5  # for each look, at most, where most of them are known already

# The space that the paper searches for its encoders of code.
CODE_ENCODERS: Space = {
    "vocabulary": range(1000, 51000, 1000),
    "heads": (1, 2, 4, 8),
    "width": range(16, 769, 16),
    "inner": range(32, 3072, 32),
    "layers": range(1, 13),
}


def encoder_gflops(vocabulary: Any, heads: Any, width: Any, inner: Any, layers: Any, tokens: int = 514) -> Any:
    """GFLOPs of an encoder with a classifier on `tokens` tokens, as the paper's code counts them.

    It has the embedding as a product with one-hot vectors, and counts activations, softmax and dropout; ours does
    neither (`cost.ops`). Kept as it is because the paper's figures are of it.
    """
    block = 8 * width**2 + width * (20 + 4 * tokens) + 10 * tokens * heads + 5 + 4 * width * inner + 9 * inner
    embedding = width * (2 * vocabulary + 2 * tokens + 15)
    classifier = 2 * width**2 + 15 * width
    return tokens * (layers * block + (embedding + classifier)) / 1e9


def encoder_megabytes(vocabulary: Any, width: Any, inner: Any, layers: Any, tokens: int = 514) -> Any:
    """Size of the same encoder in 32-bit floats (MB)."""
    block = 4 * width**2 + 9 * width + 2 * width * inner + inner
    fixed = (vocabulary + tokens + 3) * width + 2 * width**2 + 4 * width + 2
    return 4 * (layers * block + fixed) / 1e6


def encoder_fitness(target_megabytes: float) -> Fitness:
    """The paper's fitness: GFLOPs less the distance to the wanted size (MB)."""

    def fitness(vocabulary: Any, heads: Any, width: Any, inner: Any, layers: Any) -> Any:
        apart = abs(encoder_megabytes(vocabulary, width, inner, layers) - target_megabytes)
        return encoder_gflops(vocabulary, heads, width, inner, layers) - apart

    return fitness


def best_genome(space: Space, fitness: Fitness) -> tuple[Genome, float]:
    """The best of all genomes, by computing every one: of two alike the first in the order of the space.

    Args:
        space: the choices for each gene.
        fitness: gene by gene arrays that broadcast against each other, to the fitness of every combination.

    >>> best_genome({"a": range(5), "b": (1, 2)}, lambda a, b: b - (a - 3) ** 2)
    ({'a': 3, 'b': 2}, 2.0)
    """
    axes = np.ix_(*[np.asarray(choices, float) for choices in space.values()])
    found: NDArray[np.float64] = np.broadcast_to(
        fitness(**dict(zip(space, axes))), tuple(len(choices) for choices in space.values())
    )
    where = np.unravel_index(int(found.argmax()), found.shape)
    genome = {name: int(choices[int(i)]) for (name, choices), i in zip(space.items(), where)}
    return genome, float(found[where])


def evolved_genome(space: Space, fitness: Fitness, rng: np.random.Generator, looks: int) -> tuple[Genome, float]:
    """The best genome that a genetic search finds in about so many looks at the fitness.

    Each gene of a child is one of its parents', the better of two each; about one gene mutates, to the choice beside it
    or to any; the fittest stay. For spaces that cannot be enumerated: where they can, `best_genome` is exact.
    """
    names, choices = list(space), [list(c) for c in space.values()]
    known: dict[tuple[int, ...], float] = {}

    def value(genome: tuple[int, ...]) -> float:
        if genome not in known:
            known[genome] = float(fitness(**{n: c[i] for n, c, i in zip(names, choices, genome)}))
        return known[genome]

    def drawn() -> tuple[int, ...]:
        return tuple(int(rng.integers(len(c))) for c in choices)

    def parent() -> tuple[int, ...]:
        return max((population[int(rng.integers(len(population)))] for _ in range(2)), key=value)

    def mutated(gene: int, count: int) -> int:
        if rng.random() < 1 / len(names):
            beside = gene + int(rng.choice((-1, 1)))
            return min(max(beside, 0), count - 1) if rng.random() < _BESIDE else int(rng.integers(count))
        return gene

    def child() -> tuple[int, ...]:
        pairs = zip(parent(), parent(), choices)
        return tuple(mutated(x if rng.random() < _CROSSED else y, len(c)) for x, y, c in pairs)

    size = max(2, min(_POPULATION, looks // 4))
    population = [drawn() for _ in range(size)]
    for _ in range(_CHILDREN * looks // size):
        population = sorted({*population, *(child() for _ in range(size))}, key=value)[-size:]
        if len(known) >= looks:
            break
    best = max(known, key=lambda genome: known[genome])
    return {n: int(c[i]) for n, c, i in zip(names, choices, best)}, known[best]


@final
@dataclass(frozen=True)
class Compressor(ShrinkMethod):
    """Find the architecture with most FLOPs within a size, and distil the original into it on unlabelled data.

    That a network which computes more learns more is what the search rests on: it trains nothing. The user gives a
    builder and the choices for each of its arguments; every combination is built on the meta device, without memory,
    and counted; if there are more than `looks`, a genetic search goes through them. The paper takes GFLOPs less the
    distance to the size in MB, which weighs one against the other by units; here the size is a limit, which is what
    the paper wants it to be. It loses to pruning where data are few, since a student starts from nothing.

    Cost: at most `looks` counts on the meta device, free of FLOPs; `steps` of distillation for each size (a forward and
        backward pass of the student and an inference of the original).
    Buys: the size that was asked for; no law of the quality known.
    Args:
        build: the builder, as `package.module:function`; called with a choice for each gene, by name.
        space: names of genes, each with its choices.
        kept_bytes: sizes of the students, as fractions of the original's parameters, the greatest first.
        looks: architectures counted at most (count).
        steps: of distillation (count).
        rate: of the distillation, at the start.
        batch: examples in a step (count).
    """

    build: str = ""
    space: tuple[tuple[str, tuple[int, ...]], ...] = ()
    kept_bytes: tuple[float, ...] = (0.5, 0.25, 0.1)
    looks: int = 500
    steps: int = 500
    rate: float = 0.003
    batch: int = 32

    source = "compressor"
    cost = "at most `looks` counts of FLOPs without computing, and `steps` of distillation for each size"
    buys = "the size that was asked for; no law of the quality known"

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a distilled student for each size.

        Raises:
            Refused: no builder was given, it does not build what is needed, or nothing in the space is small enough.
        """
        build, space = self._builder(), dict(self.space)
        whole = _bytes(problem.module)
        with problem.spending(), torch.no_grad():
            wanted = _shapes(problem.teacher(*problem.calibration.rows(slice(1)).inputs))
        counts: dict[tuple[int, ...], tuple[float, int]] = {}

        def count(genes: Genome) -> tuple[float, int]:
            key = tuple(genes.values())
            if key not in counts:
                counts[key] = _counted(build, genes, problem, wanted)
            return counts[key]

        for fraction in self.kept_bytes:

            def fitness(limit: float = fraction * whole, **genes: int) -> float:
                flops, size = count(genes)
                return flops if size <= limit else limit - size

            genome, most = self._best(space, fitness, rng)
            if most <= 0 and fraction < self.kept_bytes[0]:
                return  # those before it were the smallest there are
            if most <= 0:
                raise Refused(f"no architecture of the space has {fraction:g} of the original's bytes or less")
            student = _seeded(build, genome, rng)
            tune(problem, student, student.parameters(), Tuning(self.steps, self.rate, self.batch), rng)
            with problem.spending():
                refresh_norms(problem, student.eval())
            words = ", ".join(f"{name} {value}" for name, value in genome.items())
            yield Shrunk(student, f"{words}: {_bytes(student) / whole:.3f}x bytes, distilled")

    def _best(self, space: Space, fitness: Fitness, rng: np.random.Generator) -> tuple[Genome, float]:
        if math.prod(len(choices) for choices in space.values()) > self.looks:
            return evolved_genome(space, fitness, rng, self.looks)

        def one(*genes: float) -> float:
            return fitness(**{name: int(gene) for name, gene in zip(space, genes)})

        def every(**axes: Any) -> Any:
            return np.vectorize(one, otypes=[float])(*axes.values())

        return best_genome(space, every)

    def _builder(self) -> Callable[..., nn.Module]:
        module, _, name = self.build.partition(":")
        if not (module and name and self.space):
            raise Refused("needs build='package.module:function' and the space of its arguments")
        try:
            return cast(Callable[..., nn.Module], getattr(importlib.import_module(module), name))
        except (ImportError, AttributeError) as error:
            raise Refused(f"build={self.build!r} cannot be loaded: {error}") from error


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _counted(
    build: Callable[..., nn.Module], genes: Genome, problem: Original, wanted: list[tuple[int, ...]]
) -> tuple[float, int]:
    """FLOPs of one example and bytes of an architecture, without its memory; no FLOPs if it cannot be built."""
    inputs = [x[:1].to("meta") for x in problem.calibration.inputs]
    try:
        with torch.device("meta"), torch.no_grad():
            student = build(**genes).eval()
            with OpMeter() as ops:
                made = _shapes(student(*inputs))
    except NotImplementedError as error:
        raise Refused(f"what {genes} builds cannot be counted on the meta device: {error}") from error
    except (RuntimeError, ValueError, AssertionError):
        return 0.0, 0  # such as a width that the heads do not divide
    if made != wanted:
        raise Refused(f"what {genes} builds returns shapes {made}, the original {wanted}")
    return ops.flops, _bytes(student)


def _shapes(out: object) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in tree_leaves(out) if isinstance(x, Tensor)]


def _seeded(build: Callable[..., nn.Module], genes: Genome, rng: np.random.Generator) -> nn.Module:
    """A student whose first weights depend on `rng` only; its norms measure each batch while it learns."""
    with torch.random.fork_rng():  # pyright: ignore[reportUnknownMemberType]
        torch.default_generator.manual_seed(seed_of(rng))
        student = build(**genes).eval()
    for m in student.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
            m.train()
    return student
