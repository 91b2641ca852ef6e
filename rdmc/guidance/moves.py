r"""Exact moves on a law between two noise levels, with step sizes that look at nothing but that law.

The evidence of weighted paths is unbiased after moves only if the kernel was fixed before the particles came: a step size tuned to
the population would see them. So each move has a step size drawn at random from a wide range instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rdmc.kernels import MALA
from rdmc.kernels.metric import Dense
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams

__all__ = ["Power", "moved"]

_KEY = 0xFFFFFFFB  # streams that no (chain, shard) can have
_POINTS = 256
_STEP_SIZES = (0.2, 4.0)  # in units of the variance that the power leaves


@dataclass(frozen=True, eq=False)
class Power:
    r"""The product of powers of two mixtures, a and b, unnormalised, and of finite mass whatever they are.

    .. math:: \log f = \log a + g \min(\log a - \log b,\, c), \qquad g > 0

    and the same with a and b, and g and -1 - g, exchanged for g below -1. Between there is no bound. The bound c is one nat above
    the largest of the log ratio at draws of a, so that it matters only in tails, where the ratio of two mixtures may grow for ever.

    Args:
        g: Strength.
        posterior: The mixture a.
        prior: The mixture b.

    Example:
        >>> one = GaussianMixture.isotropic(torch.zeros(1, 2), torch.ones(1), torch.ones(1))
        >>> bool(Power(0.5, one, one)(torch.zeros(3, 2)).eq(one.log_prob(torch.zeros(3, 2))).all())
        True
    """

    g: float
    posterior: GaussianMixture
    prior: GaussianMixture

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.posterior.dim

    @cached_property
    def _terms(self) -> tuple[GaussianMixture, GaussianMixture, float]:
        """The mixture to start from, the other, and the power of their ratio."""
        if self.g < -1.0:
            return self.prior, self.posterior, -1.0 - self.g
        return self.posterior, self.prior, self.g

    @cached_property
    def _most(self) -> Tensor:
        """``()`` the bound c."""
        own, other, power = self._terms
        if power <= 0.0:
            return own.mean.new_full((), torch.inf)
        # points of their own, the same for every particle and run
        rng = Streams.seeded(0, [_POINTS], [(_KEY,)], dtype=own.mean.dtype, device=own.mean.device)
        x = own.draw(rng)[0]
        return (own.log_prob(x) - other.log_prob(x)).amax() + 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """``(B,)`` values at ``(B, d)`` points."""
        own, other, power = self._terms
        value = own.log_prob(x)
        return value + power * torch.minimum(value - other.log_prob(x), self._most)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values and ``(B, d)`` gradients."""
        own, other, power = self._terms
        (value, grad), (value_o, grad_o) = own.value_and_grad(x), other.value_and_grad(x)
        ratio = value - value_o
        free = (ratio < self._most).to(x.dtype)
        return value + power * torch.minimum(ratio, self._most), grad + power * free[:, None] * (grad - grad_o)


def moved(f: Power, x: Tensor, moves: int, rng: Streams) -> Tensor:
    """``(B, d)`` particles after Langevin moves that leave f invariant, each with a step size drawn at random.

    Law: f, whatever the particles are. Cost: no evaluation of the target, ``moves + 1`` gradients of each mixture a particle.

    Args:
        f: The law.
        x: ``(B, d)`` particles.
        moves: How many, 0 for none.
        rng: Source of randomness.
    """
    if moves == 0:
        return x
    share = min(1.0, max(0.0, 1.0 + f.g))
    covariance = share * f.posterior.within() + (1.0 - share) * f.prior.within()
    metric, kernel = Dense(torch.linalg.cholesky(covariance)), MALA()
    low, high = (math.log(h / (1.0 + max(0.0, f.g))) - math.log(x.shape[1]) / 3.0 for h in _STEP_SIZES)
    state = kernel.init(f, x)
    for _ in range(moves):
        state, _ = kernel.step(f, state, rng, low + (high - low) * rng.uniform(state.value.shape), metric)
    return state.x
