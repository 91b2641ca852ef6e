"""Draws with another denoiser than the network's own: given an observation, or guided by a second network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from rdmc.guidance.strength import Strength, checked_strength, strength_at
from rdmc.network.flow import At

if TYPE_CHECKING:
    from rdmc.network.denoiser import FittedDenoiser

__all__ = ["Guide", "Guiding", "NetworkGuide"]


class Guiding(Protocol):
    """What draws of a network can be guided by."""

    def wrapped(self, network: FittedDenoiser) -> At:
        """The guided denoiser, in the network's whitened coordinates."""
        ...


@dataclass(frozen=True, eq=False)
class Guide:
    r"""Condition the draws of a network on data that it was not fitted to.

    With x_0 | x_t taken to be normal with the network's mean m and covariance C = sigma^2 \nabla D, and the log
    likelihood l replaced by its second-order expansion at m, the mean given the data is

    .. math:: m + (C^{-1} + H)^{-1} \nabla l(m), \qquad H = -\nabla^2 l(m) .

    It is exact for a normal law with a linear normal observation, and an approximation otherwise: where q(x_0 | x_t) has
    several modes it is wrong. :meth:`ScoreNetwork.weights` with this guide and the log density of the conditional law
    corrects the draws and says by k whether they can be corrected. The log likelihood should be concave near the draws.

    Cost: d + 1 evaluations of the network and one Hessian of the log likelihood an evaluation of the denoiser.

    Args:
        log_likelihood: ``(M, d) -> (M,)`` in the user's coordinates, by operations that :mod:`torch.func` can
            differentiate and map.
        strength: Power of the likelihood, > 0.

    Raises:
        ValueError: If ``strength`` is not positive or ``log_likelihood`` is not callable.
    Source: Finzi et al. (2023), arXiv:2306.07526, for the covariance of x_0 given x_t by the Jacobian of the denoiser.
    """

    log_likelihood: Callable[[Tensor], Tensor]
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not callable(self.log_likelihood):
            raise ValueError(
                f"`log_likelihood` must be callable, (M, d) -> (M,), got {type(self.log_likelihood).__name__}"
            )
        if not self.strength > 0.0:
            raise ValueError(f"`strength` must be a positive float, got {self.strength!r}")

    def wrapped(self, network: FittedDenoiser) -> At:
        """The denoiser of the conditional law, in the network's whitened coordinates."""
        denoise, affine = network.at, network.affine

        def level(mean: Tensor) -> Tensor:
            return self.strength * self.log_likelihood(affine.to_user(mean[None]))[0]

        def one(z: Tensor, sigma: float) -> Tensor:
            def mean_of(y: Tensor) -> tuple[Tensor, Tensor]:
                mean = denoise(y[None], sigma)[0]
                return mean, mean

            slope, mean = torch.func.jacrev(mean_of, has_aux=True)(z)
            covariance = (0.5 * sigma**2) * (slope + slope.T)
            pull, bend = torch.func.grad(level)(mean), torch.func.jacrev(torch.func.grad(level))(mean)
            eye = torch.eye(len(z), dtype=z.dtype, device=z.device)
            # not by linalg.solve, whose gradient is wrong for all points but the first where it is mapped (torch 2.13)
            return mean + torch.linalg.inv(eye - covariance @ bend) @ (covariance @ pull)

        def guided(z: Tensor, sigma: float) -> Tensor:
            return torch.vmap(one, in_dims=(0, None))(z, sigma)

        return guided


@dataclass(frozen=True, eq=False)
class NetworkGuide:
    r"""Guide the draws of a network c by a second network f: the same combination as in :class:`rdmc.Guidance`.

    .. math:: (1 + g)\, \nabla \log p_t(x \mid c) - g\, \nabla \log p_t(x)

    g = -1 follows the second network, 0 the first; beyond 0 what tells the first from the second is exaggerated. Both must see the
    same noise: the same whitening and the same noise levels, which ``rdmc.distill(..., like=)`` gives.

    What the draws are: those of the guided process with the two networks' scores, by the steps that are asked for. What they are
    not: draws of the product :math:`p(x \mid c)^{1+g} p(x)^{-g}`, and they depend on whether the probability flow or the reverse
    equation is followed; see :class:`rdmc.Guidance`. :meth:`ScoreNetwork.weights` with the log density of the product as its
    argument weights them to it.

    Cost: one evaluation of each network; of one alone where g is 0 or -1.

    Args:
        prior: The second network f.
        strength: g, or a function of the noise level in whitened coordinates such as :class:`rdmc.guidance.Interval`.

    Raises:
        ValueError: If ``strength`` is not finite, or, when it is used, the networks do not see the same noise.

    Source: Ho and Salimans (2022), arXiv:2207.12598.
    """

    prior: FittedDenoiser
    strength: Strength = 1.0

    def __post_init__(self) -> None:
        checked_strength(self.strength)

    def wrapped(self, network: FittedDenoiser) -> At:
        """The guided denoiser, in the whitened coordinates of both."""
        _require_same_noise(network, self.prior)

        def guided(z: Tensor, sigma: float) -> Tensor:
            g = strength_at(self.strength, sigma)
            if g == 0.0:
                return network.at(z, sigma)
            other = self.prior.at(z, sigma)
            return other if g == -1.0 else (1.0 + g) * network.at(z, sigma) - g * other

        return guided


def _require_same_noise(network: FittedDenoiser, prior: FittedDenoiser) -> None:
    """Refuse two networks whose noised points are not the same points.

    Raises:
        ValueError: Saying what differs.
    """
    own, other = network.affine, prior.affine
    if own.dim != other.dim:
        raise ValueError(f"`prior` must have the dimension of the network: wanted {own.dim}, got {other.dim}")
    if not (torch.equal(own.centre, other.centre) and torch.equal(own.factor, other.factor)):
        raise ValueError(
            "`prior` must have the whitening of the network: distill one of the two with `like=` the other, got another whitening"
        )
    ranges = [(part.sigma_min, part.sigma_max) for part in (network, prior)]
    if ranges[0] != ranges[1]:
        raise ValueError(
            "`prior` must have the noise levels of the network: distill one of the two with `like=` the other, wanted "
            f"{ranges[0]}, got {ranges[1]}"
        )
