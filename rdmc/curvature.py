"""The Gaussian at a mode: principal axes from the Hessian, widths checked against the density itself."""

from __future__ import annotations

import torch
from torch import Tensor

from rdmc.typing import BatchedDensity

__all__ = ["principal_axes"]

_REACH = 1.5  # standard deviations from the mode at which a width is checked
_FALL = 0.5 * _REACH**2  # what a Gaussian's log density falls by there


def principal_axes(f: BatchedDensity, x: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal axes at a mode and the standard deviation along each.

    The Hessian by central differences of the gradient gives the axes and first widths. Each width is then set so that the density
    falls along its axis as a Gaussian's does, on average of both sides: the Hessian alone is wrong by orders of magnitude where a
    peak is flat, sharp or curved (a ridge, a Laplace peak).

    Cost: 4d gradient and 2d to 16d density evaluations.

    Args:
        f: Log density.
        x: ``(d,)`` the mode.
        value: ``()`` log density there.

    Returns:
        ``(d, d)`` axes as columns and ``(d,)`` standard deviations.
    """
    precision, width = _precision(f, x)
    # in units of each coordinate's own width the eigenproblem is well conditioned whatever the coordinates' scales
    eigenvalue, vector = torch.linalg.eigh(precision * width[:, None] * width[None, :])
    factor = width[:, None] * vector * eigenvalue.abs().clamp(min=1e-8).rsqrt()
    axes, sd, _ = torch.linalg.svd(factor)
    return axes, _calibrated(f, x, value, axes, sd)


def _precision(f: BatchedDensity, x: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the Hessian, ``(d, d)``, and each coordinate's width ``(d,)`` given the others."""
    step = 1e-4 * (x.abs() + 1e-2)
    for _ in range(2):  # once to learn each coordinate's width, once more at a thousandth of it
        offset = torch.diag(step)
        _, grad = f.value_and_grad(torch.cat([x + offset, x - offset]))
        up, down = grad.chunk(2)
        precision = (down - up) / (2.0 * step[:, None])
        precision = 0.5 * (precision + precision.T)
        # a step across the edge of the support says nothing about the curvature; the calibration finds the width
        precision = torch.where(torch.isfinite(precision), precision, torch.zeros_like(precision))
        width = torch.diagonal(precision).abs().clamp(min=1e-20).rsqrt()
        step = 1e-3 * torch.minimum(width, 1e3 * (x.abs() + 1.0))
    return precision, width


def _calibrated(f: BatchedDensity, x: Tensor, value: Tensor, axes: Tensor, sd: Tensor) -> Tensor:
    """Widths at which the density falls as a Gaussian's does."""
    pending = torch.ones_like(sd, dtype=torch.bool)
    for _ in range(8):
        arm = _REACH * (sd * axes).T[pending]
        fall = value - f(torch.cat([x + arm, x - arm])).view(2, -1)
        fall = torch.where(torch.isnan(fall), torch.full_like(fall, torch.inf), fall)
        ratio = (_FALL / fall.clamp(min=1e-3 * _FALL)).sqrt().mean(0).clamp(0.1, 10.0)
        index = pending.nonzero()[:, 0]
        sd = sd.index_put((index,), sd[index] * ratio)
        pending = pending.index_put((index,), (ratio < 0.8) | (ratio > 1.25))
        if not bool(pending.any()):
            break
    return sd
