"""Low rank: a weight as the product of two thin ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.cost import Meter
from isoflop.method.compress.tuning import Tuning, swapped, tune
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk

_linalg: Any = torch.linalg
_RIDGE = 1e-4  # of the mean second moment, added so that unused directions of the inputs do not divide by 0
_HALVINGS = 40
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class _Factors:
    """The best two factors of every rank: left[:, :r] @ right[:r] has the least error that rank r can have.

    Args:
        left: [out, R].
        right: [R, in].
        energy: what each direction adds to the outputs' mean square, as a fraction of all of it [R].
    """

    left: Tensor
    right: Tensor
    energy: Tensor

    @property
    def per_rank(self) -> int:
        """Weights for each rank (count)."""
        return len(self.left) + self.right.shape[1]

    def useful(self, least: float) -> int:
        """The rank whose last direction still adds `least` a weight; all of it where two factors would be larger."""
        rank = max(1, int((self.energy / self.per_rank >= least).sum()))
        dense = len(self.left) * self.right.shape[1]
        return rank if rank * self.per_rank < dense else 0

    def weights(self, least: float) -> int:
        """How many weights are kept (count)."""
        rank = self.useful(least)
        return rank * self.per_rank if rank else len(self.left) * self.right.shape[1]


@final
@dataclass(frozen=True)
class LowRank(ShrinkMethod):
    """Replace each linear or convolution layer by two thin ones, of the rank that its outputs need.

    The factors are those of least error in the layer's outputs on calibration data, not in its weights: the singular
    vectors of W S with S S^T the second moment of the inputs (a convolution's: of W). Ranks share one threshold, output
    energy for each weight, so that layers that are nearly of low rank give most; a layer that two factors would not
    make smaller stays. FLOPs and bytes fall alike. It loses to quantising on most trained networks, whose weights are
    of nearly full rank.

    Cost: one inference and in^2 a token for each linear layer, one SVD a layer, then `steps` of training a fraction.
    Buys: output error of a layer equal to the energy of the directions left out (Eckart-Young), before training.
    Args:
        kept_fraction: of the weights of all such layers, a model each, the greatest first.
        steps: of training after each cut (count).
        rate: of the training, at the start.
        batch: examples in a step (count).
    """

    kept_fraction: tuple[float, ...] = (0.8, 0.6, 0.4, 0.25)
    steps: int = 100
    rate: float = 0.0003
    batch: int = 32

    source = "Eckart and Young 1936; whitened by activations as Wang et al. 2024, SVD-LLM (arXiv 2403.07378)"
    cost = "one inference, an SVD a layer, and `steps` of training a fraction"
    buys = "error of a layer's outputs equal to the energy left out, before training"

    def __post_init__(self) -> None:
        if not all(0 < f < 1 for f in self.kept_fraction):
            raise ValueError(f"kept_fraction={self.kept_fraction} must lie between 0 and 1")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a model of factors for each fraction.

        Raises:
            Refused: it has no layer that two factors could be smaller than.
        """
        modules = cast(Iterator[tuple[str, nn.Module]], problem.module.named_modules())
        layers: dict[str, Any] = {name: m for name, m in modules if _splits(m)}
        if not layers:
            raise Refused("no linear or convolution layer that two thinner ones could be smaller than")
        with problem.spending(), torch.no_grad():
            moments = _moments(problem, layers)
            factors = {name: _factors(layer, moments.get(name)) for name, layer in layers.items()}
        dense = sum(m.weight.numel() for m in layers.values())
        for fraction in self.kept_fraction:
            least = _threshold(list(factors.values()), fraction * dense)
            ranks = {name: f.useful(least) for name, f in factors.items()}
            thin = {name: _thin(layers[name], factors[name], rank) for name, rank in ranks.items() if rank}
            if not thin:
                continue
            smaller = swapped(problem.copy(), thin)
            tune(problem, smaller, smaller.parameters(), Tuning(self.steps, self.rate, self.batch), rng)
            kept = sum(f.weights(least) for f in factors.values()) / dense
            yield Shrunk(
                smaller, f"{kept:.2f} of the weights of {len(layers)} layers, {len(thin)} of them in two factors"
            )


def _splits(module: nn.Module) -> bool:
    """Whether a layer has more weights than its two factors of rank 1."""
    if cast(Any, getattr(module, "weight", None)) is None:  # none, or packed elsewhere
        return False
    if type(module) is not nn.Linear and not (isinstance(module, _CONVOLUTIONS) and module.groups == 1):
        return False
    weight = module.weight.flatten(1)
    return weight.numel() > sum(weight.shape) and weight.is_floating_point()


def _moments(problem: Original, layers: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The second moment of each linear layer's inputs [in, in]."""
    sums: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            rows = args[0].detach().reshape(-1, args[0].shape[-1]).float()
            sums[name] = sums.get(name, 0) + rows.T @ rows / len(rows)

        return hook

    linear = {name: m for name, m in layers.items() if isinstance(m, nn.Linear)}
    hooks = [m.register_forward_pre_hook(watch(name)) for name, m in linear.items()]
    try:
        problem.outputs(problem.module, problem.calibration)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def _factors(layer: nn.Module, moment: Tensor | None) -> _Factors:
    weight = cast(Tensor, layer.weight).detach().flatten(1).float()
    if moment is None:
        left, values, right = _linalg.svd(weight, full_matrices=False)
    else:
        moment = moment + torch.eye(len(moment)) * (_RIDGE * moment.diagonal().mean() + 1e-12)
        root = _linalg.cholesky(moment)
        left, values, whitened = _linalg.svd(weight @ root, full_matrices=False)
        right = _linalg.solve_triangular(root, whitened, upper=False, left=False)
    energy = values**2
    return _Factors(left * values, right, energy / energy.sum().clamp_min(1e-30))


def _threshold(factors: list[_Factors], weights: float) -> float:
    """The energy a weight at which all layers together keep about so many weights."""
    low, high = -20.0, 0.0  # powers of ten
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(f.weights(10**middle) for f in factors) > weights else (low, middle)
    return 10**high


def _thin(layer: nn.Module, factors: _Factors, rank: int) -> nn.Module:
    """A layer as two of them."""
    left, right, bias = factors.left[:, :rank], factors.right[:rank], cast(Tensor | None, layer.bias)
    dtype = cast(Tensor, layer.weight).dtype
    first: Any
    second: Any
    if isinstance(layer, nn.Linear):
        first = nn.Linear(layer.in_features, rank, bias=False)
        second = nn.Linear(rank, layer.out_features, bias is not None)
    else:
        whole, kind = cast(Any, layer), cast(Any, type(layer))
        walk = (whole.kernel_size, whole.stride, whole.padding, whole.dilation)
        first = kind(whole.in_channels, rank, *walk, bias=False, padding_mode=whole.padding_mode)
        second = kind(rank, whole.out_channels, 1, bias=bias is not None)
    first.weight.data = right.reshape(first.weight.shape).to(dtype).clone()
    second.weight.data = left.reshape(second.weight.shape).to(dtype).clone()
    if bias is not None:
        second.bias.data = bias.detach().clone()
    return nn.Sequential(first, second).eval()
