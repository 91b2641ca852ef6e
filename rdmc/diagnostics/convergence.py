"""Agreement between populations: rank-normalised R-hat and effective sample size, by ArviZ 0.23 and 1.x alike."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Convergence", "convergence", "import_arviz", "rhat_threshold"]

TAIL_PROBABILITY = (0.05, 0.95)
"""Quantiles of the tail ESS, passed explicitly: the default of ArviZ 1.x (5.5 %, 94.5 %) differs from that of 0.23."""


def import_arviz() -> ModuleType:
    """ArviZ, without the notice about its own refactoring that 0.23 shows at the first import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    module: ModuleType = arviz
    return module


@dataclass(frozen=True, eq=False)
class Convergence:
    """Per-coordinate diagnostics of ``(chains, draws, d)`` samples; NaN where they do not exist.

    Attributes:
        rhat: ``(d,)`` rank-normalised split R-hat, the larger of the bulk and the folded one (Vehtari et al., 2021).
        ess_bulk: ``(d,)`` effective draws for the centre, over all populations.
        ess_tail: ``(d,)`` the same for the 5 % and 95 % quantiles, the smaller of the two.
        reason: Why all values are NaN, in words, or None.
    """

    rhat: NDArray[np.float64]
    ess_bulk: NDArray[np.float64]
    ess_tail: NDArray[np.float64]
    reason: str | None = None

    @property
    def worst_rhat(self) -> float:
        """Largest R-hat over the coordinates, NaN if there is none."""
        return float("nan") if np.isnan(self.rhat).all() else float(np.nanmax(self.rhat))

    @property
    def worst_coordinate(self) -> int | None:
        """Index of the coordinate with the largest R-hat."""
        return None if np.isnan(self.rhat).all() else int(np.nanargmax(self.rhat))

    @property
    def worst_ess(self) -> float:
        """Smallest effective sample size over coordinates, bulk and tail."""
        both = np.stack([self.ess_bulk, self.ess_tail])
        return float("nan") if np.isnan(both).all() else float(np.nanmin(both))


def convergence(samples: Tensor) -> Convergence:
    """R-hat and ESS of each coordinate, the populations taken as chains.

    One population has no R-hat (its two halves would be compared with each other, which says nothing about modes that
    it never saw), but it has an ESS. With fewer than 4 draws, or a value that is not finite, nothing exists. A
    constant coordinate gives NaN.

    Cost: ``O(chains draws log draws)`` a coordinate, on the host; imports ArviZ.

    Args:
        samples: ``(chains, draws, d)``.

    Raises:
        ValueError: If ``samples`` does not have three axes.
    """
    if samples.ndim != 3:
        raise ValueError(f"`samples` must have shape (chains, draws, d), got {tuple(samples.shape)}")
    chains, draws, dim = samples.shape
    nothing = np.full(dim, np.nan)
    values = samples.detach().cpu().double().numpy()
    if chains * draws == 0 or draws < 4:
        return Convergence(
            nothing, nothing, nothing, f"R-hat and ESS need at least 4 draws per population, got {draws}"
        )
    if not np.isfinite(values).all():
        return Convergence(nothing, nothing, nothing, "R-hat and ESS need finite samples")

    import xarray as xr

    az = import_arviz()
    moving = np.ptp(values, axis=(0, 1)) > 0  # ArviZ divides 0 by 0, with a warning, where a coordinate is constant
    if not moving.any():
        return Convergence(nothing, nothing, nothing, "every coordinate is constant over all draws")
    data = xr.Dataset({"x": (("chain", "draw", "x_dim"), values[..., moving])})

    def filled(found: xr.Dataset) -> NDArray[np.float64]:
        full = nothing.copy()
        full[moving] = np.asarray(found["x"], dtype=np.float64)
        return full

    with np.errstate(divide="ignore", invalid="ignore"):  # populations that never moved differ infinitely
        ess_bulk = filled(az.ess(data, method="bulk"))
        ess_tail = filled(az.ess(data, method="tail", prob=TAIL_PROBABILITY))
        if chains < 2:
            return Convergence(nothing, ess_bulk, ess_tail, "R-hat needs at least 2 populations, got 1")
        return Convergence(filled(az.rhat(data, method="rank")), ess_bulk, ess_tail)


def rhat_threshold(chains: int, draws: int, dim: int, false_alarm: float = 1e-3) -> float:
    r"""The R-hat above which a run is suspect: 1.01, or more where exact independent draws would pass 1.01 by chance.

    Split R-hat compares m = 2 ``chains`` halves of n = ``draws`` / 2 draws. For independent draws its rank-normalised
    values are nearly normal, so the variance ratio behind it is an F statistic,

    .. math:: \hat R^2 = 1 + (F - 1) / n, \qquad F \sim F_{m - 1,\; m (n - 1)},

    and the largest of the bulk and the folded R-hat over d coordinates exceeds the (1 - p / 2d) quantile of that law
    in fewer than a fraction p of runs (Bonferroni). With 4 populations and 10 coordinates: 1.09 at 40 draws, 1.02 at
    200, 1.01 from about 350 on.

    Args:
        chains: Populations.
        draws: Draws in each, at least 4.
        dim: Coordinates over which the largest R-hat is taken.
        false_alarm: The fraction p.

    Example:
        >>> round(rhat_threshold(4, 1000, 10), 3), round(rhat_threshold(4, 100, 10), 3)
        (1.01, 1.036)
    """
    from scipy.stats import f

    m, n = 2 * chains, draws // 2
    quantile = float(f.isf(false_alarm / (2 * dim), m - 1, m * (n - 1)))
    return max(1.01, math.sqrt(1.0 + (quantile - 1.0) / n))
