"""Where the particles are at the horizon: x_T ~ p_T, approximately."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rdmc.kernels.metric import Isotropic
from rdmc.mixture import GaussianMixture
from rdmc.process import ForwardProcess
from rdmc.rng import Streams
from rdmc.steps.base import Denoiser

__all__ = ["LangevinStart", "MatchedNormal", "Start"]


class Start(Protocol):
    """A way to draw x_T."""

    def draw(
        self, process: ForwardProcess, surrogate: GaussianMixture | None, dim: int, denoise: Denoiser, rng: Streams
    ) -> Tensor:
        """``(B, d)`` particles at ``process.horizon``."""
        ...


@dataclass(frozen=True)
class MatchedNormal:
    r"""x_T ~ N(alpha m, alpha^2 S + sigma^2 I) with the surrogate's mean m and covariance S, or with m = 0 and S = I without one.

    Law: p_T up to what a normal misses; the error falls with the horizon as the third cumulant of the target over sigma_T^3.
    Cost: no evaluation.
    """

    def draw(
        self, process: ForwardProcess, surrogate: GaussianMixture | None, dim: int, denoise: Denoiser, rng: Streams
    ) -> Tensor:
        """``(B, d)`` particles at ``process.horizon``."""
        z = rng.normal((rng.particles, dim))
        if surrogate is None:
            return math.hypot(process.alpha(process.horizon), process.sigma(process.horizon)) * z
        mean, covariance = self.law(process, surrogate, z[0])
        x_T: Tensor = mean + z @ torch.linalg.cholesky(covariance).T
        return x_T

    def law(self, process: ForwardProcess, surrogate: GaussianMixture | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """``(d,)`` mean and ``(d, d)`` covariance of x_T, of the type and place of ``like`` ``(d,)``."""
        alpha, sigma = process.alpha(process.horizon), process.sigma(process.horizon)
        eye = torch.eye(len(like), dtype=like.dtype, device=like.device)
        if surrogate is None:
            return torch.zeros_like(like), math.hypot(alpha, sigma) ** 2 * eye
        mean, covariance = surrogate.moments()
        return alpha * mean, alpha**2 * covariance + sigma**2 * eye


@dataclass(frozen=True)
class LangevinStart:
    r"""The published start: Langevin steps on p_T with estimated scores, from x ~ N(0, sigma_T^2 I).

    .. math:: x \leftarrow x + h \hat s_T(x) + \sqrt{2h}\, z, \qquad h = \text{step\_size} \cdot \sigma_T^2

    Law: p_T in the limit of many small steps. It lets the horizon be small, where q_T is easy, at the price of a p_T that may be
    as multimodal as the target. Cost: ``steps`` posterior estimates.

    Args:
        steps: Number of Langevin steps, >= 0.
        step_size: Dimensionless step size, > 0.

    Raises:
        ValueError: If an argument is out of range.
    Source: Huang et al. (2024), arXiv:2307.02037, the initialisation of Algorithm 1.
    """

    steps: int = 16
    step_size: float = 0.5

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.step_size > 0.0:
            raise ValueError(
                f"`steps` must be >= 0 and `step_size` positive, got {self.steps!r} and {self.step_size!r}"
            )

    def draw(
        self, process: ForwardProcess, surrogate: GaussianMixture | None, dim: int, denoise: Denoiser, rng: Streams
    ) -> Tensor:
        """``(B, d)`` particles at ``process.horizon``."""
        sigma = process.sigma(process.horizon)
        metric = Isotropic(sigma)
        x = metric.colour(rng.normal((rng.particles, dim)))
        for _ in range(self.steps):
            drift = self.step_size * metric.transpose(denoise(x, process.horizon).score)
            noise = (2.0 * self.step_size) ** 0.5 * rng.normal(x.shape)
            x = x + metric.colour(drift + noise)
        return x
