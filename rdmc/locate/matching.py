"""Gaussians whose gradients match the density's: what a mode is like where its mass is, and not at its peak."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from rdmc.linear import spectrum
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Matching"]

_CAP = math.log(9.0)  # most that a log variance changes by in a step, and the square roots of d that a mean moves
_SHORTER, _LONGER = 0.25, 2.0  # factors of a Gaussian's cap after a step that failed, and one that did not
_FALL = 1.0  # nats that a bound may fall by in a step: it is an average of few draws
_STEEP = 2.5  # times the root mean square slope of a Gaussian at its own optimum, above which the density is tempered
_ODD = 10.0  # times the median slope, above which one draw may not lead
_USABLE = 0.25  # share of draws that must have a density
_BESIDE = 7.0  # nats below the best bound, as low as another's may be
_MOST = 16  # Gaussians returned
_EPS = 1e-8


@dataclass(frozen=True)
class Matching:
    r"""Batch and match: Gaussians of full covariance, moved until their gradients are those of the density where they draw.

    In coordinates where the present Gaussian is N(0, I), from B draws z with mean :math:`\bar z` and covariance C and the density's
    gradients there with mean :math:`\bar g` and covariance :math:`\Gamma`, the next one minimises the mean squared difference of
    gradients, in its own units, plus its divergence from the present one over :math:`\lambda = B d`:

    .. math::
        \Sigma U \Sigma + \Sigma = V, \quad \mu = \tfrac{\lambda}{1 + \lambda} (\Sigma \bar g + \bar z), \quad
        U = \lambda \Gamma + \tfrac{\lambda}{1 + \lambda} \bar g \bar g^T, \quad
        V = I + \lambda C + \tfrac{\lambda}{1 + \lambda} \bar z \bar z^T.

    The curvature at a peak says nothing of a law with a kink there (a Laplace law, a lasso posterior), too little of one with a
    sharp peak and long tails, the more so the more dimensions there are, and the wrong thing where a density rises for ever in the
    neck of a hierarchical model. Gradients where the mass is do. Near the end a step halves the difference of log scales, so
    few are enough, in any coordinates.

    Three things make it safe far from the mass, where gradients are steep. There the density is tempered, beta log pi in place of
    log pi, :math:`\beta = \min(1, 2.5 \sqrt{d / E |g|^2})`, or a Gaussian would shrink until it stands still; at the optimum for
    a Gaussian the mean is d, so beta is 1. A step is taken back and made shorter if the evidence lower bound

    .. math:: L = E_z \log \pi(\mu + \Sigma^{1/2} z) + \tfrac12 \log |2 \pi e \Sigma| \le \log Z

    falls. And many Gaussians begin: after every few steps only the half with the better bounds go on.

    Law: none; what is found is a proposal. Draws come in antithetic pairs; those without a density or a gradient are left out.
    Cost: ``2 steps x max(draws, 3d)`` gradient evaluations a Gaussian, and as many for each of the last four.

    Args:
        steps: Steps before each halving.
        draws: Draws of a Gaussian a step, at least.
        last: Gaussians that are not halved any more; these make twice as many steps.

    Source: Cai et al. (2024), Batch and match: black-box variational inference with a score-based divergence, ICML,
    arXiv:2402.14758, algorithm 1; the tempering, the return and the halving are ours.
    """

    steps: int = 5
    draws: int = 32
    last: int = 4

    def mixture(self, f: BatchedDensity, start: GaussianMixture, rng: Streams) -> tuple[GaussianMixture, Tensor] | None:
        """The best Gaussians, weighted by their bounds, and ``(K,)`` bounds; None if no draws of any have a density.

        Args:
            f: Log density.
            start: Gaussians; their weights don't matter.
            rng: Random numbers; half of the draws come from its particles, so there are at most twice as many.
        """
        going = _Moving.at(start.mean, start.factor)
        ended = []
        while True:
            halving = len(going.mean) > self.last
            for _ in range(self.steps if halving else 2 * self.steps):
                half = rng.normal((rng.particles, start.dim))[: -(-max(self.draws, 3 * start.dim) // 2)]
                going = going.moved(f, torch.cat([half, -half]))
            order = going.bound.argsort(descending=True, stable=True)
            if not halving:
                break
            half_way = max(self.last, -(-len(order) // 2))
            ended.append(going.some(order[half_way:]))
            going = going.some(order[:half_way])
        mean, factor, bound = (
            torch.cat([getattr(part, name) for part in (going, *ended)]) for name in ("mean", "factor", "bound")
        )
        best = bound.argsort(descending=True, stable=True)[:_MOST]
        best = best[torch.isfinite(bound[best]) & (bound[best] >= bound.max() - _BESIDE)]
        if len(best) == 0:
            return None
        basis, sd, _ = torch.linalg.svd(factor[best])
        return GaussianMixture(bound[best], mean[best], basis, sd.square()), bound[best]


@dataclass(frozen=True, eq=False)
class _Moving:
    """K Gaussians, what was seen where they drew, and where they would go next.

    Attributes:
        mean: ``(K, d)`` of the last that was not taken back.
        factor: ``(K, d, d)`` square roots of its covariance.
        bound: ``(K,)`` its evidence lower bound, ``-inf`` before the first step.
        z: ``(K, B, d)`` its draws, standardised, ...
        grad: ... their gradients, tempered, in its units, ...
        usable: ... and ``(K, B)`` which of them have one.
        cap: ``(K,)`` most that its log variances change by in a step.
    """

    mean: Tensor
    factor: Tensor
    bound: Tensor
    z: Tensor
    grad: Tensor
    usable: Tensor
    cap: Tensor

    @classmethod
    def at(cls, mean: Tensor, factor: Tensor) -> _Moving:
        """Before anything was seen."""
        k, d = mean.shape
        nothing = mean.new_zeros(k, 0, d)
        bound, cap = mean.new_full((k,), -torch.inf), mean.new_full((k,), _CAP)
        return cls(mean, factor, bound, nothing, nothing, nothing[..., 0].bool(), cap)

    def some(self, chosen: Tensor) -> _Moving:
        """Some of them."""
        return _Moving(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def moved(self, f: BatchedDensity, z: Tensor) -> _Moving:
        """After a step, seen by ``(B, d)`` new draws, and taken back where the bound falls."""
        mean, factor = self.mean, self.factor
        if self.z.shape[1]:
            shift, stretch = _step(self.z, self.grad, self.usable, self.cap)
            mean, factor = mean + (factor @ shift[..., None])[..., 0], factor @ stretch
        x = mean[:, None] + z @ factor.mT
        value, grad = f.value_and_grad(x.flatten(0, 1))
        value, grad = value.view(x.shape[:2]), grad.view(x.shape) @ factor
        usable = torch.isfinite(value) & torch.isfinite(grad).all(-1)
        count = usable.sum(1)
        entropy = torch.linalg.slogdet(factor)[1] + 0.5 * x.shape[-1] * math.log(2.0 * math.pi * math.e)
        bound = torch.where(usable, value, 0.0).sum(1) / count + entropy
        bound = torch.where(count >= _USABLE * len(z), bound, -torch.inf).nan_to_num(-torch.inf, neginf=-torch.inf)
        seen = _Moving(
            mean, factor, bound, z.expand_as(x), _tempered(grad, usable), usable, (_LONGER * self.cap).clamp(max=_CAP)
        )
        if not self.z.shape[1]:
            return seen
        risen = bound >= self.bound - _FALL
        former = replace(self, cap=_SHORTER * self.cap)
        return _Moving(
            *(_chosen(risen, getattr(seen, field.name), getattr(former, field.name)) for field in fields(self))
        )


def _chosen(which: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Rows of the one where ``(K,)`` which is true, of the other elsewhere."""
    return torch.where(which.view(-1, *[1] * (one.ndim - 1)), one, other)


