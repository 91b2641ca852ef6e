"""The modes and what they weigh, over all draws and in each population."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rdmc.panels import INK, LINE, POPULATIONS, Array
from rdmc.reporting.coordinates import Choice, coordinate_name
from rdmc.reporting.draws import population_key
from rdmc.reporting.parts import Plate, Section, sheet, with_error
from rdmc.reporting.subject import Subject
from rdmc.reporting.svg import panel
from rdmc.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["modes_section", "weights_section"]

SHOWN_MODES = 24
COMPARED_MODES = 8
PLACES = 3  # coordinates of a mode in its row
IN_PANEL = 6


def _mode_rows(name: str, result: Result, choice: Choice, most: int) -> list[dict[str, Any]]:
    shown = choice.indices[:PLACES]
    rows = []
    for k, row in enumerate(result.modes[:most]):
        found = row.get("chains_found")
        rows.append(
            {
                "sampler": name or None,
                "mode": str(k),
                "weight": with_error(row["weight"], row.get("weight_mcse")),
                "found by": None if found is None else f"{found} of {result.chains}",
                "log density": row.get("log_density"),
                **{f"place {i}": row["location"][i] for i in shown if "location" in row},
            }
        )
    return rows


def modes_section(subject: Subject, choice: Choice) -> Section:
    """The mode table with weights and their errors."""
    most = COMPARED_MODES if len(subject.results) > 1 else SHOWN_MODES
    rows, lead = [], []
    for name, result in subject.results.items():
        if "weight" not in result.modes.columns or not len(result.modes):
            lead.append(f"{name}: no mode table, so nothing is known about mode weights.")
            continue
        rows += _mode_rows(subject.title(name), result, choice, most)
        if len(result.modes) > most:
            lead.append(f"{name}: the {most} heaviest of {len(result.modes)} modes.")
    caption = "Modes, heaviest first: weight ± one standard error, and the place of the densest draw"
    dims = {result.dim for result in subject.results.values()}
    if rows and dims and max(dims) > PLACES:
        caption += f" in {PLACES} of its {max(dims)} coordinates"
    heads = {f"place {i}": coordinate_name(result, i) for result in subject.results.values() for i in choice.indices}
    sheets = (sheet(f"{caption}.", rows, heads),) if rows else ()
    return Section("modes", "Modes", tuple(lead), sheets)


def _dots(axes: Axes, weights: Array, pooled: Array, draws: int, first: int) -> None:
    """``weights``: (K, chains)."""
    modes, chains = weights.shape
    spread = 0.62 if chains > 1 else 0.0
    offsets = np.linspace(-spread / 2, spread / 2, chains)
    for k in range(modes):
        axes.hlines(pooled[k], k - 0.42, k + 0.42, color=INK, linewidth=1.0, zorder=1)
    for j in range(chains):
        colour = POPULATIONS[j % len(POPULATIONS)]
        value = weights[:, j]
        error = 2 * np.sqrt(np.clip(value * (1 - value), 0, None) / draws)
        bounds = np.stack([np.minimum(error, value), np.minimum(error, np.clip(1 - value, 0, None))])
        axes.errorbar(
            np.arange(modes) + offsets[j], value, bounds, fmt="o", color=colour, markersize=3.4, elinewidth=1.1
        )
    axes.set_xticks(range(modes), [str(first + k) for k in range(modes)])
    axes.set_xlim(-0.6, max(modes, 2) - 0.4)
    axes.set_ylim(-0.03 * axes.get_ylim()[1], None)
    axes.locator_params(axis="y", nbins=5)
    axes.set_xlabel("mode")
    axes.set_ylabel("weight")
    axes.grid(axis="y", color=LINE, alpha=0.25, linewidth=0.5)


def weights_section(subject: Subject) -> Section:
    """Weight of each mode in each population."""
    most = COMPARED_MODES if len(subject.results) > 1 else SHOWN_MODES
    step = most if len(subject.results) > 1 else IN_PANEL
    panels = []
    for name, result in subject.results.items():
        if not {"weight", "weight_by_chain"} <= set(result.modes.columns) or not len(result.modes):
            continue
        by_chain = np.array(result.modes["weight_by_chain"][:most], dtype=np.float64)
        pooled = np.array(result.modes["weight"][:most], dtype=np.float64)
        for i in range(0, len(pooled), step):
            part = slice(i, i + step)
            draw = partial(_dots, weights=by_chain[part], pooled=pooled[part], draws=result.draws, first=i)
            of = f" of {name}" if subject.title(name) else ""
            alt = f"Weights of modes {i} to {i + len(pooled[part]) - 1} in {result.chains} populations{of}"
            panels.append(panel(draw, alt, subject.title(name)))
    if not panels:
        return Section("weights", "Weights by population", ("No mode table holds weights by population.",))
    caption = (
        "Weight of each mode in each population, ± two standard errors of that many independent draws; the bar is the "
        "weight over all. Bars that lie far apart say that the weights are not settled."
    )
    if len(subject.results) > 1:
        caption += " Mode 0 of one sampler need not be mode 0 of another: see the mode table."
    return Section("weights", "Weights by population", plates=(Plate(caption, tuple(panels), population_key(subject)),))
