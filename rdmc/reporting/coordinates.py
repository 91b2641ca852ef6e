"""Which coordinates to show of many: where the modes lie apart, and where the populations disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdmc.diagnostics.convergence import rhat_threshold
from rdmc.result import Result

__all__ = ["Choice", "choose", "coordinate_name"]

SHOWN = 5
APART = 3.0  # within-mode standard deviations from which two modes are seen as two in a marginal
_DRAWS = 4000
_MODES = 24


@dataclass(frozen=True)
class Choice:
    """Coordinates to show.

    Attributes:
        indices: Which, the most telling first.
        reason: Which and why, in words.
    """

    indices: tuple[int, ...]
    reason: str


def coordinate_name(result: Result, index: int) -> str:
    """The coordinate's own name, or ``x[3]``."""
    return result.names[index] if result.names else f"x[{index}]"


def choose(result: Result, shown: int = SHOWN) -> Choice:
    """Up to ``shown`` coordinates: R-hat above its threshold first, then the largest distance between modes.

    Cost: ``O(modes draws dim)`` on at most 4000 draws.
    """
    dim = result.dim
    if dim <= shown:
        return Choice(tuple(range(dim)), "")
    rhat = np.nan_to_num(result.convergence.rhat, nan=0.0)
    apart = separation(result)
    suspect = np.flatnonzero(rhat > rhat_threshold(result.chains, max(result.draws, 4), dim)).tolist()
    bad: list[int] = sorted(suspect, key=lambda i: -rhat[i])[: (shown + 1) // 2]
    far = [i for i in np.argsort(-apart, kind="stable").tolist() if apart[i] >= APART and i not in bad][
        : shown - len(bad)
    ]
    rest = [i for i in np.argsort(-rhat, kind="stable").tolist() if i not in (*bad, *far)][
        : shown - len(bad) - len(far)
    ]

    def named(chosen: list[int]) -> str:
        return ", ".join(coordinate_name(result, i) for i in chosen)

    why = []
    if bad:
        why.append(f"{named(bad)}: the highest R-hat, up to {max(rhat[i] for i in bad):.3f}")
    if far:
        most = f"up to {max(apart[i] for i in far):.1f} standard deviations within a mode"
        why.append(f"{named(far)}: where modes lie furthest apart, {most}")
    if rest:
        known = "the next highest R-hat" if rhat.any() else "the first of the others"
        why.append(f"{named(rest)}: {known}")
    chosen = (*bad, *far, *rest)
    return Choice(chosen, f"Shown are {len(chosen)} of {dim} coordinates. " + "; ".join(why) + ".")


def separation(result: Result, rounds: int = 8) -> NDArray[np.float64]:
    """``(d,)`` largest distance between mode means, in standard deviations within a mode; 0 with fewer than two modes.

    The result has no label of each draw: k-means from the draws nearest to each mode's place, in units of the scale
    within a mode.
    """
    nothing = np.zeros(result.dim)
    if "location" not in result.modes.columns or len(result.modes) < 2:
        return nothing
    draws = result.samples.reshape(-1, result.dim).double().cpu().numpy()
    draws = draws[:: max(1, len(draws) // _DRAWS)]
    draws = draws[np.isfinite(draws).all(1)]
    places = np.array(result.modes["location"][:_MODES], dtype=np.float64)
    if len(draws) < 10 * len(places):
        return nothing
    scale = _split_scale(draws)
    near = np.argsort(_distance(draws, places, scale), axis=0)[: max(5, len(draws) // (5 * len(places)))]
    means = draws[near].mean(0)
    for _ in range(rounds):
        label = _distance(draws, means, scale).argmin(1)
        held = [k for k in range(len(means)) if (label == k).sum() >= 5]
        if len(held) < 2:
            return nothing
        means = np.stack([draws[label == k].mean(0) for k in held])
        within = sum(((draws[label == k] - m) ** 2).sum(0) for k, m in zip(held, means, strict=True))
        scale = np.sqrt(within / len(draws))
    found: NDArray[np.float64] = np.ptp(means, axis=0) / np.where(scale > 0, scale, np.inf)
    return found


def _distance(draws: NDArray[np.float64], means: NDArray[np.float64], scale: NDArray[np.float64]) -> Any:
    """``(draws, K)`` squared distances in units of ``scale``, up to a constant of each draw."""
    unit = np.where(scale > 0, scale, np.inf)
    a, b = (draws - draws.mean(0)) / unit, (means - draws.mean(0)) / unit
    return (b * b).sum(1) - 2.0 * a @ b.T


def _split_scale(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(d,)`` standard deviation within the two groups into which each coordinate alone splits best.

    That of all draws would shrink just the coordinates in which modes lie apart, and the others' noise would hide them.
    """
    n = len(draws)
    ordered = np.sort(draws - draws.mean(0), axis=0)
    left = np.arange(1, n)[:, None]
    between = np.cumsum(ordered, axis=0)[:-1] ** 2 * n / (left * (n - left))
    within: NDArray[np.float64] = np.sqrt(np.clip((ordered**2).sum(0) - between.max(0), 0.0, None) / n)
    return within
