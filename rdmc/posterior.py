r"""The inner posterior q_t(x_0 | x_t) and what its mean says about p_t: the only home of Lemma 2.

With x_t | x_0 ~ N(alpha_t x_0, sigma_t^2 I) and x_0 ~ pi,

.. math::
    q_t(x_0 \mid x_t) \propto \pi(x_0) \exp\bigl(-|x_t - \alpha_t x_0|^2 / (2 \sigma_t^2)\bigr), \qquad
    \nabla \log p_t(x_t) = E_{q_t}\bigl[(\alpha_t x_0 - x_t) / \sigma_t^2\bigr].

The right-hand side is Lemma 2 of Huang et al. (ICLR 2024, arXiv:2307.02037), written for any alpha and sigma (Tweedie's formula).
Score, posterior mean and noise prediction are three forms of one quantity; the six functions below convert between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.conditioned import Conditioned
from rdmc.mixture import GaussianMixture, squared_norm
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = [
    "InnerPosterior",
    "mean_from_noise",
    "mean_from_score",
    "noise_from_mean",
    "noise_from_score",
    "score_from_mean",
    "score_from_noise",
]


def score_from_mean(mean: Tensor, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """Grad log p_t(x_t) = (alpha mean - x_t) / sigma^2, Tweedie's formula. Shapes ``(..., d)``."""
    return (alpha * mean - x_t) / sigma**2


def mean_from_score(score: Tensor, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """E[x_0 | x_t] = (x_t + sigma^2 score) / alpha. Shapes ``(..., d)``."""
    return (x_t + sigma**2 * score) / alpha


def noise_from_score(score: Tensor, sigma: float) -> Tensor:
    """E[eps | x_t] = -sigma score, where x_t = alpha x_0 + sigma eps. Shapes ``(..., d)``."""
    return -sigma * score


def score_from_noise(noise: Tensor, sigma: float) -> Tensor:
    """Grad log p_t(x_t) = -E[eps | x_t] / sigma. Shapes ``(..., d)``."""
    return -noise / sigma


def noise_from_mean(mean: Tensor, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """E[eps | x_t] = (x_t - alpha mean) / sigma. Shapes ``(..., d)``."""
    return (x_t - alpha * mean) / sigma


def mean_from_noise(noise: Tensor, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """E[x_0 | x_t] = (x_t - sigma noise) / alpha. Shapes ``(..., d)``."""
    return (x_t - sigma * noise) / alpha


@dataclass(frozen=True, eq=False)
class InnerPosterior:
    r"""The law of x_0 given x_t, one for each of B particles, as a batched log density.

    .. math:: \log q(x_0) = \log \pi(x_0) - |x_t - \alpha x_0|^2 / (2 \sigma^2) + \text{const}

    Shapes: ``x_t`` is ``(B, d)``; points ``x_0`` are ``(..., B, d)``, values ``(..., B)``.
    Cost: one evaluation of pi a point.

    Args:
        target: log pi.
        x_t: ``(B, d)`` conditioning points.
        alpha: Signal scale alpha_t > 0.
        sigma: Noise scale sigma_t > 0.
        surrogate: Optional Gaussian mixture near pi; conditioned on x_t it is a proposal for q (:meth:`proposal`, :meth:`guide`).

    Raises:
        ValueError: If ``alpha`` or ``sigma`` is not positive.
    """

    target: BatchedDensity
    x_t: Tensor
    alpha: float
    sigma: float
    surrogate: GaussianMixture | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "sigma"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"`{name}` must be a positive float, got {getattr(self, name)!r}")

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.x_t.shape[-1]

    @property
    def particles(self) -> int:
        """Number B of conditioning points."""
        return self.x_t.shape[0]

    @property
    def scale(self) -> float:
        """Sigma / hypot(alpha, sigma): the length scale of q where pi has unit scale; step sizes are relative to it."""
        return self.sigma / math.hypot(self.alpha, self.sigma)

    def log_likelihood(self, x_0: Tensor) -> Tensor:
        """``(..., B)`` log N(x_t; alpha x_0, sigma^2 I) without its constant."""
        return -0.5 / self.sigma**2 * squared_norm(self._residual(x_0))

    def likelihood_grad(self, x_0: Tensor) -> Tensor:
        """``(..., B, d)`` gradient of :meth:`log_likelihood` with respect to x_0."""
        return (self.alpha / self.sigma**2) * self._residual(x_0)

    def __call__(self, x_0: Tensor) -> Tensor:
        """``(..., B)`` log q at ``(..., B, d)``, up to a constant per particle."""
        return self.target(x_0) + self.log_likelihood(x_0)

    def value_and_grad(self, x_0: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., B)`` log q and its ``(..., B, d)`` gradient."""
        return self.from_target_part(x_0, *self.target.value_and_grad(x_0))

    def from_likelihood(self, rng: Streams, n: int) -> Tensor:
        """``(n, B, d)`` draws from N(x_t / alpha, (sigma / alpha)^2 I): q under a flat pi."""
        noise = rng.normal((n, *self.x_t.shape))
        return (self.x_t + self.sigma * noise) / self.alpha

    def proposal(self) -> GaussianMixture:
        """The surrogate conditioned on x_t: a mixture per particle that is q exactly where the surrogate is pi.

        Raises:
            ValueError: If there is no surrogate.
        """
        return self._surrogate().condition(self.x_t, self.alpha, self.sigma)

    def guide(self) -> Conditioned | GaussianMixture:
        """The same law for many looks and few draws, as chains want it.

        Raises:
            ValueError: If there is no surrogate.
        """
        surrogate = self._surrogate()
        if isinstance(surrogate, GaussianMixture):
            return Conditioned(surrogate, self.x_t, self.alpha, self.sigma)
        return self.proposal()  # of what only knows how to be conditioned

    def _surrogate(self) -> GaussianMixture:
        if self.surrogate is None:
            raise ValueError(
                "this inner sampler needs `surrogate`, a GaussianMixture near pi, got None; run a pilot or pass one"
            )
        return self.surrogate

    def score(self, mean: Tensor) -> Tensor:
        """``(B, d)`` grad log p_t(x_t) of a posterior mean, by Tweedie's formula."""
        return score_from_mean(mean, self.x_t, self.alpha, self.sigma)

    def target_part(self, x_0: Tensor, value: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """What log q and its gradient say about log pi: subtract the likelihood, at no evaluation."""
        return self._added(x_0, value, grad, -1.0)

    def from_target_part(self, x_0: Tensor, value: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Log q and its gradient from log pi and its gradient: add the likelihood, at no evaluation."""
        return self._added(x_0, value, grad, 1.0)

    def _residual(self, x_0: Tensor) -> Tensor:
        """``(..., B, d)`` x_t - alpha x_0."""
        return torch.sub(self.x_t, x_0, alpha=self.alpha)

    def _added(self, x_0: Tensor, value: Tensor, grad: Tensor, times: float) -> tuple[Tensor, Tensor]:
        """The likelihood and its gradient added so many times, in one pass each."""
        residual = self._residual(x_0)
        return (
            torch.add(value, squared_norm(residual), alpha=-0.5 * times / self.sigma**2),
            torch.add(grad, residual, alpha=times * self.alpha / self.sigma**2),
        )
