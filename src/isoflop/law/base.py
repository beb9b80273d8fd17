"""What a law is: named inputs, named parameters, a formula with its derivative."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isoflop.law.engine import Floats, Objective, project


class Interval(NamedTuple):
    """A value with an interval around it."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a law.

    Args:
        name: as the literature writes it.
        low: smallest value.
        high: largest value.
        log: whether the solver moves its logarithm, as amplitudes over many powers of ten want.
        starts: values to start from; empty for a parameter that variable projection solves.
    """

    name: str
    low: float
    high: float
    log: bool = False
    starts: tuple[float, ...] = ()

    def inward(self, value: Floats) -> Floats:
        """From the reported value to the solver's."""
        return np.log(value) if self.log else value

    def outward(self, value: Floats) -> Floats:
        """From the solver's value to the reported one."""
        return np.exp(value) if self.log else value


def amplitude(name: str) -> Parameter:
    """A positive factor of a power term: solved by projection, moved as its logarithm."""
    return Parameter(name, 1e-60, 1e60, log=True)


def exponent(name: str, *starts: float) -> Parameter:
    """A positive exponent, at most 3."""
    return Parameter(name, 1e-3, 3.0, starts=starts or (0.08, 0.2, 0.35, 0.5, 0.8))


def coefficient(name: str) -> Parameter:
    """A factor of either sign, solved by projection."""
    return Parameter(name, -1e12, 1e12)


FRACTION = Objective("least_squares", scale="linear")
"""For outputs that are fractions: their misses are alike at both ends."""


def crossed(*levels: ArrayLike) -> Floats:
    """Every combination of the levels of each input (K, M).

    >>> crossed([1, 2], [10, 20]).tolist()
    [[1.0, 1.0, 2.0, 2.0], [10.0, 20.0, 10.0, 20.0]]
    """
    return np.stack([v.ravel() for v in np.meshgrid(*(np.asarray(v, float) for v in levels), indexing="ij")])


class Law(ABC):
    """A formula that says how a measured quantity follows from what was spent.

    A law is one file: a frozen dataclass, its facts on the class. `model` gives the prediction with its derivative;
    laws that are linear in some parameters give `basis` too, so that starts are needed for the other parameters only.
    """

    inputs: ClassVar[tuple[str, ...]]
    """What it takes, in order."""
    output: ClassVar[str] = "loss"
    """What it gives."""
    objective: ClassVar[Objective] = Objective()
    """The objective used when none is named."""
    source: ClassVar[str]
    """Paper and equation."""
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    """Inputs that may be zero; all others are positive."""
    fraction: ClassVar[bool] = False
    """Whether the output is a fraction in [0, 1]."""

    @property
    def slug(self) -> str:
        """The law's name: that of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """What is fitted, in the order of theta."""

    @abstractmethod
    def example(self) -> tuple[Floats, dict[str, float]]:
        """A design (K, M) and parameter values on which the law can be told from data; every law is tested on it."""

    @abstractmethod
    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """Prediction (S, M) and derivative (S, P, M) for inputs x (K, M) or (K, S, M) and the solver's theta (S, P)."""

    def basis(self, x: Floats, theta: Floats) -> Floats | None:
        """Columns (S, Q, M) that the parameters without starts multiply, or None if there are none such."""
        del x, theta
        return None

    def grid(self, x: Floats, y: Floats) -> Floats:
        """Where to start (S, P), in reported values; what projection solves is NaN."""
        del x, y
        return np.array(list(product(*(p.starts or (np.nan,) for p in self.parameters))))

    def starts(self, x: Floats, y: Floats, weights: Floats) -> Floats:
        """Starting points (S, P) of the solver: the grid, and the rest by projection."""
        values = self.grid(x, y)
        theta = np.stack([p.inward(values[:, i]) for i, p in enumerate(self.parameters)], axis=1)
        basis = self.basis(x, theta)
        if basis is not None:
            solved = [i for i, p in enumerate(self.parameters) if not p.starts]
            positive = np.array([self.parameters[i].low >= 0 for i in solved])
            relative = 1.0 if self.objective.scale == "linear" else y * y
            found = project(basis, y, weights / np.maximum(relative, 1e-300), positive)
            # A coefficient that projection put at zero starts small instead, as its logarithm must be finite.
            floor = 0.1 * np.abs(y).mean() / np.maximum(np.abs(basis).mean(axis=2), 1e-300)
            for column, i in enumerate(solved):
                parameter, value = self.parameters[i], found[:, column]
                theta[:, i] = parameter.inward(np.maximum(value, floor[:, column]) if parameter.log else value)
        low, high = self.bounds()
        return np.clip(theta, low, high)

    def bounds(self) -> tuple[Floats, Floats]:
        """Bounds in the solver's parameters."""
        low = np.array([float(p.inward(np.array(p.low))) for p in self.parameters])
        high = np.array([float(p.inward(np.array(p.high))) for p in self.parameters])
        return low, high

    def reported(self, theta: Floats) -> Floats:
        """The parameters as the literature reports them, (..., P)."""
        return np.stack([p.outward(theta[..., i]) for i, p in enumerate(self.parameters)], axis=-1)

    def theta(self, **values: float) -> Floats:
        """The solver's parameters from reported values by name (P).

        Raises:
            ValueError: a parameter is missing or unknown.
        """
        names = [p.name for p in self.parameters]
        if set(values) != set(names):
            raise ValueError(f"{type(self).__name__} has the parameters {', '.join(names)}, not {', '.join(values)}")
        return np.array([float(p.inward(np.array(values[p.name]))) for p in self.parameters])

    def value(self, *inputs: ArrayLike, **values: float) -> Floats:
        """The formula itself: inputs in the law's order, parameters by their reported names.

        >>> from isoflop.law.chinchilla import Chinchilla
        >>> round(float(Chinchilla().value(70e9, 1.4e12, E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)), 4)
        1.9366
        """
        columns = np.broadcast_arrays(*(np.asarray(v, float) for v in inputs))
        flat = np.stack([c.ravel() for c in columns])
        return self.model(flat, self.theta(**values)[None])[0][0].reshape(columns[0].shape)
