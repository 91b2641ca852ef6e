"""Weighted particles of several populations: what they are worth, and how they are resampled.

All are pure functions of ``(U, N)`` log weights of U populations of N particles, without reading values on the host. They give the
same bits every time, on a GPU too, where torch's own scan of a single row and its sums by index add up in any order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "ancestral_variance",
    "cumulated",
    "effective_share",
    "evenly",
    "in_batch",
    "log_mean",
    "sums_by",
    "systematic",
]


def cumulated(values: Tensor) -> Tensor:
    """``(U, N)`` sums of each row up to each entry."""
    if values.device.type == "cuda" and len(values) == 1:
        return values.expand(2, -1).cumsum(-1)[:1]
    return values.cumsum(-1)


def sums_by(index: Tensor, values: Tensor, count: int) -> Tensor:
    """``(U, count)`` sums of those of ``(U, N)`` values that have each index, of ``(U, N)`` indices from 0 to ``count`` - 1."""
    if values.device.type != "cuda":
        return values.new_zeros(len(values), count).scatter_add_(-1, index, values)
    own, order = index.sort(dim=-1, stable=True)
    total = torch.nn.functional.pad(cumulated(values.gather(-1, order)), (1, 0))
    edge = torch.arange(count + 1, device=index.device).expand(len(own), -1)
    return total.gather(-1, torch.searchsorted(own, edge.contiguous())).diff(dim=-1)


def log_mean(log_weight: Tensor) -> Tensor:
    """``(U,)`` log of the mean weight of each population, of ``(U, N)``."""
    return torch.logsumexp(log_weight, -1) - math.log(log_weight.shape[-1])


def effective_share(log_weight: Tensor) -> Tensor:
    r"""``(U,)`` share :math:`(\sum w)^2 / (N \sum w^2)` of each population's particles that count; 0 where none has weight."""
    share = (2.0 * log_mean(log_weight) - log_mean(2.0 * log_weight)).exp()
    return share.masked_fill((log_weight == -torch.inf).all(-1), 0.0)


def in_batch(index: Tensor) -> Tensor:
    """``(B,)`` indices into a batch, of ``(U, N)`` within its populations."""
    populations, particles = index.shape
    return (index + particles * torch.arange(populations, device=index.device)[:, None]).flatten()


def systematic(log_weight: Tensor, u: Tensor) -> Tensor:
    """``(U, N)`` indices within each population of a systematic resampling by ``(U, N)`` log weights.

    The grid starts at ``(U, 1)`` uniform places and goes around, so that every slot alone has the law of the weights. Where no
    particle has weight they stay as they are.
    """
    n = log_weight.shape[-1]
    own = torch.arange(n, device=log_weight.device)
    cumulative = cumulated(torch.softmax(log_weight, -1))
    points = (own.to(cumulative.dtype) / n + u) % 1.0
    index = torch.searchsorted(cumulative / cumulative[:, -1:], points, right=True).clamp(max=n - 1)
    return torch.where((log_weight == -torch.inf).all(-1, keepdim=True), own, index)


def ancestral_variance(log_weight: Tensor, origin: Tensor) -> Tensor:
    r"""``(U,)`` estimate of :math:`\mathrm{Var}(\hat Z) / Z^2` from each population, by the ancestors of its particles.

    .. math:: \sum_k W_k^2 - 1/N, \qquad W_k \text{ the share of the weight that descends from the first particle } k

    Args:
        log_weight: ``(U, N)`` log weights since the last resampling.
        origin: ``(U, N)`` the first particle that each descends from.

    Source: Lee and Whiteley (2018), Biometrika 105(3), 609-625 (the leading term).
    """
    weight = torch.softmax(log_weight, -1)
    share = sums_by(origin, weight, weight.shape[-1])
    return (share.square().sum(-1) - 1.0 / weight.shape[-1]).clamp(min=0.0)


def evenly(particles: int, draws: int, device: torch.device) -> Tensor:
    """``(N,)`` an order of the particles whose first ``draws`` are spread evenly over all; where all are wanted, as they are."""
    index = torch.arange(particles, device=device)
    if draws >= particles:
        return index
    chosen = torch.zeros(particles, dtype=torch.bool, device=device)
    chosen[torch.linspace(0, particles - 1, draws, device=device).round().long()] = True
    return torch.cat([index[chosen], index[~chosen]])
