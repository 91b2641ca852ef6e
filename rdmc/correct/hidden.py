"""Mass without a mode of its own, such as a wide law about the peak of a narrow one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdmc.correct.judge import forward_efficiency, log_mean_exp
from rdmc.correct.reference import Reference
from rdmc.correct.temper import log_ratio
from rdmc.locate.curvature import local_axes, precisions
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["hidden_mass", "own_evidence"]

_TESTS = 256
_EXCEEDS = 2.0  # nats by which the density is above what the reference explains
_PLACES = 8
_COUNTS = 3.0  # nats below the evidence, as little as hidden mass may be
_FURTHEST = 4.0  # local standard deviations from a place to the top of the Gaussian it seems to belong to


def own_evidence(
    target: BatchedDensity, reference: Reference, rng: Streams, draws: int = _TESTS
) -> tuple[float, float]:
    """Effective share of draws of a reference, at most as many as ``rng`` has particles, and the log evidence that they see."""
    x = reference.law.draw(rng)[0][:draws]
    ratio = log_ratio(x, target(x), reference.law)
    return float(forward_efficiency(ratio).nan_to_num()), float(log_mean_exp(ratio))


def hidden_mass(
    target: BatchedDensity, reference: Reference, evidence: float, points: Tensor, value: Tensor
) -> GaussianMixture | None:
    r"""Gaussians at places that ascents passed and about which lies mass that a reference g leaves out; None if there are none.

    Where :math:`\log \pi(x) > \log g(x) + \log \hat Z + 2`, a place x with gradient h and local covariance :math:`\Sigma` seems to
    belong to :math:`N(x + \Sigma h, \Sigma)`, of mass :math:`\pi(x) e^{h^T \Sigma h / 2} |2 \pi \Sigma|^{1/2}`. Draws of g see
    nothing of it, nor does a population that came from g.

    Law: none. Cost: 4d + 1 gradient evaluations for each of up to eight places.

    Args:
        target: Log density in the coordinates of the reference.
        reference: The reference.
        evidence: Log evidence that its draws see.
        points: ``(n, d)`` points in these coordinates.
        value: ``(n,)`` log density there.
    """
    above = value - reference.law.log_prob(points) - evidence > _EXCEEDS
    above &= torch.isfinite(value) & torch.isfinite(points).all(-1)
    x, height = points[above], value[above]
    if len(x) == 0:
        return None
    order = height.argsort(descending=True)
    some = order[torch.linspace(0, len(order) - 1, min(_PLACES, len(order)), device=order.device).long()]
    x, height = x[some], height[some]
    axes, sd = local_axes(*precisions(target, x), widest=float(x.abs().max()) + 1.0)
    uphill = sd * torch.einsum("ni,nij->nj", target.value_and_grad(x)[1], axes)
    uphill = uphill * (_FURTHEST / uphill.norm(dim=-1, keepdim=True).clamp(min=_FURTHEST))
    mass = height + 0.5 * uphill.square().sum(-1) + sd.log().sum(-1) + 0.5 * target.dim * math.log(2.0 * math.pi)
    counts = torch.isfinite(mass) & (mass > evidence - _COUNTS)
    if not bool(counts.any()):
        return None
    top = x + torch.einsum("nij,nj->ni", axes, sd * uphill)
    return GaussianMixture(mass[counts], top[counts], axes[counts], sd[counts].square())
