"""Gaussians whose gradients match the density's: what a mode is like where its mass is, and not at its peak."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.linear import spectrum
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Matching"]

_STRETCH = 9.0  # most that a variance grows or shrinks by in a step: a flat density bounds none
_STRIDE = 2.0  # times the root of d, the standard deviations that a mean moves in a step, at most
_STEEPEST = 1e60  # slope in standard deviations beyond which squares could overflow
_FAINT = 69.0  # nats below the heaviest Gaussian, as low as another's weight may be


@dataclass(frozen=True)
class Matching:
    r"""Batch and match: Gaussians of full covariance, moved until their gradients are those of the density where they draw.

    In coordinates where the present Gaussian is N(0, I), from B draws z with mean :math:`\bar z` and covariance C and the density's
    gradients there with mean :math:`\bar g` and covariance :math:`\Gamma`, the next one minimises the mean squared difference of
    gradients, in its own units, plus its divergence from the present one over :math:`\lambda = B d / t`:

    .. math::
        \Sigma U \Sigma + \Sigma = V, \quad \mu = \tfrac{\lambda}{1 + \lambda} (\Sigma \bar g + \bar z), \quad
        U = \lambda \Gamma + \tfrac{\lambda}{1 + \lambda} \bar g \bar g^T, \quad
        V = I + \lambda C + \tfrac{\lambda}{1 + \lambda} \bar z \bar z^T.

    The curvature at a peak says nothing of a law with a kink there (a Laplace law, a lasso posterior) and too little of one with a
    sharp peak and long tails, the more so the more dimensions there are. Gradients where the mass is do. Every step halves the
    difference of log scales, so few are enough, in any coordinates.

    All Gaussians make a quarter of the steps, half of them, with the best evidence lower bounds, another quarter, and a quarter of
    them the others; the rest stay as they are by then.

    Law: none; what is found is a proposal. Draws come in antithetic pairs; those without a density or a gradient are left out.
    Cost: half of ``steps x max(draws, 4d)`` gradient evaluations a Gaussian.

    Args:
        steps: Steps of the best Gaussians.
        draws: Draws of each a step, at least.

    Source: Cai et al. (2024), Batch and match: black-box variational inference with a score-based divergence, ICML,
    arXiv:2402.14758, algorithm 1.
    """

    steps: int = 16
    draws: int = 128

    def mixture(self, f: BatchedDensity, start: GaussianMixture, rng: Streams) -> GaussianMixture | None:
        """The moved Gaussians, weighted by their evidence lower bounds; None if no draw of any has a gradient.

        Args:
            f: Log density.
            start: Gaussians.
            rng: Random numbers; half of the draws come from its particles, so there are at most twice as many.
        """
        mean, factor = start.mean.clone(), start.factor.clone()
        bound = torch.full_like(mean[:, 0], -torch.inf)
        going = torch.arange(start.components, device=mean.device)
        for t in range(1, self.steps + 1):
            half = rng.normal((rng.particles, start.dim))[: max(self.draws, 4 * start.dim) // 2]
            z = torch.cat([half, -half])
            m, root = mean[going], factor[going]
            x = m[:, None] + z @ root.mT
            value, grad = f.value_and_grad(x.flatten(0, 1))
            value, grad = value.view(x.shape[:2]), grad.view(x.shape) @ root
            usable = torch.isfinite(value) & torch.isfinite(grad).all(-1)
            bound[going] = torch.where(usable, value, 0.0).sum(1) / usable.sum(1) + torch.linalg.slogdet(root)[1]
            shift, stretch = _step(z, torch.where(usable[..., None], grad, 0.0), usable, t)
            mean[going], factor[going] = m + (root @ shift[..., None])[..., 0], root @ stretch
            if t in (self.steps // 4, self.steps // 2):
                order = bound[going].nan_to_num(-torch.inf).argsort(descending=True, stable=True)
                going = going[order[: -(-len(going) // 2)]]
        good = torch.isfinite(bound) & torch.isfinite(mean).all(-1) & torch.isfinite(factor).flatten(1).all(-1)
        if not bool(good.any()):
            return None
        basis, sd, _ = torch.linalg.svd(factor[good])
        weight = bound[good].clamp(min=float(bound[good].max()) - _FAINT)
        return GaussianMixture(weight, mean[good], basis, sd.square())


def _step(z: Tensor, grad: Tensor, usable: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """From N(0, I) to the next Gaussians: ``(K, d)`` means and ``(K, d, d)`` square roots of covariances.

    Args:
        z: ``(B, d)`` draws.
        grad: ``(K, B, d)`` gradients, zero where unusable.
        usable: ``(K, B)`` which draws have one.
        t: Which step it is, from 1.
    """
    b, d = z.shape
    grad = grad * (_STEEPEST / grad.norm(dim=-1, keepdim=True).clamp(min=_STEEPEST))
    share = usable.to(z.dtype) / usable.sum(1, keepdim=True).clamp(min=1)
    mean_z, mean_g = share @ z, (share[..., None] * grad).sum(1)
    rate = b * d / t
    pull = rate / (1.0 + rate)

    def moments(rows: Tensor, mean: Tensor) -> Tensor:
        raw = (share[..., None] * rows).mT @ rows.expand_as(grad)
        outer = mean[..., None] * mean[..., None, :]
        return rate * (raw - outer) + pull * outer

    u, v = moments(grad, mean_g), moments(z.expand_as(grad), mean_z) + torch.eye(d, dtype=z.dtype, device=z.device)
    root = torch.linalg.cholesky(v)
    value, vector = spectrum(root.mT @ u @ root)
    vector = root @ vector
    covariance = (vector * (2.0 / (1.0 + (1.0 + 4.0 * value.clamp(min=0.0)).sqrt()))[:, None]) @ vector.mT
    variance, axes = spectrum(covariance)
    variance = variance.clamp(1.0 / _STRETCH, _STRETCH)
    covariance = (axes * variance[:, None]) @ axes.mT
    shift = pull * ((covariance @ mean_g[..., None])[..., 0] + mean_z)
    far = shift.norm(dim=-1, keepdim=True) / (_STRIDE * math.sqrt(d))
    return shift / far.clamp(min=1.0), axes * variance.sqrt()[:, None]
