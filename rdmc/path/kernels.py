"""Gaussian reverse kernels: what a few draws of the inner posterior say about its mean and covariance.

A kernel of the first order takes a covariance that doesn't depend on the target; one of the second order estimates it from the same
draws that give the mean. The weights are right with any of them (:mod:`rdmc.path.weights`); the better the moments, the more even
they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rdmc.inner import Draws
from rdmc.posterior import InnerPosterior
from rdmc.score import ScoreEstimator, SteinControlVariate

__all__ = ["Diagonal", "FirstOrder", "Isotropic", "LowRank", "Moments", "ReverseKernel"]


class Moments(NamedTuple):
    """Of x_0 given x_t.

    Attributes:
        mean: ``(B, d)``.
        covariance: ``(B,)`` variances of an isotropic law, ``(B, d)`` of a diagonal one, or ``(B, d, d)``; positive.
    """

    mean: Tensor
    covariance: Tensor


class ReverseKernel(Protocol):
    """A way to estimate the moments of q_t(x_0 | x_t), at no evaluation of the target."""

    def moments(self, q: InnerPosterior, draws: Draws) -> Moments:
        """The estimate for every particle of ``q``."""
        ...


@dataclass(frozen=True)
class FirstOrder:
    r"""The covariance of q under a flat pi, :math:`(\sigma_t / \alpha_t)^2 I`, whatever the draws say.

    The reverse kernel is then that of the exponential and Euler steps, with variance v / r^2: never narrower than the exact one
    where pi is log-concave, so that weights are bounded there. Its weights lose O(d / K) nats on a path of K levels.

    Args:
        estimator: How the mean is estimated from the draws.
    """

    estimator: ScoreEstimator = SteinControlVariate()

    def moments(self, q: InnerPosterior, draws: Draws) -> Moments:
        """The estimate for every particle of ``q``."""
        mean = self.estimator(q, draws).mean
        return Moments(mean, mean.new_full(mean.shape[:1], (q.sigma / q.alpha) ** 2))


@dataclass(frozen=True)
class Isotropic:
    """One variance a particle, the mean over coordinates of that of the draws.

    It is shrunk towards the variance of q where pi has unit scale, as if that had been seen ``prior`` times.

    Args:
        estimator: How the mean is estimated from the draws.
        prior: Weight of the unit scale, in draws, > 0.

    Raises:
        ValueError: If ``prior`` is not positive.
    """

    estimator: ScoreEstimator = SteinControlVariate()
    prior: float = 2.0

    def __post_init__(self) -> None:
        _require_prior(self.prior)

    def moments(self, q: InnerPosterior, draws: Draws) -> Moments:
        """The estimate for every particle of ``q``."""
        mean = self.estimator(q, draws).mean
        variance = draws.average((draws.x_0 - mean).square()).mean(-1)
        return Moments(mean, _shrunk(variance, draws, self.prior, q.scale**2))


@dataclass(frozen=True)
class Diagonal:
    """One variance a coordinate, shrunk towards their mean, and that towards unit scale as in :class:`Isotropic`.

    Args:
        estimator: How the mean is estimated from the draws.
        prior: Weight of what is shrunk towards, in draws, > 0.

    Raises:
        ValueError: If ``prior`` is not positive.
    """

    estimator: ScoreEstimator = SteinControlVariate()
    prior: float = 2.0

    def __post_init__(self) -> None:
        _require_prior(self.prior)

    def moments(self, q: InnerPosterior, draws: Draws) -> Moments:
        """The estimate for every particle of ``q``."""
        mean = self.estimator(q, draws).mean
        variance = draws.average((draws.x_0 - mean).square())
        common = _shrunk(variance.mean(-1), draws, self.prior, q.scale**2)
        return Moments(mean, _shrunk(variance, draws, self.prior, common[:, None]))


@dataclass(frozen=True)
class LowRank:
    r"""Low rank + diagonal: the draws' covariance, of rank below their number, shrunk towards its own diagonal.

    .. math:: C = (1 - \lambda) \sum_j w_j (x_j - m)(x_j - m)^T + \lambda D, \qquad
              \lambda = \frac{\text{prior}}{\text{ess} + \text{prior}}

    with D the covariance of :class:`Diagonal`. Cost: O(d^3) a particle.

    Args:
        estimator: How the mean is estimated from the draws.
        prior: Weight of what is shrunk towards, in draws, > 0.

    Raises:
        ValueError: If ``prior`` is not positive.
    """

    estimator: ScoreEstimator = SteinControlVariate()
    prior: float = 2.0

    def __post_init__(self) -> None:
        _require_prior(self.prior)

    def moments(self, q: InnerPosterior, draws: Draws) -> Moments:
        """The estimate for every particle of ``q``."""
        mean, diagonal = Diagonal(self.estimator, self.prior).moments(q, draws)
        centred = draws.x_0 - mean
        scatter = torch.einsum("nb,nbi,nbj->bij", draws.weight, centred, centred)
        share = (self.prior / (_counted(draws) + self.prior))[:, None, None]
        return Moments(mean, (1.0 - share) * scatter + share * torch.diag_embed(diagonal))


def _counted(draws: Draws) -> Tensor:
    """``(B,)`` effective number of draws, at least none, and as many as there are where they can't tell."""
    return torch.nan_to_num(draws.ess, nan=0.0).clamp(min=0.0)


def _shrunk(variance: Tensor, draws: Draws, prior: float, towards: Tensor | float) -> Tensor:
    """The variance after ``prior`` more draws that all show the other one."""
    seen = _counted(draws)
    seen = seen if variance.ndim == 1 else seen[:, None]
    return (seen * variance + prior * towards) / (seen + prior)


def _require_prior(prior: float) -> None:
    if not prior > 0.0:
        raise ValueError(f"`prior` must be a positive float, got {prior!r}")
