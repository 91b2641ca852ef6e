"""Several samplers on one page: where the draws are, whether the populations agree, and what the modes weigh.

Matplotlib is imported inside the functions, through its object interface only: no pyplot state, no global settings.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Drawable", "View", "figure"]

View: TypeAlias = tuple[int, int] | Callable[[Tensor], Tensor]
"""A pair of coordinates, or ``(chains, draws, d) -> (chains, draws, 2)``."""

Array: TypeAlias = NDArray[np.float64]

POPULATIONS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")
"""Okabe and Ito's palette, told apart by colour-blind readers too."""
INK, PALE, TRUTH = "#333333", "#D9D9D9", "#000000"
SHOWN_DRAWS = 4000
SHOWN_MODES = 24


class Drawable(Protocol):
    """What the figure reads of a result; :class:`rdmc.Result` documents each."""

    @property
    def samples(self) -> Tensor: ...  # noqa: D102
    @property
    def modes(self) -> Table: ...  # noqa: D102
    @property
    def evaluations_per_draw(self) -> float: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102


def _view(samples: Tensor, view: View) -> Array:
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


def _limits(views: Sequence[Array], axis: int) -> tuple[float, float]:
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


def _density(values: Array, limits: tuple[float, float], bins: int = 120) -> tuple[Array, Array]:
    """A lightly smoothed histogram: unlike a kernel estimate of one bandwidth it keeps narrow modes narrow."""
    finite = values[np.isfinite(values)]
    counts, edges = np.histogram(finite, bins=bins, range=limits)
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.3) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same") / (max(len(finite), 1) * (edges[1] - edges[0]))
    return 0.5 * (edges[1:] + edges[:-1]), smooth


def _weights(result: Drawable, truth: Any, view: View) -> tuple[Array, Array, Array | None, list[str]]:
    """Weights, errors, true weights or None, and labels: by the truth's modes if known, else by the result's own."""
    if truth is not None and getattr(truth, "mode_weights", None) is not None:
        chains, draws, dim = result.samples.shape
        true: Array = truth.mode_weights.detach().cpu().double().numpy()
        label = truth.mode_of(result.samples.reshape(-1, dim)).cpu().reshape(chains, draws)
        by_chain = np.stack([np.bincount(row[row >= 0], minlength=len(true)) / draws for row in label.numpy()])
        weight = by_chain.mean(0)
        spread = by_chain.std(0, ddof=1) / math.sqrt(chains) if chains > 1 else np.zeros_like(weight)
        error = np.maximum(spread, np.sqrt(weight * (1 - weight) / (chains * draws)))
        order = np.arange(len(true)) if len(true) <= SHOWN_MODES else np.argsort(-true, kind="stable")[:SHOWN_MODES]
        return weight[order], error[order], true[order], [str(int(k)) for k in order]
    if "weight" not in result.modes.columns:
        return np.zeros(0), np.zeros(0), None, []
    shown = result.modes[:SHOWN_MODES]
    labels = [str(k) for k in range(len(shown))]
    if (
        0 < len(shown) <= 5 and "location" in shown.columns
    ):  # without a truth, mode 0 of one row need not be that of another
        places = _view(torch.tensor(shown["location"], dtype=torch.float64)[None], view)[0]
        places = np.where(np.abs(places) < 0.01 * np.abs(places).max(), 0.0, places)
        labels = ["\n".join(f"{value:.2g}" for value in place) for place in places]
    return np.array(shown["weight"]), np.array(shown["weight_mcse"]), None, labels


def _tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#888888")
    axes.tick_params(labelsize=8, color="#888888", labelcolor=INK, length=3)


def _scatter(axes: Axes, values: Array, exact: Array | None, limits: Sequence[tuple[float, float]]) -> None:
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


def _marginals(axes: Axes, values: Array, exact: Array | None, limits: tuple[float, float]) -> float:
    top = 0.0
    if exact is not None:
        grid, height = _density(exact[:, 0], limits)
        axes.fill_between(grid, height, color=PALE, linewidth=0, zorder=1)
        top = float(height.max())
    for k, population in enumerate(values[..., 0]):
        grid, height = _density(population, limits)
        axes.plot(grid, height, color=POPULATIONS[k % len(POPULATIONS)], linewidth=1.1, alpha=0.9, zorder=2)
        top = max(top, float(height.max()))
    axes.set_xlim(*limits)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return top


def _bars(axes: Axes, weight: Array, error: Array, true: Array | None, labels: list[str]) -> None:
    if not len(weight):
        axes.text(
            0.5, 0.5, "no mode table", transform=axes.transAxes, ha="center", va="center", fontsize=8, color="#888888"
        )
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


def _exact(truth: Any, like: Tensor, view: View, draws: int = 4000) -> Array | None:
    """``(draws, 2)`` exact draws seen through the view, if the truth has a sampler."""
    if truth is None or not getattr(truth, "can_sample", hasattr(truth, "sample")):
        return None
    points = truth.sample(draws, torch.Generator().manual_seed(0))
    seen: Array = _view(points.to(like)[None], view)[0]
    return seen


