r"""A mixture whose components factorise along common directions, with Student tails of their own in each.

Tails of independent coordinates lie along the directions; those of a multivariate Student law are the same all around. Neither
covers the other in more than a few dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.look import Look, look_from
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams

__all__ = ["FEWEST", "AxesMixture", "fit_axes"]

FEWEST = 8
"""Different points that a component needs for scales of its own."""


@dataclass(frozen=True, eq=False)
class AxesMixture:
    r"""The law of :math:`x = c + A z`, :math:`z \sim \sum_k w_k \prod_j t_\nu(z_j; m_{kj}, s_{kj})`.

    Shapes: points are ``(..., d)``. Cost: ``O(d^2 + d K)`` a point, no evaluation of the target.

    Args:
        affine: c and A.
        log_weight: ``(K,)`` log weights, normalised.
        mean: ``(K, d)``.
        scale: ``(K, d)``.
        df: Degrees of freedom nu, an integer of at least 1.
    """

    affine: Affine
    log_weight: Tensor
    mean: Tensor
    scale: Tensor
    df: int

    def _components(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., K, d)`` standardised coordinates and ``(..., K)`` log densities of the components."""
        nu = self.df
        constant = math.lgamma(0.5 * (nu + 1)) - math.lgamma(0.5 * nu) - 0.5 * math.log(nu * math.pi)
        u = (self.affine.to_white(x)[..., None, :] - self.mean) / self.scale
        height = (constant - self.scale.log()).sum(-1) - 0.5 * (nu + 1) * torch.log1p(u.square() / nu).sum(-1)
        return u, self.log_weight + height

    def log_prob(self, x: Tensor) -> Tensor:
        """``(...)`` normalised log density."""
        return torch.logsumexp(self._components(x)[1], -1) - self.affine.log_det()

    def look(self, x: Tensor) -> Look:
        """Log density and ``(..., K)`` responsibilities."""
        value, share = look_from(self._components(x)[1])
        return Look(value - self.affine.log_det(), share)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log density and its ``(..., d)`` gradient, in closed form."""
        u, height = self._components(x)
        slope = -(self.df + 1) * u / (self.df + u.square()) / self.scale
        value = torch.logsumexp(height, -1) - self.affine.log_det()
        return value, self.affine.pull_back((torch.softmax(height, -1)[..., None] * slope).sum(-2))

    def draw(self, rng: Streams, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """``(*lead, B, d)`` draws and the ``(*lead, B)`` component of each."""
        shape = (*lead, rng.particles)
        cumulative = self.log_weight.exp().cumsum(-1)
        label = (rng.uniform(shape)[..., None] * cumulative[-1] > cumulative).sum(-1).clamp(max=len(self.mean) - 1)
        chi_square = rng.normal((*shape, self.affine.dim * self.df)).view(*shape, self.affine.dim, self.df)
        t = rng.normal((*shape, self.affine.dim)) * (self.df / chi_square.square().sum(-1)).sqrt()
        return self.affine.to_user(self.mean[label] + self.scale[label] * t), label


def fit_axes(points: Tensor, directions: Tensor, modes: GaussianMixture, df: int) -> AxesMixture:
    """One component for each mode, with scales by the quartiles of the points that belong to it: tails don't move quartiles.

    A mode to which fewer than 8 different points belong has no component; where that is so of all, all points make one. Points that
    resampling copied count by their number for a component's weight, and once for its scales: copies alone would make an atom.

    Args:
        points: ``(M, d)`` points.
        directions: ``(d, d)`` columns along which components factorise.
        modes: Gaussians that tell which points belong together.
        df: Degrees of freedom of the tails.
    """
    different, copies = torch.unique(points, dim=0, return_counts=True)
    label = modes.log_responsibilities(different).argmax(-1)
    if int(torch.bincount(label).max()) < FEWEST:
        label = torch.zeros_like(label)
    affine = Affine(points.mean(0), directions)
    z = affine.to_white(different)
    level = torch.tensor([0.25, 0.5, 0.75], dtype=z.dtype, device=z.device)
    mean, scale, weight = [], [], []
    for k in range(modes.components):
        own = z[label == k]
        if len(own) < FEWEST:
            continue
        low, middle, high = torch.quantile(own, level, dim=0)
        mean.append(middle)
        scale.append((high - low).clamp(min=torch.finfo(z.dtype).tiny) / _quartile_range(df))
        weight.append(int(copies[label == k].sum()))
    share = torch.tensor(weight, dtype=z.dtype, device=z.device) / sum(weight)
    return AxesMixture(affine, share.log(), torch.stack(mean), torch.stack(scale), df)


def _quartile_range(df: int) -> float:
    """Distance between the quartiles of the Student law of unit scale."""
    from scipy.stats import t

    return float(t.ppf(0.75, df) - t.ppf(0.25, df))
