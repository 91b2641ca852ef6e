"""The course of a run: inner diagnostics pooled over populations, one row per outer step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdmc.capture import mode_columns
from rdmc.table import Table

__all__ = ["trace_table"]

Pool = Callable[[NDArray[np.float64]], float]


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


_POOLS: dict[str, Pool] = {"t": np.mean, "sigma": np.mean, "ess": np.min, "mcse": _rms, "acceptance": np.mean}
_POOLS |= {"evaluations": np.sum, "seconds": np.sum, "log_snr": np.mean, "rhat": np.max, "nonfinite": np.sum}
_ALWAYS = ("t", "sigma", "ess", "mcse", "acceptance", "evaluations", "seconds")


def trace_table(inner: Mapping[str, NDArray[Any]]) -> Table:
    """Pool ``(chains, levels)`` diagnostics over the populations, leaving out NaN.

    The worst counts where one bad population spoils the run (``ess``: least; ``rhat``: largest), root mean square for
    errors (``mcse``), totals for costs (``evaluations``, ``seconds``, ``nonfinite``), the mean for all others. The frequencies of
    modes are left to :func:`rdmc.diagnostics.capture`.

    Args:
        inner: As in :class:`rdmc.Result`.

    Returns:
        One row per level with at least t, sigma, ess, mcse, acceptance, evaluations and seconds; NaN where nothing is
        known.
    """
    levels = max((np.shape(values)[1] for values in inner.values()), default=0)
    columns: dict[str, list[float]] = {}
    modes = set(mode_columns(inner))
    for name in dict.fromkeys((*_ALWAYS, *(name for name in inner if name not in modes))):
        pool: Pool = _POOLS.get(name, np.mean)
        if name not in inner:
            columns[name] = [float("nan")] * levels
            continue
        values = np.asarray(inner[name], dtype=np.float64)
        known = [column[~np.isnan(column)] for column in values.T]
        columns[name] = [float(pool(column)) if column.size else float("nan") for column in known]
    return Table(columns)
