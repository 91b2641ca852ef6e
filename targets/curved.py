"""Unimodal targets of bad shape: a bent one and one whose scale varies by orders of magnitude."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.base import Target
from targets.draws import normal

__all__ = ["Banana", "Funnel", "banana", "funnel"]

_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Banana(Target):
    r"""A Gaussian bent along a parabola, a shear of determinant one.

    .. math:: x_1 = c + s z_1, \quad x_2 = z_2 - b\,(x_1^2 - s^2), \quad x_j = z_j, \qquad z \sim N(0, I).

    Attributes:
        centre: c, mean of :math:`x_1`.
        scale: s, standard deviation of :math:`x_1`.
        bend: b.
    """

    centre: float
    scale: float
    bend: float

    def log_density(self, x: Tensor) -> Tensor:
        """Log density, normalised: ``(M, d) -> (M,)``."""
        z1, z2 = self._straightened(x)
        quadratic = z1.square() + z2.square() + x[:, 2:].square().sum(1)
        return -0.5 * quadratic - math.log(self.scale) - 0.5 * self.dim * _LOG_2PI

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        z1, z2 = self._straightened(x)
        first = -z1 / self.scale - 2.0 * self.bend * x[:, 0] * z2
        return self.log_density(x), torch.cat([first[:, None], -z2[:, None], -x[:, 2:]], dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact draws: the map of the class docstring."""
        z = normal(self, (n, self.dim), generator)
        x1 = self.centre + self.scale * z[:, 0]
        x2 = z[:, 1] - self.bend * (x1.square() - self.scale**2)
        return torch.cat([x1[:, None], x2[:, None], z[:, 2:]], dim=1)

    def _straightened(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x[:, 0] - self.centre) / self.scale, x[:, 1] + self.bend * (x[:, 0].square() - self.scale**2)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Funnel(Target):
    r"""Neal's funnel: :math:`x_1 \sim N(0, s^2)` and :math:`x_j | x_1 \sim N(0, e^{x_1})` for j > 1.

    Attributes:
        scale: s, standard deviation of the log variance :math:`x_1`.
    """

    scale: float

    def log_density(self, x: Tensor) -> Tensor:
        """Log density, normalised: ``(M, d) -> (M,)``."""
        return self.value_and_grad(x)[0]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        z, rest = x[:, :1], x[:, 1:]
        precision = torch.exp(-z)
        energy = 0.5 * (precision * rest).mul(rest).sum(1)
        half = 0.5 * (self.dim - 1)
        u = z[:, 0] / self.scale
        value = -0.5 * u.square() - half * z[:, 0] - energy - math.log(self.scale) - 0.5 * self.dim * _LOG_2PI
        return value, torch.cat([(energy - half - u / self.scale)[:, None], -precision * rest], dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact draws: the log variance, then the rest."""
        z = normal(self, (n, self.dim), generator)
        x1 = self.scale * z[:, :1]
        return torch.cat([x1, torch.exp(0.5 * x1) * z[:, 1:]], dim=1)


def banana(dim: int = 2, centre: float = 3.0, scale: float = 10.0, bend: float = 0.03) -> Banana:
    r"""A banana, off centre so that its arms have unequal lengths.

    :math:`x_1 \sim N(c, s^2)`, :math:`x_2 | x_1 \sim N(-b (x_1^2 - s^2), 1)`, the rest N(0, 1). Ground truth: closed
    form, ``log_z`` = 0.

    Args:
        dim: Dimension d >= 2.
        centre: c; 0 is the symmetric original.
        scale: s > 0.
        bend: b.

    Raises:
        ValueError: If ``dim`` is below 2 or ``scale`` isn't positive.

    Source: Haario, Saksman, Tamminen (1999), Adaptive proposal distribution for random walk Metropolis algorithm,
    Computational Statistics 14, section 4 (b = 0.03, variance 100).
    """
    if dim < 2 or scale <= 0.0:
        raise ValueError(f"`dim` must be at least 2 and `scale` positive, got {dim}, {scale}")
    return Banana(
        name="banana",
        dim=dim,
        source="Haario, Saksman, Tamminen (1999), Computational Statistics 14",
        log_z=0.0,
        centre=centre,
        scale=scale,
        bend=bend,
    )


def funnel(dim: int = 10, scale: float = 3.0) -> Funnel:
    r"""Neal's funnel.

    Ground truth: closed form, ``log_z`` = 0. Two settings circulate under one name: standard deviation 3 of the log
    variance is Neal's; *variance* 3 (``scale=3**0.5``) is that of the SLIPS code. Their numbers don't compare.

    Args:
        dim: Dimension d >= 2.
        scale: Standard deviation s > 0 of :math:`x_1`.

    Raises:
        ValueError: If ``dim`` is below 2 or ``scale`` isn't positive.

    Source: Neal (2003), Slice sampling, Annals of Statistics 31, section 8.
    """
    if dim < 2 or scale <= 0.0:
        raise ValueError(f"`dim` must be at least 2 and `scale` positive, got {dim}, {scale}")
    return Funnel(
        name="funnel", dim=dim, source="Neal (2003), Annals of Statistics 31, section 8", log_z=0.0, scale=scale
    )
