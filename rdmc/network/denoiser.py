"""The denoiser that was fitted: what it says at a point, and the noise that its flow begins from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.grid import PolynomialGrid
from rdmc.inner.base import require_count
from rdmc.network.flow import At
from rdmc.network.guide import Guiding
from rdmc.network.methods import require_noise
from rdmc.network.module import Architecture, DenoisingNetwork
from rdmc.network.starting import Start, Tails
from rdmc.network.walking import estimated
from rdmc.process import EDM
from rdmc.rng import Streams

__all__ = ["FittedDenoiser"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class FittedDenoiser:
    r"""E[x_0 | x_t] by a network.

    In whitened coordinates z the noised point is z_t = z_0 + sigma eps (process EDM: the time is sigma). Points that go in and out
    are the user's, x = centre + factor z; their noise has covariance sigma^2 factor factor^T.

    Attributes:
        module: The network.
        architecture: Its size.
        process: EDM, whose horizon is sigma_max.
        sigma_min: Noise that draws keep, in whitened coordinates: the density is that of the data with this much noise.
        affine: The whitening.
        spread: Mean of the draws and a root of their covariance in whitened coordinates; None for 0 and I, which they are where the
            whitening is the draws' own.
    """

    module: DenoisingNetwork
    architecture: Architecture
    process: EDM
    sigma_min: float
    affine: Affine
    spread: Affine | None = None

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.affine.dim

    @property
    def sigma_max(self) -> float:
        """Noise from which draws begin."""
        return self.process.horizon

    def at(self, z: Tensor, sigma: float) -> Tensor:
        """``(B, d)`` denoised whitened points; the form that the flow differentiates."""
        mean: Tensor = self.module(z, z.new_full(z.shape[:-1], sigma))
        return mean

    def _given(self, x: Tensor) -> Tensor:
        """``(n, d)`` the user's points in whitened coordinates."""
        if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[-1] != self.dim:
            came = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"`x` must be a tensor of shape (..., {self.dim}), got {came}")
        return self.affine.to_white(x.detach().to(self.affine.centre)).reshape(-1, self.dim)

    def times(self, steps: int) -> tuple[float, ...]:
        """``steps + 1`` noise levels from sigma_max to sigma_min, on the grid of Karras et al. (rho = 7)."""
        require_count("steps", steps, 1)
        return PolynomialGrid(levels=steps, end=self.sigma_min).times(self.process)

    def begin(self, guide: Guiding | None = None, tails: Tails | None = None) -> tuple[At, Start]:
        """The denoiser, and the law of the whitened noise at sigma_max; given data it is moved to where their mean is."""
        spread = self.spread
        centre = torch.zeros_like(self.affine.centre) if spread is None else spread.centre
        if guide is None:
            return self.at, Start.noised(spread, centre, self.sigma_max, tails)
        at = guide.wrapped(self)
        return at, Start.noised(spread, at(centre[None], self.sigma_max)[0], self.sigma_max, tails)

    def streams(self, n: int, seed: int, *key: int) -> Streams:
        """Random numbers for n draws."""
        require_count("n", n, 1)
        require_count("seed", seed, 0)
        return Streams.seeded(seed, [n], [(0xD157, *key)], device=self.affine.centre.device)

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """``(..., d)`` E[x_0 | x_t] at ``(..., d)`` points with noise level sigma > 0."""
        require_noise("sigma", sigma)
        z = self._given(x)
        return self.affine.to_user(estimated(self.at)(z, sigma).mean).view(x.shape)

    @torch.no_grad()
    def score(self, x: Tensor, t: float) -> Tensor:
        """``(..., d)`` grad log p_t(x) with respect to x at ``(..., d)`` points; the time t > 0 is the noise level."""
        require_noise("t", t)
        z = self._given(x)
        return self.affine.pull_back(estimated(self.at)(z, t).score).view(x.shape)