def _tempered(grad: Tensor, usable: Tensor) -> Tensor:
    """``(K, B, d)`` gradients times beta, zero where unusable."""
    grad = torch.where(usable[..., None], grad, 0.0)
    norm = grad.norm(dim=-1, keepdim=True)
    # one draw in an abyss must not throw a Gaussian out of where the others are
    grad = grad * (_ODD * norm.median(1, keepdim=True).values / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(
        max=1.0
    )
    steepness = (grad.norm(dim=(1, 2)) / (usable.sum(1).clamp(min=1) * grad.shape[-1]).sqrt())[:, None, None]
    return grad * (_STEEP / steepness.clamp(min=_EPS)).clamp(max=1.0)


def _step(z: Tensor, grad: Tensor, usable: Tensor, cap: Tensor) -> tuple[Tensor, Tensor]:
    """From N(0, I) to the next Gaussians: ``(K, d)`` means and ``(K, d, d)`` square roots of covariances.

    Args:
        z: ``(K, B, d)`` draws.
        grad: ``(K, B, d)`` gradients, zero where unusable.
        usable: ``(K, B)`` which draws have one.
        cap: ``(K,)`` most that log variances change by.
    """
    _, b, d = z.shape
    share = usable.to(z.dtype) / usable.sum(1, keepdim=True).clamp(min=1)
    rate = float(b * d)
    pull = rate / (1.0 + rate)

    def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
        mean = (share[..., None] * rows).sum(1)
        outer = mean[..., None] * mean[..., None, :]
        return mean, rate * ((share[..., None] * rows).mT @ rows - outer) + pull * outer

    (mean_z, v), (mean_g, u) = moments(z), moments(grad)
    root = torch.linalg.cholesky(v + torch.eye(d, dtype=z.dtype, device=z.device))
    value, vector = spectrum(root.mT @ u @ root)
    vector = root @ vector
    covariance = (vector * (2.0 / (1.0 + (1.0 + 4.0 * value.clamp(min=0.0)).sqrt()))[:, None]) @ vector.mT
    variance, axes = spectrum(covariance)
    limit = cap[:, None]
    variance = torch.minimum(torch.maximum(variance, torch.exp(-limit)), torch.exp(limit))
    covariance = (axes * variance[:, None]) @ axes.mT
    shift = pull * ((covariance @ mean_g[..., None])[..., 0] + mean_z)
    far = shift.norm(dim=-1, keepdim=True) / (limit * math.sqrt(d))
    return shift / far.clamp(min=1.0), axes * variance.sqrt()[:, None]
