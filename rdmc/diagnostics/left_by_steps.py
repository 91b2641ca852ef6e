"""What the steps of a run left in its draws: as measured, or as expanded in their size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdmc.budget.direct import DIRECT

__all__ = ["LeftBySteps"]

_CLEAR = 3.5  # standard errors from which on what is measured is more than noise
_CLEARER = 5.0  # from which on it is better than an expansion that is not small
_SMALL = 0.05  # nats up to which the expansion holds; what is measured also has what the score's own term misses
_SHARE = 0.5  # of it, as much as the score may have left
_TRACE = 0.02  # of what the start left, that may be taken for it


class LeftBySteps(NamedTuple):
    """Nats with their standard error, as measured (:mod:`rdmc.budget.direct`), averaged over populations; NaN where nothing was."""

    nats: float
    se: float

    @classmethod
    def of(cls, inner: Mapping[str, NDArray[np.float64]]) -> LeftBySteps:
        """From the diagnostics by level; those of older versions have nothing measured."""
        if not all(name in inner for name in DIRECT):
            return cls(math.nan, math.nan)
        nats, se = (np.atleast_2d(inner[name])[:, -1] for name in DIRECT)
        known = np.isfinite(nats) & np.isfinite(se)
        count = int(known.sum())
        if not count:
            return cls(math.nan, math.nan)
        return cls(float(nats[known].mean()), math.sqrt(float(np.square(se[known]).sum())) / count)

    @property
    def most(self) -> float:
        """Nats that are not exceeded, but for noise beyond 3.5 standard errors."""
        return max(0.0, self.nats) + _CLEAR * self.se

    def choose(self, expanded: float, start: float, score: float) -> float:
        """As expanded where that is small, else as measured if that is clear; NaN where neither can tell.

        Args:
            expanded: What the errors of moments give, to first order in the size of the steps, NaN where they can't.
            start: What the start left, which is taken off.
            score: What the score left: noise that blurs what is measured.
        """
        if math.isnan(self.nats) or expanded <= _SMALL:
            return expanded
        least = (_CLEAR if math.isnan(expanded) else _CLEARER) * self.se
        hidden = score > _SHARE * self.nats or _TRACE * start > self.nats
        return self.nats if self.nats > least and not hidden else expanded
