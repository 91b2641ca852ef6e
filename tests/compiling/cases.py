"""Densities to compile: closed forms and derived ones, with edges, and some that can't be captured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import targets
from rdmc.density import Density, as_density


def bordered(x: Tensor) -> Tensor:
    """A banana inside the unit-free half plane, ``-inf`` beyond, where the formula itself would be NaN."""
    inside = x[:, 0] > -1.0
    safe = torch.where(inside, x[:, 0], torch.zeros_like(x[:, 0]))
    value = torch.log1p(safe) - 0.5 * safe.square() - 0.5 * (x[:, 1] - safe.square()).square()
    return torch.where(inside, value, torch.full_like(value, -math.inf))


def unguarded(x: Tensor) -> Tensor:
    """The same without care: NaN beyond the edge, ``-inf`` on it and ``+inf`` at one corner."""
    value = torch.log1p(x[:, 0]) - 0.5 * (x * x).sum(1)
    return torch.where(x[:, 1] > 4.0, torch.full_like(value, math.inf), value)


def one_point(x: Tensor) -> Tensor:
    """A log density of one point, ``(d,) -> ()``."""
    return -0.5 * torch.dot(x, x) - x[0].abs()


def branching(x: Tensor) -> Tensor:
    """Takes another path for another value, which no single kernel can."""
    if float(x.detach().square().sum()) > 1e6:
        return -x.abs().sum(-1)
    return -0.5 * x.square().sum(-1)


@dataclass(frozen=True)
class Shifted:
    """A model object: its callable is a bound method and is made anew at each access."""

    shift: float = 0.5
    dim: int = 2

    def log_density(self, x: Tensor) -> Tensor:
        return -0.5 * (x - self.shift).square().sum(-1)


CASES: dict[str, Callable[[], Density]] = {
    "mixture": lambda: as_density(targets.gmm40()),
    "mixture derived": lambda: Density(targets.gmm40().log_density, 2),
    "funnel": lambda: as_density(targets.funnel()),
    "funnel derived": lambda: Density(targets.funnel().log_density, targets.funnel().dim),
    "edge": lambda: Density(bordered, 2),
    "unguarded": lambda: Density(unguarded, 2),
    "regression": lambda: as_density(targets.logistic_regression()),
    "regression derived": lambda: Density(targets.logistic_regression().log_density, 31),
    "one point": lambda: Density(torch.vmap(one_point), 3),
}


def points(n: int, dim: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """``(n, dim)`` points, on both sides of every edge above."""
    return 2.0 * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)
