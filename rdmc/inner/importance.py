"""Self-normalised importance sampling of the inner posterior, and the proposals that it and annealing start from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rdmc.inner.base import Draws, Warm, require_count, weighted_draws
from rdmc.mixture import GaussianMixture
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams

__all__ = ["FromLikelihood", "FromSurrogate", "Importance", "Law", "Proposal", "Shifted"]


class Law(Protocol):
    """A law per particle that can be drawn from and evaluated. Shapes: points ``(n, B, d)``, values ``(n, B)``."""

    @property
    def nonfinite(self) -> Tensor:
        """``(m, B)`` which of the m target evaluations that placed the law gave NaN or ``+inf``; m may be 0."""
        ...

    def draw(self, rng: Streams, n: int) -> Tensor:
        """Independent draws."""
        ...

    def __call__(self, x_0: Tensor) -> Tensor:
        """Log density, up to a constant per particle."""
        ...

    def value_and_grad(self, x_0: Tensor) -> tuple[Tensor, Tensor]:
        """The same with its gradient, at no evaluation of the target."""
        ...


class Proposal(Protocol):
    """A way to place a law near an inner posterior."""

    def law(self, q: InnerPosterior) -> Law:
        """The law for these particles."""
        ...


@dataclass(frozen=True, eq=False)
class _Ball:
    """N(centre, sd^2 I) for each particle."""

    centre: Tensor
    sd: float
    nonfinite: Tensor

    def draw(self, rng: Streams, n: int) -> Tensor:
        return self.centre + self.sd * rng.normal((n, *self.centre.shape))

    def __call__(self, x_0: Tensor) -> Tensor:
        return -0.5 * (x_0 - self.centre).square().sum(-1) / self.sd**2

    def value_and_grad(self, x_0: Tensor) -> tuple[Tensor, Tensor]:
        return self(x_0), (self.centre - x_0) / self.sd**2


@dataclass(frozen=True, eq=False)
class _Mixture:
    """A Gaussian mixture for each particle."""

    mixture: GaussianMixture
    nonfinite: Tensor

    def draw(self, rng: Streams, n: int) -> Tensor:
        return self.mixture.draw(rng, (n,))[0]

    def __call__(self, x_0: Tensor) -> Tensor:
        return self.mixture.log_prob(x_0)

    def value_and_grad(self, x_0: Tensor) -> tuple[Tensor, Tensor]:
        return self.mixture.value_and_grad(x_0)


def _nothing(q: InnerPosterior) -> Tensor:
    return torch.zeros((0, q.particles), dtype=torch.bool, device=q.x_t.device)


@dataclass(frozen=True)
class FromLikelihood:
    r"""Propose from N(x_t / alpha, (sigma / alpha)^2 I), q under a flat pi; the weights are pi itself.

    Good where sigma / alpha is below the width of pi's modes, and hopeless where it is far above it in many dimensions.
    Cost: none. Source: Huang et al. (ICLR 2024, arXiv:2307.02037), the warm start of RDMC.
    """

    def law(self, q: InnerPosterior) -> Law:
        """The likelihood of x_0, normalised."""
        return _Ball(q.x_t / q.alpha, q.sigma / q.alpha, _nothing(q))


@dataclass(frozen=True)
class Shifted:
    r"""Propose from a Gaussian moved from x_t / alpha towards the mode of q by one Newton step.

    .. math::
        g = N\bigl(c + s^2 \nabla \log \pi(c),\ s^2 I\bigr), \qquad
        c = x_t / \alpha, \quad s^{-2} = \ell^{-2} + \alpha^2 / \sigma^2

    It is q where pi = N(m, l^2 I), and close to it wherever pi is smooth on the scale sigma / alpha. Where the gradient
    at c is not finite the Gaussian stays at c, which is counted; the weights are exact wherever it is.
    Cost: one gradient evaluation a particle.

    Args:
        length: The length scale l > 0 of pi, 1 in whitened coordinates; rather too large than too small, since a
            proposal narrower than q gives weights without a bound.

    Raises:
        ValueError: If ``length`` is not positive.
    """

    length: float = 1.0

    def __post_init__(self) -> None:
        if not self.length > 0.0:
            raise ValueError(f"`length` must be a positive float, got {self.length!r}")

    def law(self, q: InnerPosterior) -> Law:
        """The moved Gaussian."""
        sd = 1.0 / math.hypot(1.0 / self.length, q.alpha / q.sigma)
        centre = q.x_t / q.alpha
        value, grad = q.value_and_grad(centre)
        wrong = torch.isnan(value) | (value == torch.inf) | ~torch.isfinite(grad).all(-1)
        move = grad.masked_fill(wrong[:, None], 0.0)
        return _Ball(centre + sd**2 * move, sd, wrong[None])


@dataclass(frozen=True)
class FromSurrogate:
    """Propose from the surrogate conditioned on x_t, which knows the modes at every noise level.

    Cost: none. Raises ValueError on use if ``q`` has no surrogate.
    """

    def law(self, q: InnerPosterior) -> Law:
        """The conditioned mixture."""
        return _Mixture(q.proposal(), _nothing(q))


@dataclass(frozen=True)
class Importance:
    r"""Self-normalised importance sampling.

    .. math:: x_j \sim g, \qquad w_j \propto q(x_j) / g(x_j)

    Law: averages tend to those of q as n grows; bias and variance are O(1 / ess). ``ess`` falls exponentially with
    dimension where g is wider than q. Points where the density is NaN or ``+inf`` get weight 0 and are counted; a
    particle left without any weight has ess 0 and infinite standard errors.
    Cost: n density evaluations a particle, or n gradient evaluations with ``gradients``, plus those of the proposal.

    Args:
        n: Points per particle, at least 1.
        proposal: Where they come from.
        gradients: Whether to evaluate gradients too, for estimators that use them.
        handed_on: Points resampled for chains that may follow at the next level.

    Raises:
        ValueError: If a count is out of range.
    Source: Huang et al. (ICLR 2024, arXiv:2307.02037); Vacher, Chehab and Korba (2025, arXiv:2501.00565).

    Example:
        >>> Importance(256, Shifted())
        Importance(n=256, proposal=Shifted(length=1.0), gradients=False, handed_on=4)
    """

    n: int = 128
    proposal: Proposal = FromLikelihood()
    gradients: bool = False
    handed_on: int = 4

    def __post_init__(self) -> None:
        require_count("n", self.n, 1)
        require_count("handed_on", self.handed_on, 1)

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """Propose, weigh, resample; ``start`` is not used."""
        law = self.proposal.law(q)
        x_0 = law.draw(rng, self.n)
        value, grad = q.value_and_grad(x_0) if self.gradients else (q(x_0), None)
        log_weight, wrong = weigh(value - law(x_0), value)
        if grad is not None:  # a point of weight 0 must not bring its NaN into an average
            grad = grad.masked_fill((log_weight == -torch.inf)[..., None], 0.0)
        return weighted_draws(
            x_0,
            log_weight,
            rng,
            handed_on=self.handed_on,
            nonfinite=torch.cat([wrong, law.nonfinite]).to(x_0.dtype).mean(),
            grad=grad,
        )


def weigh(log_weight: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Log weights with ``-inf`` where the density is NaN or ``+inf``, and where that was so; ``-inf`` passes."""
    wrong = torch.isnan(value) | (value == torch.inf)
    return log_weight.masked_fill(wrong, -torch.inf), wrong
