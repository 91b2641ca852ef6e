r"""Potentials: what is known of p_t at a particle before its path is at an end.

Any positive numbers leave the evidence unbiased (:mod:`rdmc.path.weights`); the nearer they are to Z p_t(x_t), the less is
resampled in vain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rdmc.inner import Draws
from rdmc.path.weights import noised
from rdmc.posterior import InnerPosterior

__all__ = ["Marginal", "NoisedMixture", "Potential"]


class Potential(Protocol):
    """A positive number for each particle, at no evaluation of the target."""

    def log_value(self, q: InnerPosterior, draws: Draws) -> Tensor:
        """``(B,)`` its log, up to a constant; ``-inf`` where nothing is known, which the sampler replaces."""
        ...


@dataclass(frozen=True)
class NoisedMixture:
    r"""The surrogate's own noised density, :math:`\sum_k w_k N(x_t; \alpha \mu_k, \alpha^2 S_k + \sigma^2 I)`.

    It has no noise, and is as far from p_t as the surrogate is from pi; whatever that lacks is weighed at the last level.
    """

    def log_value(self, q: InnerPosterior, draws: Draws) -> Tensor:
        """``(B,)`` log g_t(x_t)."""
        if q.surrogate is None:
            raise ValueError("NoisedMixture needs `surrogate`, a GaussianMixture near pi, got None; run a pilot")
        return noised(q.surrogate, q.alpha, q.sigma).log_prob(q.x_t)


@dataclass(frozen=True)
class Marginal:
    r"""The estimate of p_t(x_t) that importance draws x_j of q give, as a power mean.

    .. math:: \gamma = \Bigl( \frac1n \sum_j w_j^p \Bigr)^{1/p}, \qquad
              w_j = \pi(x_j) N(x_t; \alpha x_j, \sigma^2 I) / g(x_j), \quad x_j \sim g

    With p = 1 it is unbiased for Z p_t(x_t), and as heavy-tailed as pi/g; smaller p trades a bias, which costs nothing here,
    for far less noise. At the data end all p agree.

    Args:
        power: p in (0, 1].

    Raises:
        ValueError: If ``power`` is out of range, or on use if the draws have no weights.
    Source: p = 1: Wu et al. (2025), arXiv:2508.05926. The power mean: this library.
    """

    power: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.power <= 1.0:
            raise ValueError(f"`power` must be in (0, 1], got {self.power!r}")

    def log_value(self, q: InnerPosterior, draws: Draws) -> Tensor:
        """``(B,)`` log gamma, from the weights of the draws."""
        if draws.log_weight is None:
            raise ValueError(
                "Marginal needs weighted draws, got `log_weight=None`; use Importance(proposal=FromSurrogate()), or the "
                "potential NoisedMixture()"
            )
        return torch.logsumexp(self.power * draws.log_weight, 0) / self.power
