r"""A reference of independent coordinates: what many modes in many dimensions often are, and no list of modes can be.

With 2 wells along each of 16 directions there are 2^16 modes; along each direction there are two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.linear import spectrum
from rdmc.look import Look
from rdmc.rng import Streams

__all__ = ["ProductMixture", "fit_product", "independent_directions"]

_PER_COORDINATE = 6  # components of a coordinate's mixture
_ITERATIONS = 60
_PRIOR_VARIANCE = 0.01  # as if of one more point: a component of a few points keeps some width
_BROAD = (0.03, 2.0)  # weight and width, in standard deviations, of the component that covers a coordinate's tails


@dataclass(frozen=True, eq=False)
class ProductMixture:
    r"""The law of :math:`x = c + A z` with independent z_j, each of a one-dimensional Gaussian mixture.

    Shapes: points are ``(..., d)``. Cost: ``O(d^2 + d K)`` a point, no evaluation of the target.

    Args:
        affine: c and A.
        log_weight: ``(d, K)`` log weights of each coordinate's mixture, normalised.
        mean: ``(d, K)``.
        sd: ``(d, K)``.
    """

    affine: Affine
    log_weight: Tensor
    mean: Tensor
    sd: Tensor

    def _coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., d, K)`` standardised coordinates and log densities of the components."""
        u = (self.affine.to_white(x)[..., None] - self.mean) / self.sd
        return u, self.log_weight - self.sd.log() - 0.5 * math.log(2.0 * math.pi) - 0.5 * u.square()

    def log_prob(self, x: Tensor) -> Tensor:
        """``(...)`` normalised log density."""
        return torch.logsumexp(self._coordinates(x)[1], -1).sum(-1) - self.affine.log_det()

    def look(self, x: Tensor) -> Look:
        """Log density; all is one region, as the components are those of single coordinates."""
        value = self.log_prob(x)
        return Look(value, torch.ones_like(value)[..., None])

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log density and its ``(..., d)`` gradient, in closed form."""
        u, height = self._coordinates(x)
        value = torch.logsumexp(height, -1).sum(-1) - self.affine.log_det()
        slope = -(torch.softmax(height, -1) * u / self.sd).sum(-1)
        return value, self.affine.pull_back(slope)

    def draw(self, rng: Streams, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """``(*lead, B, d)`` draws and the ``(*lead, B, d)`` component of each coordinate."""
        shape = (*lead, rng.particles, self.affine.dim)
        cumulative = self.log_weight.exp().cumsum(-1)
        u = rng.uniform(shape, particle_axis=-2)[..., None]
        label = (u * cumulative[:, -1:] > cumulative).sum(-1).clamp(max=self.mean.shape[-1] - 1)
        pick = torch.arange(self.affine.dim, device=label.device)
        z = self.mean[pick, label] + self.sd[pick, label] * rng.normal(shape)
        return self.affine.to_user(z), label


def independent_directions(precision: Tensor) -> Tensor:
    r"""``(d, d)`` directions A along which a density of independent coordinates factorises, from Hessians at n points.

    If :math:`x = A z` with independent z_j, minus the Hessian of log pi is :math:`A^{-T} D(x) A^{-1}` with D diagonal at every x,
    so any two weighted sums of Hessians share the generalised eigenvectors A. No sampling error is left, unlike in independent
    component analysis; of a density that does not factorise, the directions are merely some basis.

    Args:
        precision: ``(n, d, d)`` minus the Hessian of log pi.

    Source: for the identity, Lin (1998), NeurIPS 10, "Factorizing multivariate function classes".
    """
    n = len(precision)
    scale = torch.diagonal(precision, dim1=-2, dim2=-1).abs().mean(0).clamp(min=1e-30).rsqrt()
    scaled = precision * scale[:, None] * scale[None, :]
    values, vectors = spectrum(scaled.mean(0))
    root = vectors * values.abs().clamp(min=1e-8 * float(values.abs().max())).rsqrt()
    # weights that are no multiple of each other; which ones does not matter
    weight = torch.cos(torch.arange(n, dtype=precision.dtype, device=precision.device).square())
    mixed = root.T @ torch.einsum("n,nij->ij", weight, scaled) @ root
    return scale[:, None] * (root @ spectrum(0.5 * (mixed + mixed.T))[1])


def fit_product(points: Tensor, directions: Tensor) -> ProductMixture:
    """A product law near that of ``(M, d)`` points: along each direction a mixture, by expectation maximisation of all at once.

    Args:
        points: Points, in any coordinates.
        directions: ``(d, d)`` columns along which to factorise, for example from :func:`independent_directions`.
    """
    m = len(points)
    centre = points.mean(0)
    z = torch.linalg.solve(directions, (points - centre).T).T
    sd = z.std(0).clamp(min=torch.finfo(z.dtype).tiny)
    affine = Affine(centre, directions * sd)
    z = (z / sd)[..., None]
    k = min(_PER_COORDINATE, m)
    level = (torch.arange(k, dtype=z.dtype, device=z.device) + 0.5) / k
    mean = torch.quantile(z[..., 0], level, dim=0).T
    variance = torch.full_like(mean, 1.0 / k)
    weight = torch.full_like(mean, 1.0 / k)
    for _ in range(_ITERATIONS):
        height = weight.log() - 0.5 * variance.log() - 0.5 * (z - mean).square() / variance
        share = torch.softmax(height, -1)
        count = share.sum(0) + 1e-3
        mean = (share * z).sum(0) / count
        variance = ((share * (z - mean).square()).sum(0) + _PRIOR_VARIANCE) / (count + 1.0)
        weight = count / count.sum(-1, keepdim=True)
    share_, width = _BROAD
    tail = torch.ones_like(mean[:, :1])
    return ProductMixture(
        affine,
        torch.cat([(1.0 - share_) * weight, share_ * tail], -1).log(),
        torch.cat([mean, 0.0 * tail], -1),
        torch.cat([variance.sqrt(), width * tail], -1),
    )
