"""What a search could not have seen: how often a mode that isn't there would have gone unnoticed, had it been there."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from rdmc.locate.atlas import Atlas
from rdmc.locate.survey import Overlooked

__all__ = ["overlooked", "shares_overlooked"]

_PLACES = 256
_BLOCK = 1024
_MASS = 0.1


def overlooked(atlas: Atlas, x: Tensor, value: Tensor, first: int = 0) -> Overlooked:
    """Both shares (:func:`shares_overlooked`)."""
    return Overlooked(*shares_overlooked(atlas, x, value, (0.5, 0.1), first))


def shares_overlooked(atlas: Atlas, x: Tensor, value: Tensor, widths: Sequence[float], first: int = 0) -> list[float]:
    r"""Share of places at which a Gaussian mode would have doubled the density at none of the points that were looked at.

    The mode has the shape of the heaviest known one and a tenth of its mass. The places are some of the points themselves, of which
    those are left out where the density is 0 or such a mode would not stand out at its very top. An ascent begins where
    the density stands out, so this is about the share of such modes that the search misses. In coordinates u of unit width, a
    mode of width w at :math:`u_i`, of height :math:`t_w`, shows itself at :math:`u_j` where

    .. math:: t_w - \frac{|u_i - u_j|^2}{2 w^2} > \log \pi(u_j).

    Law: none; an estimate from 256 places, so its standard error is at most .03. Cost: no evaluation. Source: ours.

    Args:
        atlas: What is known.
        x: ``(M, d)`` points.
        value: ``(M,)`` log density there.
        widths: Of the modes, in widths of the heaviest known one.
        first: The first of the points that may be a place.

    Returns:
        The share for each width, or NaN if such a mode would stand out nowhere.
    """
    mass = atlas.log_mass()
    k = int(mass.argmax())
    u = (x - atlas.mean[k]) @ (atlas.axes[k] / atlas.sd[k])
    half = 0.5 * u.square().sum(1)
    inside = torch.isfinite(value)
    place = torch.linspace(first, len(x) - 1, min(_PLACES, len(x) - first), device=x.device).long()
    place = place[inside[place]]
    tops = [float(mass[k] - (w * atlas.sd[k]).log().sum()) + math.log(_MASS) for w in widths]
    bars = [torch.where(inside, half + w**2 * (value - top), torch.inf) for w, top in zip(widths, tops, strict=True)]
    best = [torch.full_like(half[place], -torch.inf) for _ in widths]
    at, own = u[place], place.tolist()
    for begin in range(0, len(x), _BLOCK):
        low, high = bisect_left(own, begin), bisect_left(own, begin + _BLOCK)
        itself = list(range(low, high)), [j - begin for j in own[low:high]]
        block = u[begin : begin + _BLOCK].T
        for i, bar in enumerate(bars):
            clear = torch.addmm(-bar[begin : begin + _BLOCK], at, block)
            clear[itself] = -torch.inf  # a place is not to be seen from itself
            best[i] = torch.maximum(best[i], clear.amax(1))
    shares = []
    for b, top in zip(best, tops, strict=True):
        escaped = (b <= half[place])[value[place] < top]
        shares.append(float(escaped.double().mean()) if len(escaped) else math.nan)
    return shares
