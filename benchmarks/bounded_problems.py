"""Densities that are -inf outside a part of space, with exact draws: boxes, numbers in order, shares, and a cube that is turned."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor
from torch.special import log_ndtr, ndtr, ndtri

from targets.base import Target

__all__ = ["PROBLEMS", "Bounded"]

F = torch.float64


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Bounded(Target):
    """A density in a part of space, with exact draws.

    Attributes:
        within: Which of ``(n, d)`` points are there.
        somewhere: ``(d,)`` one of them.
        inside: Their log density.
        draws: So many exact draws.
    """

    within: Callable[[Tensor], Tensor]
    somewhere: Tensor
    inside: Callable[[Tensor], Tensor]
    draws: Callable[[int, Generator], Tensor]
    source: str = "this benchmark"
    log_z: float | None = 0.0

    def log_density(self, x: Tensor) -> Tensor:
        """-inf outside."""
        within = self.within(x)
        return torch.where(within, self.inside(torch.where(within[..., None], x, self.somewhere)), -torch.inf)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """By autograd."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            value = self.log_density(leaf)
            return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]

    def sample(self, n: int, generator: Generator) -> Tensor:
        """Exact draws."""
        return self.draws(n, generator)


def positive(x: Tensor) -> Tensor:
    """Whether all coordinates are."""
    return (x > 0.0).all(-1)


def in_unit_cube(x: Tensor) -> Tensor:
    """Whether all coordinates are between 0 and 1."""
    return ((x > 0.0) & (x < 1.0)).all(-1)


def ordered(x: Tensor) -> Tensor:
    """Whether each coordinate is greater than the one before."""
    return (x[..., 1:] > x[..., :-1]).all(-1)


def uniform(dim: int) -> Bounded:
    """Between -3 and 50 in every coordinate."""
    low, high = torch.full((dim,), -3.0, dtype=F), torch.full((dim,), 50.0, dtype=F)
    return Bounded(
        name="uniform",
        dim=dim,
        within=lambda x: ((x > low) & (x < high)).all(-1),
        somewhere=low + 1.0,
        inside=lambda x: 0.0 * x.sum(-1) - dim * math.log(53.0),
        draws=lambda n, g: low + 53.0 * torch.rand(n, dim, generator=g, dtype=F),
    )


def exponentials(dim: int) -> Bounded:
    """Of means from 1/1000 to 1000."""
    scale = torch.logspace(-3, 3, dim, dtype=F)
    return Bounded(
        name="exponentials",
        dim=dim,
        within=positive,
        somewhere=torch.ones(dim, dtype=F),
        inside=lambda x: -(x / scale + scale.log()).sum(-1),
        draws=lambda n, g: scale * torch.empty(n, dim, dtype=F).exponential_(generator=g),
    )


def lognormals(dim: int, sd: float) -> Bounded:
    """With a long tail and next to nothing at the bound."""
    return Bounded(
        name="log-normals",
        dim=dim,
        within=positive,
        somewhere=torch.ones(dim, dtype=F),
        inside=lambda x: (-0.5 * (x.log() / sd).square() - x.log() - math.log(sd * math.sqrt(2 * math.pi))).sum(-1),
        draws=lambda n, g: (sd * torch.randn(n, dim, generator=g, dtype=F)).exp(),
    )


def gammas() -> Bounded:
    """Two components of shapes from .6, which has a pole at 0, to 40, and scales from .01 to 10."""
    shape = torch.tensor([[2.0, 30.0, 0.6], [40.0, 3.0, 5.0]], dtype=F)
    scale = torch.tensor([[1.0, 0.1, 3.0], [0.5, 10.0, 0.01]], dtype=F)
    weight = torch.tensor([0.3, 0.7], dtype=F)

    def inside(x: Tensor) -> Tensor:
        x = x[:, None]
        each = (shape - 1.0) * x.log() - x / scale - torch.lgamma(shape) - shape * scale.log()
        return torch.logsumexp(each.sum(-1) + weight.log(), -1)

    def draws(n: int, g: Generator) -> Tensor:
        k = torch.multinomial(weight, n, replacement=True, generator=g)
        return scale[k] * torch._standard_gamma(shape[k], generator=g)

    one = torch.ones(3, dtype=F)
    return Bounded(name="two gammas", dim=3, within=positive, somewhere=one, inside=inside, draws=draws)


def cut_mixture(dim: int, problem: int = 0) -> Bounded:
    """Five normal laws cut by the unit cube, centres in its middle 80 %, widths log-uniform from 1/100 to .32, unequal weights."""
    g = torch.Generator().manual_seed(100 * dim + problem)
    mean = 0.1 + 0.8 * torch.rand(5, dim, generator=g, dtype=F)
    sd = 10.0 ** (-2.0 + 1.5 * torch.rand(5, 1, generator=g, dtype=F))
    weight = torch._standard_gamma(torch.full((5,), 2.0, dtype=F), generator=g)
    weight = weight / weight.sum()
    low, high = -mean / sd, (1.0 - mean) / sd
    kept = (log_ndtr(high) + torch.log1p(-(log_ndtr(low) - log_ndtr(high)).exp())).sum(-1)

    def inside(x: Tensor) -> Tensor:
        each = -0.5 * ((x[:, None] - mean) / sd).square() - sd.log() - 0.5 * math.log(2.0 * math.pi)
        return torch.logsumexp(each.sum(-1) - kept + weight.log(), -1)

    def draws(n: int, g: Generator) -> Tensor:
        k = torch.multinomial(weight, n, replacement=True, generator=g)
        u = torch.rand(n, dim, generator=g, dtype=F)
        return mean[k] + sd[k] * ndtri(ndtr(low)[k] * (1.0 - u) + ndtr(high)[k] * u)

    middle = torch.full((dim,), 0.5, dtype=F)
    return Bounded(name="cut mixture", dim=dim, within=in_unit_cube, somewhere=middle, inside=inside, draws=draws)


