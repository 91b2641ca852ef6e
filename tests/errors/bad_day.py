"""What a row of the table of bad and hard inputs is: refused with a message, told by ``check()``, or right all the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import rdmc
from rdmc.errors import DensityError
from tests.quick import QUICK

__all__ = ["Holds", "Refused", "Statistics", "Told", "fraction", "moments", "normal", "normal_moments", "run"]

Make = Callable[[], Any]
"""Makes the density anew, for some remember their calls."""

Statistics = Mapping[str, tuple[Callable[[Tensor], Tensor], float]]
"""Name to a function ``(n, d) -> (n,)`` and the true mean of its values."""


def normal(x: Tensor) -> Tensor:
    """A density that keeps the contract, batched or for one point."""
    return -0.5 * x.square().sum(-1)


def moments(mean: tuple[float, ...], variance: tuple[float, ...]) -> Statistics:
    """Means and variances of the coordinates."""
    found: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {}
    for i, (m, v) in enumerate(zip(mean, variance, strict=True)):
        found[f"mean of {i}"] = (lambda x, i=i: x[:, i], m)
        found[f"variance of {i}"] = (lambda x, i=i, m=m: (x[:, i] - m).square(), v)
    return found


def normal_moments(dim: int = 2, mean: float = 0.0, sd: float = 1.0) -> Statistics:
    """Those of equal, independent normal coordinates."""
    return moments((mean,) * dim, (sd**2,) * dim)


def fraction(inside: Callable[[Tensor], Tensor], truth: float) -> Statistics:
    """The probability of a set."""
    return {"fraction": (lambda x: inside(x).double(), truth)}


@dataclass(frozen=True)
class Refused:
    """An input that must be refused.

    Args:
        name: Of the row.
        make: Makes the density.
        message: What the message must match.
        error: Its type.
        dim: Dimension.
        options: Further arguments of :func:`rdmc.sample`, made anew.
        slow: Whether it is too slow for the default run.
    """

    name: str
    make: Make
    message: str
    error: type[Exception] = DensityError
    dim: Any = 2
    options: Callable[[], dict[str, Any]] = dict
    slow: bool = False


@dataclass(frozen=True)
class Holds:
    """An input on which the draws must still have the right law.

    Args:
        name: Of the row.
        make: Makes the density.
        statistics: What is compared with the truth, within 5 standard errors.
        log_z: Log of the normalising constant, where it is known.
        dim: Dimension.
        told: What ``check()`` must say; by default it must be silent.
        options: Further arguments of :func:`rdmc.sample`.
        slow: Whether it is too slow for the default run.
    """

    name: str
    make: Make
    statistics: Statistics
    log_z: float | None = None
    dim: int | None = 2
    told: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False


@dataclass(frozen=True)
class Told:
    """An input whose draws can't be relied on: ``check()`` must say so.

    Args:
        name: Of the row.
        make: Makes the density.
        told: What ``check()`` must say.
        dim: Dimension.
        options: Further arguments of :func:`rdmc.sample`.
        slow: Whether it is too slow for the default run.
    """

    name: str
    make: Make
    told: str
    dim: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False


LOG_Z = math.log(2.0 * math.pi)
"""Of the standard normal density in the plane."""


def run(log_density: Any, dim: Any = 2, **options: Any) -> rdmc.Result:
    """A short run."""
    return rdmc.sample(log_density, dim, **{"draws": 150, "sampler": QUICK, "progressbar": False, **options})


def truncated(bound: float) -> tuple[float, float, float]:
    """Mean, variance and probability of a standard normal below a bound."""
    density = math.exp(-0.5 * bound**2) / math.sqrt(2.0 * math.pi)
    below = 0.5 * math.erfc(-bound / math.sqrt(2.0))
    ratio = density / below
    return -ratio, 1.0 - bound * ratio - ratio**2, below


def quadrature(log_density: Callable[[Tensor], Tensor], low: float, high: float) -> tuple[float, float, float]:
    """Mean, variance and log of the mass of a density of one coordinate, by sums over a fine grid."""
    edges = torch.linspace(low, high, 2_000_001, dtype=torch.float64)
    x = 0.5 * (edges[1:] + edges[:-1])
    weight = log_density(x[:, None]).exp().nan_to_num(0.0)
    mass = weight.sum()
    mean = (weight * x).sum() / mass
    variance = (weight * (x - mean).square()).sum() / mass
    return float(mean), float(variance), math.log(float(mass) * (high - low) / len(x))