def _legend(page: Figure, chains: int, exact: bool, weights: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    many = f" (colours repeat after {len(POPULATIONS)})" if chains > len(POPULATIONS) else ""
    entries: list[Any] = [
        Line2D(
            [],
            [],
            color=POPULATIONS[k],
            marker="o",
            linewidth=1.1,
            markersize=4,
            label=f"population {k}{many if k == 0 else ''}",
        )
        for k in range(min(chains, len(POPULATIONS)))
    ]
    if exact:
        entries.append(Patch(color=PALE, label="exact draws"))
    if weights:
        entries.append(Line2D([], [], color=TRUTH, linewidth=1.8, label="true weight"))
    page.legend(
        handles=entries,
        loc="outside lower center",
        ncols=min(len(entries), 6),
        fontsize=8,
        frameon=False,
        labelcolor=INK,
    )


def figure(
    results: Mapping[str, Drawable],
    path: str | os.PathLike[str] | None = None,
    truth: Any = None,
    *,
    view: View = (0, 1),
    axis_names: tuple[str, str] | None = None,
) -> Figure:
    """Compare samplers: one row each; columns are the draws, the marginal of each population, and the mode weights.

    All rows share their axes, so a mode that a sampler missed is an empty place. Error bars are two standard errors.

    Args:
        results: Name of each sampler to its result.
        path: File to write (suffix: png, pdf, svg, ...), or None.
        truth: Optional ground truth, such as a ``targets.Target``: ``sample(n, generator)`` gives the grey background,
            ``mode_weights`` with ``mode_of(x)`` the true weights. Either may be missing.
        view: What to project on: two coordinates, or a function ``(chains, draws, d) -> (chains, draws, 2)``.
        axis_names: Names of the two axes; by default those of the coordinates.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If there are no results or ``view`` does not fit them.
    """
    if not results:
        raise ValueError("`results` must hold at least one result, got none")
    from matplotlib.figure import Figure

    views = [_view(result.samples, view) for result in results.values()]
    exact = _exact(truth, next(iter(results.values())).samples, view)
    reference = [exact[None]] if exact is not None else views
    limits = [_limits(reference, axis) for axis in range(views[0].shape[-1])]
    weights = [_weights(result, truth, view) for result in results.values()]
    names = axis_names or (
        ("x", "") if views[0].shape[-1] == 1 else ("view 0", "view 1") if callable(view) else _named(results, view)
    )

    page = Figure(figsize=(9.6, 0.9 + 2.25 * len(results)), facecolor="white")
    page.set_layout_engine("constrained", w_pad=0.09, h_pad=0.07)
    grid = page.subplots(len(results), 3, squeeze=False, width_ratios=(1.15, 1.25, 1.0))
    tops = []
    for row, (name, result), values, bars in zip(grid, results.items(), views, weights, strict=True):
        for axes in row:
            _tidy(axes)
        _scatter(row[0], values, exact, limits)
        tops.append(_marginals(row[1], values, exact, limits[0]))
        _bars(row[2], *bars)
        row[0].set_ylabel(names[1], fontsize=8, color=INK)
        row[0].set_title(name, loc="left", fontsize=10.5, fontweight="bold", color=INK)
        cost = f"{result.evaluations_per_draw:,.0f} gradients per draw" + (
            f", {result.seconds:.3g} s" if result.seconds >= 0 else ""
        )
        row[1].set_title(cost, loc="left", fontsize=8.5, color=INK)
    # an outlying peak of a stuck population may be cut, so that the others stay readable
    height = min(max(tops), 2.5 * min(tops) if min(tops) > 0 else max(tops))
    peaks = [float(np.max(w + 2 * e)) for w, e, _, _ in weights if len(w)]
    peaks += [float(true.max()) for _, _, true, _ in weights if true is not None]
    for row in grid:
        row[1].set_ylim(0, 1.06 * height or 1.0)
        row[2].set_ylim(0, min(1.03, 1.1 * max(peaks, default=1.0)))
    last = "mode" if truth is not None and peaks and weights[0][2] is not None else "mode (its densest draw)"
    for axes, label in zip(grid[-1], (names[0], f"{names[0]}: density in each population", last), strict=True):
        axes.set_xlabel(label, fontsize=8.5, color=INK)
    grid[0, 2].set_title("mode weights, \u00b1 2 standard errors", loc="left", fontsize=8.5, color=INK)
    _legend(page, max(len(values) for values in views), exact is not None, any(t is not None for _, _, t, _ in weights))
    if path is not None:
        page.savefig(path, dpi=150)
    return page


def _named(results: Mapping[str, Drawable], view: tuple[int, int]) -> tuple[str, str]:
    names = getattr(next(iter(results.values())), "names", None)
    return (names[view[0]], names[view[1]]) if names else (f"x[{view[0]}]", f"x[{view[1]}]")
