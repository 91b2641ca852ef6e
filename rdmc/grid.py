"""Grids of forward times: where the reverse diffusion stops on its way from the horizon to the data.

A grid is a strictly decreasing tuple of Python floats that begins at ``process.horizon`` and finishes at ``end``, both
exactly; ``levels`` counts the steps between them, so there are ``levels + 1`` times. A grid knows the process only by
its noise levels; which step runs on it is not its business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from rdmc.process import ForwardProcess
from rdmc.rate import require_non_negative, require_positive

__all__ = ["Grid", "LinearGrid", "LogSNRGrid", "PolynomialGrid"]


class Grid(Protocol):
    """A rule that places the times of a run for any process."""

    def times(self, process: ForwardProcess) -> tuple[float, ...]:
        """Strictly decreasing times from ``process.horizon`` to the end.

        Raises:
            ValueError: if the end is not below ``process.horizon``, or floats cannot tell two neighbours apart.
        """
        ...


@dataclass(frozen=True)
class LinearGrid:
    r"""Even in forward time.

    .. math:: t_k = \text{horizon} + \frac{k}{\text{levels}} (\text{end} - \text{horizon})

    The published choice of RDMC. On a Gaussian the first-order steps have two to three times the error of
    :class:`LogSNRGrid` for OU and about the same for VP with a rising rate, whose own clock slows near the data.

    Args:
        levels: Number of steps, >= 1.
        end: Last time, >= 0 and below the horizon.

    Raises:
        ValueError: if ``levels`` is not a positive integer or ``end`` is negative.

    Source: Huang et al. (2024), arXiv:2307.02037 (equal steps of the reverse process).

    Example:
        >>> from rdmc.process import OU
        >>> LinearGrid(levels=4, end=0.0).times(OU(horizon=2.0))
        (2.0, 1.5, 1.0, 0.5, 0.0)
    """

    levels: int
    end: float

    def __post_init__(self) -> None:
        _require_levels(self.levels)
        require_non_negative("end", self.end)

    def times(self, process: ForwardProcess) -> tuple[float, ...]:
        """Times even in t."""
        return _times(process, self.levels, self.end, variable=lambda t: t, inverse=lambda t: t)


@dataclass(frozen=True)
class LogSNRGrid:
    r"""Even in the log signal-to-noise ratio: every step changes it by the same factor.

    .. math:: \lambda(t_k) = \lambda(\text{horizon})
              + \frac{k}{\text{levels}} (\lambda(\text{end}) - \lambda(\text{horizon})),
              \qquad \lambda(t) = \log(\alpha_t^2 / \sigma_t^2)

    Args:
        levels: Number of steps, >= 1.
        end: Last time, > 0 (the ratio is infinite at 0) and below the horizon.

    Raises:
        ValueError: if ``levels`` is not a positive integer or ``end`` is not positive.

    Source: Lu et al. (2022), arXiv:2206.00927 (DPM-Solver; its uniform-lambda steps).

    Example:
        >>> from rdmc.process import EDM
        >>> [round(t, 12) for t in LogSNRGrid(levels=2, end=0.01).times(EDM(horizon=100.0))]
        [100.0, 1.0, 0.01]
    """

    levels: int
    end: float

    def __post_init__(self) -> None:
        _require_levels(self.levels)
        require_positive("end", self.end)

    def times(self, process: ForwardProcess) -> tuple[float, ...]:
        """Times even in log-SNR."""
        return _times(process, self.levels, self.end, variable=process.log_snr, inverse=process.time_at)


@dataclass(frozen=True)
class PolynomialGrid:
    r"""Even in a root of the noise-to-signal ratio n = sigma / alpha.

    .. math:: n(t_k)^{1/\rho} = n(\text{horizon})^{1/\rho}
              + \frac{k}{\text{levels}} \big(n(\text{end})^{1/\rho} - n(\text{horizon})^{1/\rho}\big)

    rho = 1 is even in n; rho to infinity is :class:`LogSNRGrid`. Unlike that grid it can finish at ``end = 0``.

    Args:
        levels: Number of steps, >= 1.
        end: Last time, >= 0 and below the horizon.
        rho: Power, > 0; Karras et al. use 7.

    Raises:
        ValueError: if ``levels`` is not a positive integer, ``end`` is negative or ``rho`` is not positive.

    Source: Karras et al. (2022), arXiv:2206.00364, eq. (5).

    Example:
        >>> from rdmc.process import EDM
        >>> [round(t, 12) for t in PolynomialGrid(levels=2, end=1.0, rho=2.0).times(EDM(horizon=9.0))]
        [9.0, 4.0, 1.0]
    """

    levels: int
    end: float
    rho: float = 7.0

    def __post_init__(self) -> None:
        _require_levels(self.levels)
        require_non_negative("end", self.end)
        require_positive("rho", self.rho)

    def times(self, process: ForwardProcess) -> tuple[float, ...]:
        """Times even in n^(1/rho)."""
        return _times(
            process,
            self.levels,
            self.end,
            variable=lambda t: math.exp(-0.5 * process.log_snr(t) / self.rho),
            inverse=lambda root: process.time_at(-2.0 * self.rho * math.log(root)),
        )


def _times(
    process: ForwardProcess,
    levels: int,
    end: float,
    variable: Callable[[float], float],
    inverse: Callable[[float], float],
) -> tuple[float, ...]:
    if not end < process.horizon:
        raise ValueError(f"`end` must be below the horizon {process.horizon}, got {end}")
    first, last = variable(process.horizon), variable(end)
    inner = (inverse(first + (last - first) * (k / levels)) for k in range(1, levels))
    times = (float(process.horizon), *inner, float(end))
    if not all(s < t for t, s in pairwise(times)):
        raise ValueError(
            f"`levels` must be few enough for distinct times between {end} and {process.horizon}, got {levels}"
        )
    return times


def _require_levels(levels: int) -> None:
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
        raise ValueError(f"`levels` must be a positive integer, got {levels!r}")
