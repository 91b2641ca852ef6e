"""What a mixture says about points: its density and its responsibilities, at the cost of one exponential each."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Look", "log_sum", "look_from", "pick"]


class Look(NamedTuple):
    """How a mixture sees points.

    Attributes:
        log_prob: ``(...)`` log density.
        share: ``(..., K)`` responsibilities, adding up to 1; the least are raised to about 1e-154 (float64) of the largest.
    """

    log_prob: Tensor
    share: Tensor

    def by_rows(self) -> Look:
        """The same with the responsibilities of a point side by side in memory, as a draw of a component wants them."""
        return Look(self.log_prob, self.share.contiguous())


def _exponentials(log: Tensor) -> tuple[Tensor, Tensor]:
    """``(..., 1)`` the largest, and ``(..., K)`` exponentials of the rest relative to it.

    So far below the largest nothing is left of a sum, but an exponential that underflows takes 20 times as long.
    """
    limits = torch.finfo(log.dtype)
    top = log.detach().amax(-1, keepdim=True)
    return top, (log - top.clamp(min=limits.min)).clamp_(min=0.5 * math.log(limits.tiny)).exp_()


def log_sum(log: Tensor) -> Tensor:
    """``(...)`` log of the sum of exponentials over the last axis."""
    top, e = _exponentials(log)
    return (e.sum(-1, keepdim=True).log() + top)[..., 0]


def look_from(log: Tensor) -> Look:
    """Density and responsibilities from ``(..., K)`` log components."""
    top, e = _exponentials(log)
    total = e.sum(-1, keepdim=True)
    return Look((total.log() + top)[..., 0], e.div_(total))


def pick(weight: Tensor, u: Tensor) -> Tensor:
    """``(...)`` the component that each of ``(...)`` uniform draws falls on.

    Args:
        weight: ``(K,)`` weights for all draws, or ``(..., K)`` for each; leading axes of ``u`` may be missing.
        u: Draws in [0, 1).
    """
    cumulative = weight.cumsum(-1)
    u = u * cumulative[..., -1]
    if weight.ndim > 1:
        cumulative = cumulative.expand(*u.shape, -1).contiguous()
    return torch.searchsorted(cumulative, u[..., None])[..., 0].clamp_(max=weight.shape[-1] - 1)
