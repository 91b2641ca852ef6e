r"""Pareto-smoothed importance weights.

The largest ones replaced by quantiles of a fitted tail, whose index k says
whether to trust them.

The largest of n weights follow a generalised Pareto law with index k. Below 1/2 the weights have a variance; up to .7 estimates
converge at a useful rate; above, no number of draws in reach helps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Smoothed", "smooth"]

_LEAST = 5  # weights in a tail, of which three numbers are learnt


class Smoothed(NamedTuple):
    """Weights after smoothing.

    Attributes:
        log_weight: ``(n,)`` log weights whose exponentials sum to 1.
        pareto_k: Index of the tail; ``inf`` where there are too few weights to fit one, ``-inf`` where the largest are all alike.
    """

    log_weight: Tensor
    pareto_k: float


def smooth(log_weight: Tensor) -> Smoothed:
    """Smooth ``(n,)`` log weights of independent draws.

    The tail is the largest min(n / 5, 3 sqrt(n)) of them.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72); the fit of Zhang and Stephens (2009),
    Technometrics 51(3).

    Example:
        >>> round(smooth(torch.zeros(100, dtype=torch.float64)).log_weight.exp().sum().item(), 12)
        1.0
    """
    values = log_weight.detach().cpu().double().numpy().copy()
    values -= values.max()
    n = len(values)
    count = math.ceil(min(0.2 * n, 3.0 * math.sqrt(n)))
    order = np.argsort(values, kind="stable")
    k = math.inf
    if count >= _LEAST and n > count:
        cut = max(values[order[-count - 1]], math.log(np.finfo(np.float64).tiny))
        tail = order[-count:][values[order[-count:]] > cut]
        if len(tail) >= _LEAST:
            floor = math.exp(cut)
            k, scale = _pareto(np.exp(values[tail]) - floor)
            if math.isfinite(k):
                at = (np.arange(1, len(tail) + 1) - 0.5) / len(tail)
                excess = -scale * np.log1p(-at) if abs(k) < 1e-12 else scale * np.expm1(-k * np.log1p(-at)) / k
                values[tail] = np.log(floor + excess)
                values = np.minimum(values, 0.0)  # no weight above the largest of the raw ones
        elif len(tail) == 0:
            k = -math.inf  # weights that are all alike have no tail
    found = torch.from_numpy(values)
    return Smoothed((found - found.logsumexp(0)).to(log_weight.device), k)


def _pareto(x: NDArray[np.float64]) -> tuple[float, float]:
    """Index and scale of the generalised Pareto law of ascending positive values, the index drawn a little towards 1/2."""
    n = len(x)
    m = 30 + int(math.sqrt(n))
    b = 1.0 / x[-1] + (1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3.0 * x[int(n / 4.0 + 0.5) - 1])
    k = np.log1p(-b[:, None] * x).mean(1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        fit = n * (np.log(-b / k) - k - 1.0)
        weight = 1.0 / np.exp(fit - fit[:, None]).sum(1)
    weight = np.where(weight >= 10.0 * np.finfo(np.float64).eps, weight, 0.0)
    mean = float((b * weight).sum() / weight.sum())
    index = float(np.log1p(-mean * x).mean())
    return (n * index + 10.0 * 0.5) / (n + 10.0), -index / mean
