"""Pictures of a run by noise level: where its error is made, and where its modes are decided.

Matplotlib is imported inside the functions, through its object interface only: no pyplot state, no global settings.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from rdmc.diagnostics.capture import Capture
from rdmc.diagnostics.error_budget import TERMS, ErrorBudget
from rdmc.panels import INK, LINE, PALE, POPULATIONS, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["budget_figure", "capture_figure"]

SHOWN_MODES = 8
_LEAST = 1e-6  # nats below which nothing is drawn


def _page(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    page = Figure(figsize=(width, height), facecolor="white")
    page.set_layout_engine("constrained", w_pad=0.09, h_pad=0.07)
    return page


def _dressed(axes: Axes, title: str, across: str) -> None:
    tidy(axes)
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    axes.set_xlabel(across, fontsize=8.5, color=INK)


def budget_figure(budget: ErrorBudget, path: str | os.PathLike[str] | None = None) -> Figure:
    """The terms of the error by noise level, and in all: the bound by paths and what is left in the draws.

    Args:
        budget: What :meth:`rdmc.Result.error_budget` gives.
        path: File to write (suffix: png, pdf, svg, ...), or None.

    Returns:
        The matplotlib figure.
    """
    page = _page(9.2, 3.1)
    left, right = page.subplots(1, 2, width_ratios=(1.7, 1.0))
    log_snr = np.array(budget.table["log_snr"])
    for k, term in enumerate((*TERMS, "score_bound")):
        values = np.array(budget.table[term])
        shown = np.where(values > _LEAST, values, np.nan)
        style = "o--" if term == "score_bound" else "o-"
        label = "score, the theorem's own" if term == "score_bound" else term
        if np.isfinite(shown).any():
            colour = POPULATIONS[min(k, 2)]
            left.plot(
                log_snr,
                shown,
                style,
                color=colour,
                markersize=3.2,
                linewidth=1.1,
                label=label,
                alpha=1.0 if k < 3 else 0.55,
            )
    left.set_yscale("log")
    left.set_ylim(bottom=_LEAST)
    _dressed(left, "error made at each level, nats", "log snr (run: left to right)")
    if left.get_legend_handles_labels()[1]:
        left.legend(fontsize=7.5, frameon=False, labelcolor=INK)
    place = np.arange(len(TERMS))
    sums = [float(getattr(budget, term)) for term in TERMS]
    for shift, totals, word, alpha in (
        (-0.19, sums, "sum over levels (bound)", 0.4),
        (0.19, list(budget.left), "left in the draws (estimate)", 1.0),
    ):
        height = np.where(np.nan_to_num(totals) > _LEAST, totals, 0.0)
        right.bar(place + shift, height, width=0.36, color=list(POPULATIONS[:3]), alpha=alpha)
        for x, value in zip(place + shift, totals, strict=True):
            text = "?" if np.isnan(value) else "0" if value <= _LEAST else f"{value:.2g}"
            right.annotate(
                text,
                (x, max(np.nan_to_num(value), _LEAST)),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
        right.bar([0], [0], color=LINE, alpha=alpha, label=word)
    right.set_yscale("log")
    top = max((value for value in (*budget.left, *sums) if np.isfinite(value)), default=1.0)
    right.set_ylim(_LEAST, 1e3 * max(top, 1e-4))  # room for the legend
    right.set_xticks(place, TERMS)
    _dressed(right, "in all, nats", "")
    right.legend(fontsize=7.5, frameon=False, labelcolor=INK, loc="upper left")
    if path is not None:
        page.savefig(path, dpi=150)
    return page


def capture_figure(capture: Capture, path: str | os.PathLike[str] | None = None) -> Figure:
    """The frequency of each mode along the run, and how much of a particle's final mode is told, over the predicted window.

    Args:
        capture: What :meth:`rdmc.Result.capture` gives.
        path: File to write (suffix: png, pdf, svg, ...), or None.

    Returns:
        The matplotlib figure.
    """
    page = _page(9.2, 3.1)
    left, right = page.subplots(1, 2, sharex=True)
    log_snr = np.array(capture.table["log_snr"])
    shown = np.isfinite(log_snr)
    low, high = capture.window
    for axes in (left, right):
        if np.isfinite(low):
            axes.axvspan(low, high, color=PALE, alpha=0.55, linewidth=0, label="predicted window")
    shares = np.array([capture.table[name] for name in capture.modes])
    order = np.argsort(-shares[:, -1], kind="stable")[:SHOWN_MODES]
    for colour, k in zip(POPULATIONS, order, strict=False):
        where = ", ".join(f"{value:.2g}" for value in capture.places[int(k)]["location"][:2])
        dots = ", ..." if len(capture.places[int(k)]["location"]) > 2 else ""
        left.plot(
            log_snr[shown],
            shares[k, shown],
            "o-",
            color=colour,
            markersize=3.2,
            linewidth=1.1,
            label=f"({where}{dots})",
        )
    more = f", {SHOWN_MODES} of {len(shares)} modes" if len(shares) > SHOWN_MODES else ""
    left.set_ylim(0, 1.05 * max(float(np.nanmax(shares)), 0.1))
    _dressed(left, f"frequency of each mode{more}", "log snr (run: left to right)")
    page.legend(
        handles=left.get_legend_handles_labels()[0],
        loc="outside lower center",
        ncols=min(len(order) + 1, 5),
        fontsize=7.5,
        frameon=False,
        labelcolor=INK,
    )
    right.plot(log_snr[shown], np.array(capture.table["told"])[shown], "o-", color=INK, markersize=3.2, linewidth=1.1)
    right.set_ylim(-0.05, 1.05)
    decided = capture.decided
    if decided is not None and decided < len(log_snr) and np.isfinite(log_snr[decided]):
        right.axvline(log_snr[decided], color=POPULATIONS[5], linewidth=1.1, linestyle=":", label="decided")
    _dressed(right, "what a level tells of a particle's final mode", "log snr (run: left to right)")
    right.legend(fontsize=7.5, frameon=False, labelcolor=INK, loc="lower right")
    if path is not None:
        page.savefig(path, dpi=150)
    return page
