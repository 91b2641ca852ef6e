"""Rules about weighted paths and about the evidence that any sampler reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["evidence_known", "paths_even"]

USEFUL = 0.3
"""Standard error of a log evidence above which it tells hardly any two models apart."""
EFFECTIVE = 0.1
"""Share of effective particles, on average over populations, that every level must have."""


class HasEvidence(Protocol):
    """What these rules read of a result."""

    @property
    def log_evidence(self) -> float | None:
        """Log of the normalising constant, if the sampler estimates it."""
        ...

    @property
    def log_evidence_mcse(self) -> float | None:
        """Its standard error."""
        ...

    @property
    def inner(self) -> Mapping[str, NDArray[Any]]:
        """``(chains, levels)`` per noise level."""
        ...


def evidence_known(result: HasEvidence) -> list[str]:
    """A log evidence whose standard error is so large that the number is of no use.

    Errors of log evidences are skewed: it rests on few large weights, and most runs that miss them come out too low.
    """
    error = result.log_evidence_mcse
    if result.log_evidence is None or error is None or not error > USEFUL:
        return []
    return [
        f"The log evidence has a standard error of {error:.2g}, above {USEFUL}: a few large weights make it up, and it is more "
        "likely too low than too high. Don't compare models by it; take more draws per population, or another sampler."
    ]


def paths_even(result: HasEvidence) -> list[str]:
    """Levels of weighted paths at which few particles held nearly all the weight, on average over populations.

    One population alone may have a bad level by chance, and its evidence is then seen to differ from the others'. Of 90 runs that
    were right to .1 and said so, none had a level below .2.
    """
    if "path_ess" not in result.inner:
        return []
    share = np.asarray(result.inner["path_ess"], dtype=np.float64)
    if share.size == 0 or np.isnan(share).all():
        return []
    mean = np.nanmean(share, 0)
    level = int(np.nanargmin(mean))
    if not mean[level] < EFFECTIVE:
        return []
    return [
        f"At level {level + 1} of {share.shape[1]} the weights of paths left {mean[level]:.2g} of the particles in effect "
        f"(wanted above {EFFECTIVE}): paths end where the target has little mass. The log evidence may be off by more than its "
        "standard error, and draws descend from few particles. Take more levels or more draws per population, or draw from the "
        "target with `auto`."
    ]
