r"""The communication barrier of a tempering ladder, and the ladder that meets it in equal steps.

With r_i the rejection rate of the swap between neighbours i and i + 1, the barrier up to beta_i is the sum of the r
before it; it is a property of the path, to second order in the spacing whatever the ladder. Its total Lambda bounds the
round trip rate of any reversible or non-reversible ladder: at most 1 / (2 + 2 Lambda) round trips a scan.

Source: Syed, Bouchard-Cote, Deligiannidis and Doucet (2022), JRSS B 84(2), 321-350, section 4 and algorithm 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["barrier", "even_ladder", "geometric_ladder", "monotone_cubic"]

_LEAST_REJECTION = 1e-4  # keeps the barrier strictly increasing, so that it can be inverted


def geometric_ladder(rungs: int, smallest: float, like: Tensor) -> Tensor:
    """``(rungs,)`` 0, then ``smallest`` to 1 in equal ratios."""
    exponent = torch.linspace(1.0, 0.0, rungs - 1, dtype=like.dtype, device=like.device)
    return torch.cat([exponent.new_zeros(1), smallest**exponent])


def barrier(rejection: Tensor) -> Tensor:
    """``(R, ...)`` barrier Lambda(beta_i) from the ``(R - 1, ...)`` rejection rates between neighbours."""
    return torch.cat([torch.zeros_like(rejection[:1]), rejection.cumsum(0)])


def even_ladder(beta: Tensor, rejection: Tensor, rungs: int) -> Tensor:
    r"""The ladder of equal rejection: beta at ``rungs`` equally spaced values of the barrier.

    Args:
        beta: ``(R, B)`` present ladders, increasing from 0 to 1.
        rejection: ``(R - 1, B)`` rejection rates seen on them.
        rungs: Rungs of the new ladders, at least 2.

    Returns:
        ``(rungs, B)``; the ends are exactly 0 and 1.
    """
    height = barrier(rejection.clamp(min=_LEAST_REJECTION))
    share = torch.linspace(0.0, 1.0, rungs, dtype=beta.dtype, device=beta.device)[:, None]
    inner = monotone_cubic(height, beta, (share * height[-1:])[1:-1])
    return torch.cat([torch.zeros_like(beta[:1]), inner, torch.ones_like(beta[:1])])


def monotone_cubic(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Monotone piecewise cubic interpolation, column by column.

    Args:
        x: ``(R, B)`` strictly increasing knots.
        y: ``(R, B)`` values, increasing.
        at: ``(M, B)`` where to interpolate, within the knots.

    Source: Fritsch and Butland (1984), SIAM J. Sci. Stat. Comput. 5(2), 300-304: harmonic means as slopes, one-sided at
    the ends.
    """
    width = x.diff(dim=0)
    secant = y.diff(dim=0) / width
    if x.shape[0] == 2:
        slope = secant.expand_as(x)
    else:
        before, after = 2.0 * width[1:] + width[:-1], width[1:] + 2.0 * width[:-1]
        inner = (before + after) / (before / secant[:-1] + after / secant[1:])
        inner = torch.where((secant[:-1] > 0.0) & (secant[1:] > 0.0), inner, torch.zeros_like(inner))
        slope = torch.cat([_end(width, secant), inner, _end(width.flip(0), secant.flip(0))])
    left = (torch.searchsorted(x.T.contiguous(), at.T.contiguous(), right=True).T - 1).clamp(0, x.shape[0] - 2)
    h, x0, y0, y1 = width.gather(0, left), x.gather(0, left), y.gather(0, left), y.gather(0, left + 1)
    m0, m1 = slope.gather(0, left), slope.gather(0, left + 1)
    t = (at - x0) / h
    value = (1.0 + 2.0 * t) * (1.0 - t) ** 2 * y0 + t * (1.0 - t) ** 2 * h * m0
    return value + t**2 * (3.0 - 2.0 * t) * y1 + t**2 * (t - 1.0) * h * m1


def _end(width: Tensor, secant: Tensor) -> Tensor:
    """``(1, B)`` slope at the first knot: the three-point formula, limited so that the curve stays monotone."""
    slope = ((2.0 * width[:1] + width[1:2]) * secant[:1] - width[:1] * secant[1:2]) / (width[:1] + width[1:2])
    return torch.minimum(slope.clamp(min=0.0), 3.0 * secant[:1])
