"""Gaussians where the mass is: the evidence lower bound climbed from many points at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Fields", "MeanField"]

_FIRST = 1.0 / 3.0  # of a start's distance from the origin, or of 1 beyond it: the first standard deviations
_KEPT = (0.9, 0.98)  # of the running means of slopes and of their squares, an iteration
_STEEP = 2.5  # times the root mean square slope of a Gaussian at its own optimum, above which the density is tempered
_ODD = 10.0  # times the median slope, above which one draw may not lead
_LAST = 0.75  # of the iterations, after which means and bounds are taken
_BESIDE = 7.0  # nats below the best bound, as low as another's may be
_LEVEL = 0.5  # mean slope of a Gaussian that has arrived; that of one which has not is 1 or more
_SAME = 0.5  # root mean square distance, in standard deviations, below which two Gaussians say the same
_NAT = 0.1  # error by rounding of a bound, at most
_EPS = 1e-8


class Fields(NamedTuple):
    """Independent Gaussians, their bounds, and how far they are from the top of these.

    Attributes:
        mean: ``(B, d)``.
        sd: ``(B, d)`` standard deviations.
        bound: ``(B,)`` evidence lower bounds; ``-inf`` where draws had no density or no gradient.
        slope: ``(B,)`` root mean square slope of the bound, in standard deviations; large where tempering went on to the end.
    """

    mean: Tensor
    sd: Tensor
    bound: Tensor
    slope: Tensor


@dataclass(frozen=True)
class MeanField:
    r"""Gaussians of diagonal covariance that climb the evidence lower bound.

    .. math:: L(m, s) = E_\epsilon \log \pi(m + s \epsilon) + \sum_i \log s_i + \tfrac{d}{2} \log 2 \pi e \le \log Z

    The bound is finite even where the density has no upper limit: in the neck of a hierarchical model the density rises for ever
    and the volume shrinks faster. So these climbs end where the mass is, when ascents do not.

    Slopes are those of draws :math:`m + s \epsilon`, in antithetic pairs, in units of the present s, so the coordinates' units do
    not matter; means and log s move by at most about ``rate`` an iteration. On a slope far from the mass the curvature would
    shrink a Gaussian until it stands still: there the density is tempered, beta log pi in place of log pi, with

    .. math:: \beta = \min\left(1, 2.5 \sqrt{d / E |s \nabla \log \pi|^2}\right).

    At the optimum for a Gaussian target the mean under the root is d, so beta is 1 and the bound that of the density itself.

    Law: none; what is found is a proposal.
    Cost: ``2 pairs x iterations`` gradient evaluations a Gaussian: 25,600 in all.

    Args:
        starts: Gaussians, from the highest of the points given.
        iterations: Steps of each.
        pairs: Antithetic pairs of draws a Gaussian and step.
        rate: Largest step, in standard deviations; it falls over the second half.

    Source: Kucukelbir et al. (2017), J. Mach. Learn. Res. 18(14), 1-45 (the bound and its gradient); Salimans and Knowles (2013),
    Bayesian Anal. 8(4), 837-882 (slopes through the draws); Kingma and Ba (2015), arXiv:1412.6980 (scaled steps).
    """

    starts: int = 16
    iterations: int = 400
    pairs: int = 2
    rate: float = 0.3

    def mixture(
        self, f: BatchedDensity, points: Tensor, value: Tensor, rng: Streams
    ) -> tuple[GaussianMixture, Tensor] | None:
        """The Gaussians that arrived with bounds near the best, weighted by these, and ``(K,)`` bounds; None if none arrived.

        Of Gaussians that say the same, the one with the best bound is kept.

        Args:
            f: Log density.
            points: ``(n, d)`` where Gaussians may start.
            value: ``(n,)`` log density there.
            rng: Streams of any number of particles.
        """
        height = torch.where(torch.isfinite(value) & torch.isfinite(points).all(-1), value, -torch.inf)
        order = height.argsort(descending=True)[: self.starts]
        x = points[order[torch.isfinite(height[order])]]
        if len(x) == 0:
            return None
        mean, sd, bound, slope = self.climb(
            f, x, _FIRST * x.norm(dim=-1, keepdim=True).clamp(max=1.0).expand_as(x), rng
        )
        arrived = (
            torch.isfinite(bound) & (slope < _LEVEL) & torch.isfinite(mean).all(-1) & torch.isfinite(sd.log()).all(-1)
        )
        arrived &= bound.abs() * torch.finfo(bound.dtype).eps < _NAT
        if not bool(arrived.any()):
            return None
        kept = (arrived & (bound >= bound[arrived].max() - _BESIDE)).nonzero()[:, 0]
        kept = kept[bound[kept].argsort(descending=True)]
        mean, sd, bound = mean[kept], sd[kept], bound[kept]
        apart = (
            ((mean[:, None] - mean) / sd).square().mean(-1).sqrt()
        )  # of a row from a column, in widths of the latter
        better = torch.ones_like(apart, dtype=torch.bool).tril(-1)
        new = ~(better & (apart < _SAME)).any(1)
        axes = torch.eye(f.dim, dtype=x.dtype, device=x.device).expand(int(new.sum()), -1, -1)
        return GaussianMixture(bound[new], mean[new], axes, sd[new].square()), bound[new]

    def climb(self, f: BatchedDensity, mean: Tensor, sd: Tensor, rng: Streams) -> Fields:
        """All Gaussians at once, from ``(B, d)`` means and standard deviations; averages over the last quarter.

        A draw without density or gradient shrinks its Gaussian, and the others of the iteration lead it.
        """
        b, d = mean.shape
        log_sd, kept, total, bounds = sd.log(), mean.new_zeros(2, 2, b, d), mean.new_zeros(4, b, d), []
        for t, half in zip(range(1, self.iterations + 1), _blocks(rng, self.pairs * b, d), strict=False):
            eps = torch.cat([half, -half]).view(2 * self.pairs, b, d)
            s = log_sd.exp()
            value, grad = f.value_and_grad((mean + s * eps).flatten(0, 1))
            slope, usable, beta = _slopes(value.view(-1, b), s * grad.view(-1, b, d), eps)
            kept = torch.stack(
                [old.lerp(new, 1.0 - k) for old, new, k in zip(kept, (slope, slope.square()), _KEPT, strict=True)]
            )
            first, second = (part / (1.0 - k**t) for part, k in zip(kept, _KEPT, strict=True))
            step = self.rate * min(1.0, 2.0 * (1.0 - t / (self.iterations + 1)) + 0.1) * first / (second.sqrt() + _EPS)
            if t > _LAST * self.iterations:
                # where tempering was at work to the end, the top is not the bound's
                total += torch.cat([torch.stack([mean, log_sd]), slope / beta])
                bounds.append(torch.where(usable, value.view(-1, b), -torch.inf).mean(0) + log_sd.sum(-1))
            mean, log_sd = mean + s * step[0], log_sd + step[1]
        mean, log_sd, *slopes = total / len(bounds)
        bound = torch.stack(bounds).median(0).values + 0.5 * d * math.log(2.0 * math.pi * math.e)
        return Fields(mean, log_sd.exp(), bound, torch.stack(slopes).square().mean((0, -1)).sqrt())


def _slopes(value: Tensor, grad: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(2, B, d)`` slopes of the bound by the means, in standard deviations, and by log s; usable draws; ``(B, 1)`` beta."""
    usable = torch.isfinite(value) & torch.isfinite(grad).all(-1)
    grad = torch.where(usable[..., None], grad, 0.0)
    count = usable.sum(0).clamp(min=1)[:, None]
    norm = grad.norm(dim=-1, keepdim=True)
    # one draw in an abyss must not throw a Gaussian out of where the others are
    grad = grad * (_ODD * norm.median(0).values / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1.0)
    steepness = (grad.square().sum((0, -1))[:, None] / (count * grad.shape[-1])).sqrt()
    beta = (_STEEP / steepness.clamp(min=_EPS)).clamp(max=1.0)
    wider = beta * (grad * eps).sum(0) / count + 1.0
    wider = torch.where(usable.all(0)[:, None], wider, wider.clamp(max=-1.0))
    return torch.stack([beta * grad.sum(0) / count, wider]), usable, beta


def _blocks(rng: Streams, n: int, dim: int) -> Iterator[Tensor]:
    """Standard normal ``(n, d)`` blocks without end, whatever the particles of the streams."""
    left = rng.normal((rng.particles, dim))
    while True:
        while len(left) < n:
            left = torch.cat([left, rng.normal((rng.particles, dim))])
        yield left[:n]
        left = left[n:]
