"""The parts that figures are made of: draws seen in one or two coordinates, their marginals, and bars of weights.

Matplotlib's objects come in as arguments: nothing of it is imported here, and no global state is touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    *("INK", "LINE", "PALE", "POPULATIONS", "TRUTH", "Array", "View"),
    *("bars", "density", "limits_of", "marginals", "projected", "scatter", "tidy"),
]

View: TypeAlias = tuple[int, int] | Callable[[Tensor], Tensor]
"""A pair of coordinates, or ``(chains, draws, d) -> (chains, draws, 2)``."""

Array: TypeAlias = NDArray[np.float64]

POPULATIONS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")
"""Okabe and Ito's palette, told apart by colour-blind readers too."""
INK, LINE, PALE, TRUTH = "#333333", "#888888", "#D9D9D9", "#000000"
SHOWN_DRAWS = 4000


def projected(samples: Tensor, view: View) -> Array:
    """``(chains, draws, 2)`` or, in one dimension, ``(chains, draws, 1)``."""
    if callable(view):
        chosen = view(samples)
        if chosen.ndim != 3 or chosen.shape[:2] != samples.shape[:2] or chosen.shape[2] not in (1, 2):
            raise ValueError(f"`view` must map {tuple(samples.shape)} to (chains, draws, 2), got {tuple(chosen.shape)}")
    elif samples.shape[-1] == 1:
        chosen = samples
    else:
        if any(not 0 <= i < samples.shape[-1] for i in view):
            raise ValueError(f"`view` must be two coordinates below {samples.shape[-1]}, got {view}")
        chosen = samples[..., list(view)]
    array: Array = chosen.detach().cpu().double().numpy()
    return array


def limits_of(views: Sequence[Array], axis: int) -> tuple[float, float]:
    """A range that holds nearly all draws of every sampler, but isn't stretched by a few that ran away."""
    bounds = []
    for values in views:
        flat = values[..., axis][np.isfinite(values[..., axis])]
        if flat.size:
            bounds.append(np.quantile(flat, [0.002, 0.998]))
    if not bounds:
        return -1.0, 1.0
    low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
    margin = 0.08 * (high - low) or max(1.0, 0.1 * abs(low))
    return float(low - margin), float(high + margin)


def density(values: Array, limits: tuple[float, float], bins: int = 120) -> tuple[Array, Array]:
    """A lightly smoothed histogram: unlike a kernel estimate of one bandwidth it keeps narrow modes narrow."""
    finite = values[np.isfinite(values)]
    counts, edges = np.histogram(finite, bins=bins, range=limits)
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.3) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same") / (max(len(finite), 1) * (edges[1] - edges[0]))
    return 0.5 * (edges[1:] + edges[:-1]), smooth


def tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
    axes.tick_params(labelsize=8, color=LINE, labelcolor=INK, length=3)


def scatter(axes: Axes, values: Array, exact: Array | None, limits: Sequence[tuple[float, float]]) -> None:
    chains, draws, width = values.shape
    step = max(1, chains * draws // SHOWN_DRAWS)
    points = values[:, ::step].reshape(-1, width)
    owner = np.repeat(np.arange(chains), len(range(0, draws, step)))
    if width == 1:  # one coordinate: spread the populations over the height
        points = np.column_stack([points, owner + 0.7 * np.random.default_rng(0).random(len(owner)) - 0.35])
        axes.set_yticks([])
        axes.set_ylim(-0.6, chains - 0.4)
    else:
        axes.set_ylim(*limits[1])
        if exact is not None:
            axes.scatter(exact[:, 0], exact[:, 1], s=6, c=PALE, linewidths=0, rasterized=True, zorder=1)
    mixed = np.random.default_rng(0).permutation(len(points))  # no population on top of all others
    colours = np.array([POPULATIONS[k % len(POPULATIONS)] for k in range(chains)])[owner]
    axes.scatter(
        points[mixed, 0], points[mixed, 1], s=3.5, c=colours[mixed], alpha=0.55, linewidths=0, rasterized=True, zorder=2
    )
    axes.set_xlim(*limits[0])


def marginals(axes: Axes, values: Array, exact: Array | None, limits: tuple[float, float]) -> float:
    top = 0.0
    if exact is not None:
        grid, height = density(exact[:, 0], limits)
        axes.fill_between(grid, height, color=PALE, linewidth=0, zorder=1)
        top = float(height.max())
    for k, population in enumerate(values[..., 0]):
        grid, height = density(population, limits)
        axes.plot(grid, height, color=POPULATIONS[k % len(POPULATIONS)], linewidth=1.1, alpha=0.9, zorder=2)
        top = max(top, float(height.max()))
    axes.set_xlim(*limits)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return top


def bars(axes: Axes, weight: Array, error: Array, true: Array | None, labels: list[str]) -> None:
    if not len(weight):
        axes.text(0.5, 0.5, "no mode table", transform=axes.transAxes, ha="center", va="center", fontsize=8, color=LINE)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    place = np.arange(len(weight))
    axes.bar(place, weight, width=0.62, color="#9DB8CF", zorder=1)
    bounds = np.stack([np.minimum(2 * error, weight), np.minimum(2 * error, 1.0 - weight)]).clip(min=0.0)
    axes.errorbar(place, weight, yerr=bounds, fmt="none", ecolor=INK, elinewidth=1.0, capsize=2.5, zorder=3)
    if true is not None:
        axes.hlines(true, place - 0.42, place + 0.42, color=TRUTH, linewidth=1.8, zorder=4)
    every = max(1, math.ceil(len(labels) / 12))
    axes.set_xticks(place[::every], labels[::every])
    axes.set_xlim(-0.7, max(len(weight), 3) - 0.3)
