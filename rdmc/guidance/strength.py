"""How strong guidance is, at all noise levels or at some."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Interval", "Strength", "checked_strength", "strength_at"]

Strength: TypeAlias = float | Callable[[float], float]
"""g, or g as a function of the noise level sigma / alpha in the coordinates of the process."""


@dataclass(frozen=True)
class Interval:
    """Guidance at some noise levels only: ``strength`` where ``above < sigma / alpha <= below``, and 0, the posterior, elsewhere.

    At high noise guidance drives particles into few modes, and at low noise it does nothing but cost: there the prior is not even
    asked. The noise level is relative to the widths of the modes, as the process's coordinates are.

    Args:
        strength: g within the interval.
        above: Lower end, >= 0.
        below: Upper end, above ``above``.

    Raises:
        ValueError: If ``strength`` is not finite, or the ends are out of order.

    Source: Kynkäänniemi et al. (2024), arXiv:2404.07724.

    Example:
        >>> interval = Interval(2.0, above=0.5, below=3.0)
        >>> interval(4.0), interval(1.0), interval(0.5)
        (0.0, 2.0, 0.0)
    """

    strength: float
    above: float = 0.0
    below: float = math.inf

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise ValueError(f"`strength` must be a finite number, got {self.strength!r}")
        if not 0.0 <= self.above < self.below:
            raise ValueError(
                f"`above` and `below` must satisfy 0 <= above < below, got {self.above!r} and {self.below!r}"
            )

    def __call__(self, noise: float) -> float:
        """The strength at noise level ``sigma / alpha``."""
        return self.strength if self.above < noise <= self.below else 0.0


def checked_strength(strength: object) -> None:
    """Refuse what is neither a finite number nor a function.

    Raises:
        ValueError: Naming the argument, what was wanted and what came.
    """
    number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    if not (number and math.isfinite(strength)) and (number or isinstance(strength, type) or not callable(strength)):  # type: ignore[arg-type]
        raise ValueError(
            "`strength` must be a finite number (0 is the posterior, -1 the prior), or a function of sigma / alpha such as "
            f"Interval, got {strength!r}"
        )


def strength_at(strength: Strength, noise: float) -> float:
    """Strength g at noise level ``sigma / alpha``.

    Raises:
        ValueError: If a function gives anything but a finite number.
    """
    g = strength(noise) if callable(strength) else strength
    if not (isinstance(g, (int, float)) and math.isfinite(g)):
        raise ValueError(
            f"`strength` must give a finite number at every noise level, got {g!r} at sigma / alpha = {noise:.3g}"
        )
    return float(g)
