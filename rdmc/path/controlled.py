r"""The kernel of the second order whose moments are controlled by the pilot's mixture.

Let g be the surrogate conditioned on x_t, a mixture with known mean m_g and covariance C_g, and let draws x_j come from g with
weights w_j towards q. Two control variates take out what g already knows:

*Stein's identity*: :math:`y(x) = x + A \nabla \log q(x)` has the mean of x for any A. With A the inverse Fisher information of
g, times a factor fitted to the draws, it is constant where q is one Gaussian. *The mixture itself*: :math:`y_g(x) = x + A
\nabla \log g(x)` has mean m_g under g. So

.. math::
    \hat m = m_g + \sum_j w_j (y(x_j) - m_g) - \beta \frac1n \sum_j (y_g(x_j) - m_g), \qquad \beta = \text{ess} / n .

Where q = g all terms but the first cancel draw by draw, with however few draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.inner import Draws
from rdmc.mixture import GaussianMixture
from rdmc.path.kernels import Moments
from rdmc.posterior import InnerPosterior

__all__ = ["Controlled"]

_FACTOR = (0.05, 5.0)  # of the inverse information; it only guards against few draws
_REACH = 3.0  # greatest Stein correction, in units of 1 + sqrt(d) widths of g
_FLOOR = 0.1  # least share of the mixture's covariance that an estimate may leave in any direction


@dataclass(frozen=True)
class Controlled:
    r"""Moments from draws of the conditioned surrogate, with what the surrogate knows as control variates.

    The mean is that of the module's first lines. The covariance is the mixture's, C_g, or with ``fitted`` a mixture of it and
    of the draws' own estimate (with the same two control variates), shrunk by as much as the draws disagree among themselves.

    Law: consistent in the number of draws for any surrogate; exact with two draws where pi is one Gaussian and the surrogate is pi.
    With draws that are not from the conditioned surrogate, such as chains, the second control variate is left out.
    Cost: no evaluation; O(d^3) a particle.

    Args:
        fitted: Whether the draws have a say in the covariance.

    Raises:
        ValueError: On use without a surrogate, or with draws that have no gradients.
    """

    fitted: bool = False

    def moments(self, q: InnerPosterior, draws: Draws) -> Moments:
        """The estimate for every particle of ``q``."""
        if draws.grad is None:
            raise ValueError(
                "Controlled needs the gradients of log q at the draws, got `grad=None`; use chains, or "
                "Importance(proposal=FromSurrogate(), gradients=True)"
            )
        g = q.proposal()
        known = _known(g)
        frame = torch.linalg.cholesky_ex(known.information)[0]  # R with information = R R^T; z = R^T (x - m_g)
        z = torch.einsum("nbi,bij->nbj", draws.x_0 - known.mean, frame)
        slope = _solved(frame, draws.grad)
        own = _solved(frame, g.value_and_grad(draws.x_0)[1])
        weight = draws.weight
        factor = _factor(z, slope, weight)[:, None]
        beta = _control(draws)[:, None]
        stein = _limited(factor * torch.einsum("nb,nbi->bi", weight, slope))
        centre = torch.einsum("nb,nbi->bi", weight, z) + stein - beta * (z + factor * own).mean(0)
        mean = known.mean + torch.linalg.solve_triangular(frame.mT, centre[..., None], upper=True)[..., 0]
        if not self.fitted:
            return Moments(mean, known.covariance)
        white = frame.mT @ known.covariance @ frame
        estimate = _covariance(z, slope, own, weight, centre, factor, beta, white)
        root = torch.linalg.solve_triangular(frame.mT, estimate, upper=True)
        covariance = torch.linalg.solve_triangular(frame.mT, root.mT, upper=True)
        return Moments(mean, 0.5 * (covariance + covariance.mT))


class _Known(NamedTuple):
    """Mean, covariance and mean information (the weighted inverse covariances) of a mixture per particle."""

    mean: Tensor
    covariance: Tensor
    information: Tensor


def _known(g: GaussianMixture) -> _Known:
    weight = g.log_weight.exp()
    mean = torch.einsum("bk,bki->bi", weight, g.mean)
    centred = g.mean - mean[:, None]
    between = torch.einsum("bk,bki,bkj->bij", weight, centred, centred)
    k, d = g.variance.shape
    within, information = (
        (weight @ (g.basis * part[:, None, :] @ g.basis.mT).view(k, d * d)).view(-1, d, d)
        for part in (g.variance, 1.0 / g.variance)
    )
    return _Known(mean, between + within, information)


def _solved(frame: Tensor, slope: Tensor) -> Tensor:
    """``(n, B, d)`` gradients in the frame's coordinates: R^-1 slope."""
    return torch.linalg.solve_triangular(frame, slope.movedim(0, -1), upper=False).movedim(-1, 0)


def _factor(z: Tensor, slope: Tensor, weight: Tensor) -> Tensor:
    """``(B,)`` the multiple of the inverse information that leaves the least variance, as the draws show it; 1 for one draw."""
    off = slope - torch.einsum("nb,nbi->bi", weight, slope)
    across = (weight * (z * off).sum(-1)).sum(0)
    spread = (weight * off.square().sum(-1)).sum(0)
    fitted = -across / torch.where(spread > 0.0, spread, torch.ones_like(spread))
    return torch.where(spread > 0.0, fitted, torch.ones_like(fitted)).clamp(*_FACTOR)


def _limited(correction: Tensor) -> Tensor:
    """``(B, d)`` the same, no longer than draws of g can ask for: a single draw in a steep tail would throw the path out."""
    longest = _REACH * (1.0 + correction.shape[-1] ** 0.5)
    length = torch.linalg.vector_norm(correction, dim=-1, keepdim=True)
    return correction * (longest / length.clamp(min=longest))


def _control(draws: Draws) -> Tensor:
    """``(B,)`` weight of the mixture as a control variate: the effective share of the draws, 0 for chains."""
    share = draws.ess / draws.x_0.shape[0]
    return share if draws.log_weight is not None else torch.zeros_like(share)


def _covariance(
    z: Tensor, slope: Tensor, own: Tensor, weight: Tensor, centre: Tensor, factor: Tensor, beta: Tensor, white: Tensor
) -> Tensor:
    """``(B, d, d)`` covariance in the frame's coordinates, between that of the mixture and the draws' own."""
    n, d = z.shape[0], z.shape[-1]
    off, here = z - centre, beta[:, 0] / n
    y, y_own = off + factor * slope, z + factor * own
    eye = factor[..., None] * torch.eye(d, dtype=z.dtype, device=z.device)
    seen = torch.einsum("nb,nbi,nbj->bij", weight, off, y) - here[:, None, None] * torch.einsum(
        "nbi,nbj->bij", z, y_own
    )
    estimate = 0.5 * (seen + seen.mT) + eye - beta[..., None] * (eye - white)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1)

    noise = (
        weight.square() * dot(off, off) * dot(y, y)
        - 2.0 * weight * here * dot(off, z) * dot(y, y_own)
        + here.square() * dot(z, z) * dot(y_own, y_own)
    )
    noise, apart = noise.sum(0).clamp(min=0.0), (estimate - white).square().sum((-2, -1))
    share = (noise / torch.maximum(apart, noise).clamp(min=torch.finfo(z.dtype).tiny)).clamp(0.0, 1.0)[:, None, None]
    mixed = share * white + (1.0 - share) * estimate
    lost = torch.linalg.cholesky_ex(mixed - _FLOOR * white)[1] != 0
    return torch.where(lost[:, None, None], white, mixed)
