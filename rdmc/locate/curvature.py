"""Gaussians from curvature: at a mode, with widths checked against the density itself, and around any point."""

from __future__ import annotations

import torch
from torch import Tensor

from rdmc.linear import spectrum
from rdmc.typing import BatchedDensity

__all__ = ["local_axes", "precisions", "principal_axes"]

_REACH = 1.5  # standard deviations from the mode at which a width is checked
_DAMPING = 0.7  # a flat peak, falling as a fourth power, would make undamped corrections swing for ever
_SETTLED = 0.15  # log of the factor below which a correction is the last
_STRIDE = 2.3  # a width is corrected by at most a factor 10 at a time
_WIDEST = 1e8
_FLATTEST = 1e-12  # ratio of standard deviations beyond which axes are only rounding
_FALL = 0.5 * _REACH**2  # what a Gaussian's log density falls by there


def principal_axes(f: BatchedDensity, x: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal axes at a mode and the standard deviation along each.

    The Hessian by central differences of the gradient gives the axes and first widths. Each width is then set so that the density
    falls along its axis as a Gaussian's does, on average of both sides: the Hessian alone is wrong by orders of magnitude where a
    peak is flat, sharp or curved (a ridge, a Laplace peak).

    Cost: 4d gradient and 2d to 24d density evaluations.

    Args:
        f: Log density.
        x: ``(d,)`` the mode.
        value: ``()`` log density there.

    Returns:
        ``(d, d)`` axes as columns and ``(d,)`` standard deviations.
    """
    precision, width = (part[0] for part in precisions(f, x[None]))
    # in units of each coordinate's own width the eigenproblem is well conditioned whatever the coordinates' scales
    scaled = precision * width[:, None] * width[None, :]
    # far from any mode a second difference can overflow; such an entry says nothing, and the calibration finds the width
    scaled = torch.where(torch.isfinite(scaled), scaled, torch.eye(len(x), dtype=x.dtype, device=x.device))
    eigenvalue, vector = spectrum(scaled)
    factor = width.clamp(1.0 / _WIDEST, _WIDEST)[:, None] * vector * eigenvalue.abs().clamp(min=1e-8).rsqrt()
    axes, sd, _ = torch.linalg.svd(factor)
    sd = _calibrated(f, x, value, axes, sd)
    # at a point that is no mode nothing bounds a width; what is returned must still be a coordinate system
    return axes, torch.where(torch.isfinite(sd), sd, torch.ones_like(sd)).clamp(1.0 / _WIDEST, _WIDEST)


def local_axes(precision: Tensor, width: Tensor, widest: float) -> tuple[Tensor, Tensor]:
    r"""The density's own axes and scales around points anywhere, not only at modes.

    .. math:: V \operatorname{diag}(s^2) V^T = |H|^{-1}

    with absolute eigenvalues (the SoftAbs metric in its sharp limit): where the density bends upwards, as in a tail, its scale is
    still that of its bending.

    Args:
        precision: ``(n, d, d)`` H, from :func:`precisions`.
        width: ``(n, d)`` from the same.
        widest: Largest standard deviation to return in any direction.

    Returns:
        ``(n, d, d)`` axes V as columns, and ``(n, d)`` standard deviations s along them.

    Source: Betancourt (2013), arXiv:1212.4693.
    """
    width = width.clamp(max=widest)
    scaled = precision * width[:, :, None] * width[:, None, :]
    scaled = torch.where(
        torch.isfinite(scaled), scaled, torch.eye(width.shape[-1], dtype=width.dtype, device=width.device)
    )
    eigenvalue, vector = spectrum(scaled)
    factor = width[:, :, None] * vector * eigenvalue.abs().clamp(min=1e-6).rsqrt()[:, None, :]
    axes, sd, _ = torch.linalg.svd(factor)
    sd = sd.clamp(max=widest)
    return axes, torch.maximum(sd, _FLATTEST * sd[:, :1])


def precisions(f: BatchedDensity, x: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the Hessian at ``(n, d)`` points, ``(n, d, d)``, and each coordinate's width ``(n, d)`` given the others.

    A coordinate at the edge of the support has no second derivative; it stands alone, at the scale of its slope.

    Cost: 4d gradient evaluations a point.
    """
    step = 1e-4 * (x.abs() + 1e-2)
    for _ in range(2):  # once to learn each coordinate's width, once more at a thousandth of it
        offset = torch.diag_embed(step)
        value, grad = f.value_and_grad(torch.stack([x[:, None] + offset, x[:, None] - offset]))
        up, down = grad
        precision = (down - up) / (2.0 * step[..., None])
        precision = 0.5 * (precision + precision.mT)
        edge = ~torch.isfinite(value).all(0) | ~torch.isfinite(precision).all(-2)
        steeper = torch.where(up.abs() > down.abs(), up, down)
        slope = torch.diagonal(steeper, dim1=-2, dim2=-1).nan_to_num().abs()
        alone = torch.diag_embed(slope.square().clamp(min=1e-20))
        lone = edge[..., :, None] | edge[..., None, :]
        precision = torch.where(lone, torch.where(alone > 0, alone, 0.0), precision)
        width = torch.diagonal(precision, dim1=-2, dim2=-1).abs().clamp(min=1e-20).rsqrt()
        step = 1e-3 * torch.minimum(width, 1e3 * (x.abs() + 1.0))
    return precision, width


def _calibrated(f: BatchedDensity, x: Tensor, value: Tensor, axes: Tensor, sd: Tensor) -> Tensor:
    """Widths at which the density falls as a Gaussian's does.

    Beyond an edge of the support the density says nothing of the width; where both sides are beyond, the width was too large.
    """
    pending = torch.ones_like(sd, dtype=torch.bool)
    ceiling = torch.full_like(sd, torch.inf)
    for _ in range(12):
        at = pending.nonzero()[:, 0]
        arm = _REACH * (sd * axes).T[at]
        fall = value - f(torch.cat([x + arm, x - arm])).view(2, -1)
        fall = torch.where(torch.isnan(fall), torch.full_like(fall, torch.inf), fall)
        inside = torch.isfinite(fall)
        sides = inside.sum(0)
        gain = 0.5 * _DAMPING * (_FALL / fall.clamp(min=1e-3 * _FALL)).log()
        gain = torch.where(inside, gain, torch.zeros_like(gain)).sum(0) / sides.clamp(min=1)
        gain = torch.where(sides == 0, torch.full_like(gain, -_STRIDE), gain).clamp(-_STRIDE, _STRIDE)
        old = sd[at]
        ceiling = ceiling.index_put((at,), torch.where(sides == 0, 0.5 * old, ceiling[at]))
        new = torch.minimum(old * gain.exp(), ceiling[at])
        sd = sd.index_put((at,), new)
        pending = pending.index_put((at,), (new / old).log().abs() > _SETTLED)
        if not bool(pending.any()):
            break
    return sd
