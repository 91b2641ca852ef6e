r"""The noise that a flow begins from: normal, or normal with a share of heavier tails.

At sigma_max a noised draw is normal but for :math:`O(\sigma_{max}^{-3})`. What the flow makes of it has tails as the network knows
them from its draws, which is too short where the target's are long. A share of Student noise reaches further through the same
flow, and its density is known as well as that of the normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.inner.base import require_count
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.student import StudentMixture

__all__ = ["Start", "Tails"]


@dataclass(frozen=True)
class Tails:
    r"""A share of Student noise in standard normal noise.

    .. math:: b(u) = (1 - a)\, N(u; 0, I) + a\, t_\nu(u; 0, c^2 I)

    Args:
        share: a, between 0 and 1.
        df: Degrees of freedom nu, at least 1.
        scale: c > 0.

    Raises:
        ValueError: If an argument is out of range.
    Source: Hesterberg (1995), Technometrics 37(2), for a defensive share of a broad law in importance sampling; here it is taken at
        the beginning of the flow, so that no density at a given point has to be found by inversion.

    Example:
        >>> Tails(share=0.1, df=1, scale=1.0).log_prob(torch.tensor([[100.0]])).exp() * math.pi * 1e5
        tensor([0.9999])
    """

    share: float = 0.1
    df: int = 3
    scale: float = 1.5

    def __post_init__(self) -> None:
        require_count("df", self.df, 1)
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"`share` must be between 0 and 1, got {self.share!r}")
        if not 0.0 < self.scale < math.inf:
            raise ValueError(f"`scale` must be a positive float, got {self.scale!r}")

    def stretched(self, u: Tensor, rng: Streams) -> Tensor:
        """``(n, d)`` draws of b from as many standard normal ones; each is stretched with probability ``share``."""
        chosen = rng.uniform(u.shape[:1]) < self.share
        chi_square = rng.normal((len(u), self.df)).square().sum(-1)
        length = torch.where(chosen, self.scale * (self.df / chi_square).sqrt(), 1.0)
        return length[:, None] * u

    def log_prob(self, u: Tensor) -> Tensor:
        """``(n,)`` log b at ``(n, d)`` points."""
        d = u.shape[-1]
        core = GaussianMixture.isotropic(u.new_zeros(1, d), u.new_full((1,), self.scale), u.new_ones(1))
        heavy = math.log(self.share) + StudentMixture(core, self.df).log_prob(u)
        return torch.logaddexp(math.log1p(-self.share) + _log_normal(u), heavy)


@dataclass(frozen=True, eq=False)
class Start:
    """The law of the noise at sigma_max in whitened coordinates, z = centre + factor u.

    Args:
        affine: Centre and factor.
        tails: The law of u; None for standard normal.
    """

    affine: Affine
    tails: Tails | None = None

    @classmethod
    def noised(cls, spread: Affine | None, centre: Tensor, sigma: float, tails: Tails | None) -> Start:
        """Noise sigma added to draws about ``centre`` with the covariance of ``spread``, or I."""
        eye = torch.eye(len(centre), dtype=centre.dtype, device=centre.device)
        if spread is None:
            return cls(Affine(centre, math.sqrt(1.0 + sigma**2) * eye), tails)
        return cls(Affine.from_covariance(centre, spread.factor @ spread.factor.T + sigma**2 * eye), tails)

    def draw(self, rng: Streams) -> Tensor:
        """``(n, d)`` draws, one a particle."""
        u = rng.normal((rng.particles, self.affine.dim))
        return self.affine.to_user(u if self.tails is None else self.tails.stretched(u, rng))

    def log_prob(self, z: Tensor) -> Tensor:
        """``(n,)`` log density at ``(n, d)`` points."""
        u = self.affine.to_white(z)
        return (_log_normal(u) if self.tails is None else self.tails.log_prob(u)) - self.affine.log_det()


def _log_normal(u: Tensor) -> Tensor:
    """``(n,)`` log N(u; 0, I)."""
    return -0.5 * (u.square().sum(-1) + u.shape[-1] * math.log(2.0 * math.pi))
