r"""A mixture seen through a noised observation, without a mixture for every particle.

Given x_0, an observation :math:`x_t \sim N(\alpha x_0, \sigma^2 I)` says nothing more about the component that x_0 came from.
So of the law of x_0 given x_t the responsibilities are those of the mixture itself, and its density is

.. math:: g(x_0 \mid x_t) = g(x_0)\, N(x_t; \alpha x_0, \sigma^2 I) / g_t(x_t)

with :math:`g_t` the noised mixture: a look at a point costs what a look at the mixture costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rdmc.look import Look, pick
from rdmc.mixture import GaussianMixture, squared_norm
from rdmc.rng import Streams

__all__ = ["Conditioned"]


@dataclass(frozen=True, eq=False)
class Conditioned:
    r"""The law of x_0 given x_t when x_0 follows a mixture: what kernels guided by it ask of it.

    It is the law of :meth:`rdmc.mixture.GaussianMixture.condition`, which makes all means of all particles. Here the mean of a
    component is made for the particles that draw from it, and no others.

    Shapes: points are ``(..., B, d)``, one batch of particles for each leading index.
    Cost: ``O(K d^2)`` a look and once for every particle, ``O(d^2)`` a draw; no evaluation of the target.

    Args:
        mixture: The law of x_0, shared by all particles.
        x_t: ``(B, d)`` observations.
        alpha: Signal scale.
        sigma: Noise scale > 0.

    Example:
        >>> pair = GaussianMixture.isotropic(torch.tensor([[-1.0], [1.0]]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0]))
        >>> Conditioned(pair, torch.tensor([[1.0]]), 1.0, 1.0).centre(torch.tensor([1]))
        tensor([[1.]])
    """

    mixture: GaussianMixture
    x_t: Tensor
    alpha: float
    sigma: float

    @cached_property
    def _noised(self) -> Look:
        """``(B,)`` log g_t(x_t) and the ``(B, K)`` responsibilities there, which are the weights of the components given x_t."""
        own = self.mixture
        variance = self.alpha**2 * own.variance + self.sigma**2
        return GaussianMixture(own.log_weight, self.alpha * own.mean, own.basis, variance).look(self.x_t)

    @cached_property
    def _narrowed(self) -> GaussianMixture:
        """The components as wide as they are given x_t."""
        own = self.mixture
        variance = own.variance * (self.sigma**2 / (self.alpha**2 * own.variance + self.sigma**2))
        return GaussianMixture(own.log_weight, own.mean, own.basis, variance)

    @property
    def components(self) -> int:
        """Number K of components."""
        return self.mixture.components

    def _log_factor(self, x: Tensor) -> Tensor:
        """``(..., B)`` log N(x_t; alpha x, sigma^2 I) - log g_t(x_t)."""
        normaliser = self._noised.log_prob + 0.5 * self.x_t.shape[-1] * math.log(2.0 * math.pi * self.sigma**2)
        return torch.add(
            -normaliser, squared_norm(torch.sub(self.x_t, x, alpha=self.alpha)), alpha=-0.5 / self.sigma**2
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """``(..., B)`` normalised log density."""
        return self.mixture.log_prob(x) + self._log_factor(x)

    def look(self, x: Tensor) -> Look:
        """Log density and responsibilities, with one exponential for each component and point."""
        own = self.mixture.look(x)
        return Look(own.log_prob + self._log_factor(x), own.share)

    def colour(self, z: Tensor, label: Tensor) -> Tensor:
        """``(..., d)`` L_k z with L_k L_k^T the covariance given x_t, for one component ``label`` ``(...)`` a point."""
        return self._narrowed.colour(z, label)

    def colour_transpose(self, v: Tensor, label: Tensor) -> Tensor:
        """``(..., d)`` L_k^T v for one component ``label`` ``(...)`` a point."""
        return self._narrowed.colour_transpose(v, label)

    def centre(self, label: Tensor) -> Tensor:
        """``(..., B, d)`` the mean given x_t of one component ``label`` ``(..., B)`` a point."""
        mean = self.mixture.mean[label]
        return mean + self.colour(self._pull(mean, label), label)

    def draw(self, rng: Streams, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """``(*lead, B, d)`` draws, one batch of particles for each index of ``lead``, and the ``(*lead, B)`` labels."""
        shape = (*lead, rng.particles)
        label = pick(self._noised.share, rng.uniform(shape))
        mean = self.mixture.mean[label]
        z = rng.normal(mean.shape)
        return mean + self.colour(z.add_(self._pull(mean, label)), label), label

    def _pull(self, mean: Tensor, label: Tensor) -> Tensor:
        """``(..., B, d)`` how far x_t draws a component's mean, in units of the component."""
        return self.colour_transpose(torch.sub(self.x_t, mean, alpha=self.alpha), label).mul_(
            self.alpha / self.sigma**2
        )