def in_order(dim: int) -> Bounded:
    """Independent standard normal numbers, each greater than the one before."""
    constant = 0.5 * dim * math.log(2.0 * math.pi) - math.lgamma(dim + 1)
    return Bounded(
        name="numbers in order",
        dim=dim,
        within=ordered,
        somewhere=torch.arange(dim, dtype=F),
        inside=lambda x: -0.5 * x.square().sum(-1) - constant,
        draws=lambda n, g: torch.randn(n, dim, generator=g, dtype=F).sort(1).values,
    )


def change_points(dim: int, end: float) -> Bounded:
    """Uniform times between 0 and an end, each after the one before."""
    constant = dim * math.log(end) - math.lgamma(dim + 1)
    return Bounded(
        name="change points",
        dim=dim,
        within=lambda x: ordered(x) & (x[..., 0] > 0.0) & (x[..., -1] < end),
        somewhere=torch.linspace(0.1, 0.9, dim, dtype=F) * end,
        inside=lambda x: 0.0 * x.sum(-1) - constant,
        draws=lambda n, g: end * torch.rand(n, dim, generator=g, dtype=F).sort(1).values,
    )


def shares(dim: int) -> Bounded:
    """All but the last of a Dirichlet law's shares, of shapes from .3, which are poles at two faces, to 5."""
    shape = torch.logspace(math.log10(0.3), math.log10(5.0), dim + 1, dtype=F).roll(1)
    constant = float(shape.lgamma().sum() - shape.sum().lgamma())

    def inside(x: Tensor) -> Tensor:
        full = torch.cat([x, 1.0 - x.sum(-1, keepdim=True)], -1)
        return ((shape - 1.0) * full.log()).sum(-1) - constant

    def draws(n: int, g: Generator) -> Tensor:
        each = torch._standard_gamma(shape.expand(n, -1), generator=g)
        return (each / each.sum(1, keepdim=True))[:, :-1]

    middle = torch.full((dim,), 1.0 / (dim + 1), dtype=F)
    return Bounded(
        name="shares",
        dim=dim,
        within=lambda x: (x > 0.0).all(-1) & (x.sum(-1) < 1.0),
        somewhere=middle,
        inside=inside,
        draws=draws,
    )


def turned_cube(dim: int) -> Bounded:
    """Normal numbers of sd 1/2 between -1 and 1, turned and stretched by 1 to 100."""
    g = torch.Generator().manual_seed(dim)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=g, dtype=F)).Q
    factor = torch.logspace(0, 2, dim, dtype=F)[:, None] * turn
    back, centre = torch.linalg.inv(factor), torch.linspace(-0.1, 0.1, dim, dtype=F)
    low = float(ndtr(torch.tensor(-2.0, dtype=F)))
    constant = float(torch.linalg.slogdet(factor)[1]) + dim * math.log(
        0.5 * math.sqrt(2.0 * math.pi) * (1.0 - 2.0 * low)
    )

    def draws(n: int, g: Generator) -> Tensor:
        u = torch.rand(n, dim, generator=g, dtype=F)
        return centre + 0.5 * ndtri(low + (1.0 - 2.0 * low) * u) @ factor.T

    return Bounded(
        name="turned cube",
        dim=dim,
        within=lambda x: (((x - centre) @ back.T).abs() < 1.0).all(-1),
        somewhere=centre,
        inside=lambda x: -2.0 * ((x - centre) @ back.T).square().sum(-1) - constant,
        draws=draws,
    )


PROBLEMS: dict[str, Callable[[], Bounded]] = {
    "uniform, d = 5": partial(uniform, 5),
    "uniform, d = 20": partial(uniform, 20),
    "exponentials, d = 8": partial(exponentials, 8),
    "log-normals, sd 2, d = 3": partial(lognormals, 3, 2.0),
    "two gamma laws with a pole, d = 3": gammas,
    **{f"mixture cut by a cube, d = {d}, {i}": partial(cut_mixture, d, i) for d in (2, 5, 10) for i in range(3)},
    "numbers in order, d = 5": partial(in_order, 5),
    "numbers in order, d = 20": partial(in_order, 20),
    "change points between 0 and 1000, d = 10": partial(change_points, 10, 1000.0),
    "Dirichlet with poles, d = 7": partial(shares, 7),
    "turned cube, d = 6": partial(turned_cube, 6),
    "turned cube, d = 15": partial(turned_cube, 15),
}
