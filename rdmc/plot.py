"""Several samplers on one page: where the draws are, whether the populations agree, and what the modes weigh.

Matplotlib is imported inside the functions, through its object interface only: no pyplot state, no global settings.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rdmc.panels import INK, PALE, POPULATIONS, TRUTH, Array, View, bars, limits_of, marginals, projected, scatter, tidy
from rdmc.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawable", "View", "figure"]

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


def _weights(result: Drawable, truth: Any, view: View) -> tuple[Array, Array, Array | None, list[str]]:
    """Weights, errors, true weights or None, and labels: by the truth's modes if known, else by the result's own."""
    if truth is not None and getattr(truth, "mode_weights", None) is not None:
        chains, draws, dim = result.samples.shape
        true: Array = truth.mode_weights.detach().cpu().double().numpy()
        place = getattr(truth, "device", "cpu")
        label = truth.mode_of(result.samples.reshape(-1, dim).to(place)).cpu().reshape(chains, draws)
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
        places = projected(torch.tensor(shown["location"], dtype=torch.float64)[None], view)[0]
        places = np.where(np.abs(places) < 0.01 * np.abs(places).max(), 0.0, places)
        labels = ["\n".join(f"{value:.2g}" for value in place) for place in places]
    return np.array(shown["weight"]), np.array(shown["weight_mcse"]), None, labels


def _exact(truth: Any, like: Tensor, view: View, draws: int = 4000) -> Array | None:
    """``(draws, 2)`` exact draws seen through the view, if the truth has a sampler."""
    if truth is None or not getattr(truth, "can_sample", hasattr(truth, "sample")):
        return None
    points = truth.sample(draws, torch.Generator().manual_seed(0))
    seen: Array = projected(points.to(like)[None], view)[0]
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

    views = [projected(result.samples, view) for result in results.values()]
    exact = _exact(truth, next(iter(results.values())).samples, view)
    reference = [exact[None]] if exact is not None else views
    limits = [limits_of(reference, axis) for axis in range(views[0].shape[-1])]
    weights = [_weights(result, truth, view) for result in results.values()]
    names = axis_names or (
        ("x", "") if views[0].shape[-1] == 1 else ("view 0", "view 1") if callable(view) else _named(results, view)
    )

    page = Figure(figsize=(9.6, 0.9 + 2.25 * len(results)), facecolor="white")
    page.set_layout_engine("constrained", w_pad=0.09, h_pad=0.07)
    grid = page.subplots(len(results), 3, squeeze=False, width_ratios=(1.15, 1.25, 1.0))
    tops = []
    for row, (name, result), values, found in zip(grid, results.items(), views, weights, strict=True):
        for axes in row:
            tidy(axes)
        scatter(row[0], values, exact, limits)
        tops.append(marginals(row[1], values, exact, limits[0]))
        bars(row[2], *found)
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
