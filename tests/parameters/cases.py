"""Constraints under test, with the free coordinates in which densities are written; and a model with several."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Exponential, Gamma, LKJCholesky, Normal, constraints

from rdmc.parameters import Parameter, Parameters, ordered

F = torch.float64
LOWER = torch.tensor([-1.0, 0.5, 3.0], dtype=F)


def all_of(y: Tensor) -> Tensor:
    """Every entry."""
    return y.flatten()


def but_the_last(y: Tensor) -> Tensor:
    """Probabilities but the last."""
    return y[..., :-1].flatten()


def below(diagonal: int) -> Callable[[Tensor], Tensor]:
    """Entries of the lower triangle."""

    def entries(y: Tensor) -> Tensor:
        i, j = torch.tril_indices(y.shape[-1], y.shape[-1], diagonal)
        return y[..., i, j].flatten()

    return entries


@dataclass(frozen=True)
class Case:
    """A parameter with what its determinant is with respect to, and whether far points keep their digits."""

    name: str
    parameter: Parameter
    free: Callable[[Tensor], Tensor] = all_of
    far: bool = True


CASES = [
    Case("number", Parameter()),
    Case("real", Parameter((2, 3))),
    Case("real_vector", Parameter(3, constraints.real_vector)),
    Case("positive", Parameter(3, "positive")),
    Case("nonnegative", Parameter((), constraints.nonnegative)),
    Case("greater_than", Parameter((2, 3), constraints.greater_than(LOWER)), far=False),
    Case("less_than", Parameter(2, constraints.less_than(-1.5)), far=False),
    Case("unit_interval", Parameter(2, "unit_interval"), far=False),
    Case("interval", Parameter(3, constraints.interval(LOWER - 2.0, 4.0)), far=False),
    Case("simplex", Parameter(4, "simplex"), but_the_last),
    Case("simplices", Parameter((3, 2), constraints.simplex), but_the_last),
    Case("simplex_of_one", Parameter((2, 1), constraints.simplex), but_the_last),
    Case("ordered", Parameter(4, ordered), far=False),
    Case("ordered_rows", Parameter((2, 3), "ordered"), far=False),
    Case("positive_ordered", Parameter((2, 3), "positive_ordered"), far=False),
    Case("lower_cholesky", Parameter((3, 3), "lower_cholesky"), below(0)),
    Case("lower_choleskies", Parameter((2, 2, 2), constraints.lower_cholesky), below(0)),
    Case("corr_cholesky", Parameter((4, 4), "corr_cholesky"), below(-1)),
    Case("corr_choleskies", Parameter((2, 3, 3), constraints.corr_cholesky), below(-1)),
]


@dataclass(frozen=True)
class Law:
    """A law in the books' coordinates: normalised log density, a statistic, its mean; a box that holds it in real ones."""

    name: str
    parameter: Parameter
    log_prob: Callable[[Tensor], Tensor]
    statistic: Callable[[Tensor], Tensor]
    mean: Tensor
    half_width: float


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F)


def bartlett(y: Tensor) -> Tensor:
    """Cholesky factor of a Wishart matrix, 5 degrees of freedom, 2 x 2: chi on the diagonal, normal below it."""
    parts = [Normal(numbers(0.0), numbers(1.0)).log_prob(y[..., 1:, 0]).squeeze(-1)]
    for i, nu in ((0, 5.0), (1, 4.0)):
        x = y[..., i, i]
        parts.append((nu - 1.0) * x.log() - 0.5 * x.square() - (nu / 2.0 - 1.0) * math.log(2.0) - math.lgamma(nu / 2.0))
    return torch.stack(parts).sum(0)


def correlations(y: Tensor) -> Tensor:
    """Squares of the correlations."""
    return torch.stack([(y @ y.mT)[..., i, j].square() for i, j in ((1, 0), (2, 0), (2, 1))], -1)


DIRICHLET = numbers(2.0, 3.0, 5.0)
LAWS = [
    Law("normal", Parameter(), Normal(numbers(1.0), numbers(2.0)).log_prob, lambda y: y[..., None], numbers(1.0), 25.0),
    Law(
        "gamma",
        Parameter((), "positive"),
        lambda y: Gamma(*numbers(3.0, 2.0)).log_prob(y),
        lambda y: torch.stack([y, y.square()], -1),
        numbers(1.5, 3.0),
        20.0,
    ),
    Law(
        "exponential below -1.5",
        Parameter((), constraints.less_than(-1.5)),
        lambda y: Exponential(numbers(0.7)).log_prob(-1.5 - y),
        lambda y: y[..., None],
        numbers(-1.5 - 1.0 / 0.7),
        40.0,
    ),
    Law(
        "beta",
        Parameter((), "unit_interval"),
        lambda y: Beta(*numbers(2.0, 5.0)).log_prob(y),
        lambda y: y[..., None],
        numbers(2.0 / 7.0),
        30.0,
    ),
    Law(
        "uniform",
        Parameter((), constraints.interval(-2.0, 4.0)),
        lambda y: torch.full_like(y, -math.log(6.0)),
        lambda y: torch.stack([y, y.square()], -1),
        numbers(1.0, 4.0),
        36.0,
    ),
    Law("dirichlet", Parameter(3, "simplex"), Dirichlet(DIRICHLET).log_prob, lambda y: y, DIRICHLET / 10.0, 25.0),
    Law(
        "order statistics of two normals",
        Parameter(2, "ordered"),
        lambda y: math.log(2.0) + Normal(*numbers(0.0, 1.0)).log_prob(y).sum(-1),
        lambda y: y,
        numbers(-1.0, 1.0) / math.sqrt(math.pi),
        34.0,
    ),
    Law(
        "order statistics of two exponentials",
        Parameter(2, "positive_ordered"),
        lambda y: math.log(2.0) - y.sum(-1),
        lambda y: y,
        numbers(0.5, 1.5),
        34.0,
    ),
    Law(
        "bartlett",
        Parameter((2, 2), "lower_cholesky"),
        bartlett,
        lambda y: (y @ y.mT)[..., [0, 1, 1], [0, 0, 1]],
        numbers(5.0, 0.0, 5.0),
        9.0,
    ),
    Law(
        "lkj",
        Parameter((3, 3), "corr_cholesky"),
        LKJCholesky(3, numbers(2.0).squeeze(), validate_args=False).log_prob,
        correlations,
        numbers(1.0, 1.0, 1.0) / 6.0,
        8.0,
    ),
]

MIXTURE = Parameters(
    sigma=Parameter((3,), constraints.positive, dims=("component",)),
    mu=Parameter(3, dims="component"),
    weight=Parameter(constraint="simplex", dims="component"),
    tau=Parameter((), constraints.greater_than(1.0)),
    factor=Parameter((2, 2, 2), "corr_cholesky"),
    coords={"component": ["a", "b", "c"]},
)


def points(*lead: int, seed: int = 0) -> Tensor:
    return torch.randn(*lead, MIXTURE.dim, generator=torch.Generator().manual_seed(seed), dtype=F)


def log_density(mu: Tensor, sigma: Tensor, weight: Tensor, tau: Tensor, factor: Tensor) -> Tensor:
    """Every value enters by weights of its own, so that a swapped entry shows."""
    scale = torch.arange(1, 4, dtype=mu.dtype, device=mu.device)
    inner = -(mu * scale).square().sum(-1) - (sigma / scale).sum(-1) + (weight.log() * scale).sum(-1)
    return inner - 2.0 * tau + (factor[..., 1, 0] * scale[:2]).sum(-1)
