"""Distances between samples and to a known truth, and the value of each for exact draws of the same size.

A distance between finite samples is never 0. Report it beside :func:`iid_floor`, the same number between two exact
samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["iid_floor", "ks_projected", "mode_weight_tv", "sliced_w2"]

CHUNK = 64
"""Projections held in memory at once."""


def mode_weight_tv(labels: Tensor, weights: Tensor) -> Tensor:
    """Total variation between the mode weights of a sample and the true ones.

    Args:
        labels: ``(...)`` int64 index of the mode of each draw; a negative index belongs to no mode and counts as
            misplaced mass.
        weights: ``(K,)`` true probabilities.

    Returns:
        ``()`` between 0 and 1; for n exact draws about ``sum_k sqrt(w_k (1 - w_k) / (2 pi n))``.

    Raises:
        ValueError: If there are no labels or one is K or more.

    Example:
        >>> mode_weight_tv(torch.tensor([0, 0, 0, 1]), torch.tensor([0.5, 0.5]))
        tensor(0.2500)
    """
    k = weights.shape[0]
    flat = labels.reshape(-1)
    if flat.numel() == 0:
        raise ValueError("`labels` must not be empty")
    if int(flat.max()) >= k:
        raise ValueError(f"`labels` must be below the number of weights, {k}, got {int(flat.max())}")
    counts = torch.bincount(flat.clamp(min=-1) + 1, minlength=k + 1).to(weights)
    truth = torch.cat([weights.new_zeros(1), weights / weights.sum()])
    return 0.5 * (counts / flat.numel() - truth).abs().sum()


def _check(x: Tensor, y: Tensor, projections: int) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or 0 in (len(x), len(y)):
        raise ValueError(f"`x` and `y` must have shapes (n, d) and (m, d), got {tuple(x.shape)} and {tuple(y.shape)}")
    if projections < 1:
        raise ValueError(f"`projections` must be a positive integer, got {projections}")


def _projected(x: Tensor, y: Tensor, projections: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """``(p, n)`` and ``(p, m)`` projections of both samples on the same random directions, ``CHUNK`` at a time."""
    normal = torch.randn(projections, x.shape[1], generator=generator, dtype=x.dtype, device=generator.device)
    directions = (normal / normal.norm(dim=1, keepdim=True)).to(x.device)
    for part in directions.split(CHUNK):
        yield part @ x.T, part @ y.to(x).T


def sliced_w2(x: Tensor, y: Tensor, projections: int, generator: torch.Generator) -> Tensor:
    r"""Sliced Wasserstein-2 distance of two samples, :math:`\sqrt{E_\theta W_2^2(\theta \cdot x, \theta \cdot y)}`.

    In one dimension :math:`W_2^2` is the integral of the squared difference of the quantile functions; both are step
    functions, so it is a finite sum over the union of their jumps, exact for different sample sizes too. For N(0, S)
    against N(delta, S) the value is :math:`|\delta| / \sqrt d`.

    Cost: ``O(P (n + m) (d + log(n + m)))``.

    Args:
        x: ``(n, d)`` points.
        y: ``(m, d)`` points.
        projections: Number P of random directions; relative error about ``1 / sqrt(2 P)``.
        generator: Source of the directions.

    Returns:
        ``()`` in the units of x.

    Raises:
        ValueError: If the shapes disagree, a sample is empty, or ``projections`` is not positive.
    """
    _check(x, y, projections)
    n, m = len(x), len(y)
    # in units of 1 / (n m) all levels are whole numbers: no two jumps that agree can be told apart by rounding
    jumps = torch.unique(torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]))
    width = torch.diff(jumps, prepend=jumps.new_zeros(1))
    i, j, weight = ((jumps - 1) // m).to(x.device), ((jumps - 1) // n).to(x.device), (width / (n * m)).to(x)
    costs = [
        (a.sort().values[:, i] - b.sort().values[:, j]).square() @ weight
        for a, b in _projected(x, y, projections, generator)
    ]
    return torch.cat(costs).mean().sqrt()


def ks_projected(x: Tensor, y: Tensor, projections: int, generator: torch.Generator) -> Tensor:
    """Kolmogorov-Smirnov distance of the two samples on random directions, averaged over the directions.

    Sees a wrong mode weight as the weight itself, whatever the distance between the modes. For exact draws about
    ``0.87 sqrt((n + m) / (n m))``.

    Args:
        x: ``(n, d)`` points.
        y: ``(m, d)`` points.
        projections: Number P of random directions.
        generator: Source of the directions.

    Returns:
        ``()`` between 0 and 1.

    Raises:
        ValueError: If the shapes disagree, a sample is empty, or ``projections`` is not positive.
    """
    _check(x, y, projections)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        both = torch.cat([a, b], dim=1)
        below_a = torch.searchsorted(a.sort().values, both, right=True).to(x.dtype) / a.shape[1]
        below_b = torch.searchsorted(b.sort().values, both, right=True).to(x.dtype) / b.shape[1]
        return (below_a - below_b).abs().amax(1)

    return torch.cat([distance(a, b) for a, b in _projected(x, y, projections, generator)]).mean()


def iid_floor(
    sample: Callable[[int, torch.Generator], Tensor],
    n: int,
    statistic: Callable[[Tensor, Tensor], Tensor],
    repeats: int,
    generator: torch.Generator,
    m: int | None = None,
) -> Tensor:
    """The statistic between exact samples: what a perfect sampler would show.

    Args:
        sample: Exact sampler ``(n, generator) -> (n, d)``, for example ``target.sample``.
        n: Size of the first sample.
        statistic: ``(x, y) -> ()``.
        repeats: Number of independent pairs.
        generator: Source of all draws.
        m: Size of the second sample (default n).

    Returns:
        ``(repeats,)`` values; compare with their mean or an upper quantile.

    Raises:
        ValueError: If a size or ``repeats`` is not positive.
    """
    m = n if m is None else m
    if min(n, m, repeats) < 1:
        raise ValueError(f"`n`, `m` and `repeats` must be positive, got {n}, {m} and {repeats}")
    values = [statistic(sample(n, generator), sample(m, generator)) for _ in range(repeats)]
    return torch.stack(values)
