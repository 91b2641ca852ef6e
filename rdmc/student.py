r"""Mixtures of multivariate Student t laws: references whose tails are heavier than what they must cover.

.. math:: g(x) = \sum_k w_k \, t_\nu(x; \mu_k, \Sigma_k)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.look import Look, log_sum, look_from
from rdmc.mixture import GaussianMixture, squared_norm
from rdmc.rng import Streams

__all__ = ["StudentMixture"]


@dataclass(frozen=True, eq=False)
class StudentMixture:
    r"""A Gaussian mixture whose every component has Student tails.

    A weight pi/g stays bounded only where g has the heavier tail; a Gaussian g has not even against a slightly wider Gaussian.

    Shapes: points are ``(..., d)``. Cost: ``O(K d^2)`` a point, no evaluation of the target.

    Args:
        core: The mixture of N(mu_k, Sigma_k); Sigma_k are the scale matrices of the components.
        df: Degrees of freedom nu, an integer of at least 1 (a chi-square of so many squares is drawn).

    Raises:
        ValueError: If ``df`` is no positive integer.

    Example:
        >>> core = GaussianMixture.isotropic(torch.zeros(1, 1), torch.ones(1), torch.ones(1))
        >>> StudentMixture(core, df=1).log_prob(torch.zeros(1)).exp() * math.pi
        tensor(1.0000)
    """

    core: GaussianMixture
    df: int

    def __post_init__(self) -> None:
        if isinstance(self.df, bool) or not isinstance(self.df, int) or self.df < 1:
            raise ValueError(f"`df` must be an integer of at least 1, got {self.df!r}")

    @property
    def components(self) -> int:
        """Number K of components."""
        return self.core.components

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.core.dim

    def _heights(self, white: Tensor, log_height: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., K)`` log w_k t_nu, and the squared distances, from coordinates in each component's own basis."""
        d, nu = self.dim, self.df
        of_normal = math.lgamma(0.5 * (nu + d)) - math.lgamma(0.5 * nu) - 0.5 * d * math.log(0.5 * nu)
        square = squared_norm(white)
        return torch.add(log_height + of_normal, torch.log1p(square / nu), alpha=-0.5 * (nu + d)), square

    def log_components(self, x: Tensor) -> Tensor:
        """``(..., K)`` log w_k + log t_nu(x; mu_k, Sigma_k)."""
        return self.core.in_blocks(x, lambda white, height: self._heights(white, height)[:1])[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """``(...)`` normalised log density."""
        return self.core.in_blocks(x, lambda white, height: (log_sum(self._heights(white, height)[0]),))[0]

    def log_responsibilities(self, x: Tensor) -> Tensor:
        """``(..., K)`` log probability that each component made x."""
        if self.components == 1:
            return x.new_zeros(*x.shape[:-1], 1)
        return torch.log_softmax(self.log_components(x), -1)

    def look(self, x: Tensor) -> Look:
        """Log density and responsibilities, with one exponential for each component and point."""
        return Look(*self.core.in_blocks(x, lambda white, height: look_from(self._heights(white, height)[0]).by_rows()))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log density and its ``(..., d)`` gradient, in closed form."""

        def f(white: Tensor, height: Tensor) -> tuple[Tensor, ...]:
            components, square = self._heights(white, height)
            value, share = look_from(components)
            slope = share.mul_(-float(self.df + self.dim)).div_(square.add_(self.df))
            return value, self.core.unwhite(white.mul_(slope[..., None]))

        value, grad = self.core.in_blocks(x, f)
        return value, grad

    def colour(self, z: Tensor, label: Tensor) -> Tensor:
        """``(..., d)`` L_k z with L_k L_k^T = Sigma_k, for one component ``label`` ``(...)`` a point."""
        return self.core.colour(z, label)

    def colour_transpose(self, v: Tensor, label: Tensor) -> Tensor:
        """``(..., d)`` L_k^T v for one component ``label`` ``(...)`` a point."""
        return self.core.colour_transpose(v, label)

    def draw(self, rng: Streams, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """``(*lead, B, d)`` draws, one batch of particles for each index of ``lead``, and the ``(*lead, B)`` labels."""
        x, label = self.core.draw(rng, lead)
        mean = self.core.mean[label]
        chi_square = rng.normal((*lead, rng.particles, self.df)).square().sum(-1)
        return mean + (x - mean) * (self.df / chi_square).sqrt()[..., None], label
