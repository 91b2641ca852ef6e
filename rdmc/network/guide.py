"""Draws given an observation: the denoiser of the posterior from that of the prior, by one Gaussian step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.coordinates import Affine

__all__ = ["Guide"]


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

    def wrapped(self, denoise: Callable[[Tensor, float], Tensor], affine: Affine) -> Callable[[Tensor, float], Tensor]:
        """The denoiser of the conditional law, in the same whitened coordinates."""

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
