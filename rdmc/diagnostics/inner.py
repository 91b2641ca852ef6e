"""Diagnostics of the inner chains of one noise level, pooled over particles: pure torch, no host reads.

Every particle has its own inner posterior, so a statistic of one particle's few short chains is noise. Variances are
averaged over the particles first and divided afterwards, which makes both numbers sharp even with four chains of
eight draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["pooled_ess", "pooled_rhat"]


def _check(values: Tensor) -> None:
    if values.ndim != 4:
        raise ValueError(f"`values` must have shape (chains, draws, particles, d), got {tuple(values.shape)}")


def pooled_rhat(values: Tensor) -> Tensor:
    r"""Split R-hat of the inner chains, pooled over particles, the largest over coordinates.

    .. math:: \hat R^2 = \frac{n-1}{n} + \frac{B}{W}

    with W the variance within the half chains of n draws and B the variance of their means, both unbiased and
    averaged over particles. Exact draws give 1 up to ``O(1 / (n sqrt(particles)))``; chains that never left different
    modes give much more. A coordinate in which no chain moved gives ``inf``.

    Args:
        values: ``(C, n, B, d)`` draws of C chains for each of B particles.

    Returns:
        ``()``, NaN with fewer than 4 draws a chain.

    Raises:
        ValueError: If ``values`` does not have four axes.
    """
    _check(values)
    half = values.shape[1] // 2
    if half < 2:
        return values.new_full((), math.nan)
    halves = torch.cat([values[:, :half], values[:, -half:]])
    within = halves.var(1).mean((0, 1))
    between = halves.mean(1).var(0).mean(0)
    squared = (half - 1) / half + between / within
    return torch.where(within == 0, math.inf, squared.sqrt()).amax()


def pooled_ess(values: Tensor) -> Tensor:
    r"""Effective inner draws per particle, from pooled autocorrelations; the least over coordinates.

    .. math:: \mathrm{ess} = C n / \tau, \qquad \tau = -1 + 2 \sum_k P_k, \qquad P_k = \rho_{2k} + \rho_{2k+1}

    where the sum stops at the first pair that is not positive and pairs are made non-increasing (Geyer, 1992). The
    autocovariance is taken around the mean of all chains of a particle, so chains that sit in different modes have
    correlations that do not decay and the result is about their number.

    Args:
        values: ``(C, n, B, d)``.

    Returns:
        ``()``, between 0 and ``C n log10(C n)`` (antithetic chains may beat independent draws); NaN with fewer than 4
        draws.

    Raises:
        ValueError: If ``values`` does not have four axes.
    """
    _check(values)
    chains, draws = values.shape[:2]
    if draws < 4:
        return values.new_full((), math.nan)
    centred = values - values.mean((0, 1))
    spectrum = torch.fft.rfft(centred, n=2 * draws, dim=1)
    power = (spectrum.real.square() + spectrum.imag.square()).mean((0, 2))
    lags = torch.arange(draws, 0, -1, dtype=values.dtype, device=values.device)
    covariance = torch.fft.irfft(power, n=2 * draws, dim=0)[:draws] / lags[:, None]
    if chains > 1:  # the mean that was taken off has a variance, by which every autocovariance came out too small
        covariance = covariance + values.mean(1).var(0).mean(0) / chains
    rho = covariance / covariance[0]
    pairs = rho[: draws // 2 * 2].reshape(draws // 2, 2, -1).sum(1)
    alive = torch.cumprod((pairs > 0).to(rho.dtype), 0)
    monotone = torch.cummin(pairs, 0).values
    total = chains * draws
    tau = (2.0 * (alive * monotone).sum(0) - 1.0).clamp(min=1.0 / math.log10(max(total, 10)))
    tau = torch.where(covariance[0] == 0, math.inf, tau)  # nothing moved: no information
    return (total / tau).amin()
