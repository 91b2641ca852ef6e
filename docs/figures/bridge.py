"""The bridge step: its geometry for one particle, and the error of three steps by the number of levels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from docs.figures.base import BLUE, GREY, ORANGE, RED, panels, write
from docs.figures.noised import GRID, PROCESS, posterior
from docs.hooks.tables import table

__all__ = ["draw", "numbers"]

T, S, X_T, X_0 = 1.6, 0.7, 0.5, -2.7
_CELL = re.compile(r"([\d.]+) ± ([\d.]+)")


def numbers() -> dict[str, Any]:
    """The bridge law of one pair of times, and the table of ``benchmarks/README.md``."""
    found: dict[str, Any] = {"bridge": list(PROCESS.bridge(T, S)), "levels": [5, 10, 100]}
    for line in table("Closed form", 3).splitlines():
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        values = [_CELL.search(cell) for cell in cells[1:]]
        if cells[0] in ("Bridge", "Exponential", "Ancestral"):
            found[cells[0]] = [float(value.group(1)) for value in values if value]
        elif cells[0] == "exact draws of the target" and values[0]:
            found["exact"] = float(values[0].group(1))
    return found


def draw(found: dict[str, Any]) -> list[Path]:
    """One picture of two panels."""
    figure, (left, right) = panels(1, 2, (9.0, 2.7))
    _draw_geometry(left, found)
    _draw_error(right, found)
    return [write(figure, "bridge.svg")]


def _draw_geometry(axis: Any, found: dict[str, Any]) -> None:
    on_x_0, on_x_t, sd = found["bridge"]
    mean = on_x_0 * X_0 + on_x_t * X_T
    q = posterior(GRID, X_T, PROCESS.alpha(T), PROCESS.sigma(T))
    axis.fill_betweenx(GRID, 0.0, 0.45 * q / q.max(), color=ORANGE, alpha=0.3, linewidth=0)
    law = np.exp(-0.5 * ((GRID - mean) / sd) ** 2)
    axis.fill_betweenx(GRID, S, S + 0.35 * law, color=BLUE, alpha=0.3, linewidth=0)
    axis.plot([0.0, S, T], [X_0, mean, X_T], color=GREY, linewidth=0.9, linestyle="--")
    for t, x, colour, text in (
        (T, X_T, RED, "x_t"),
        (0.0, X_0, ORANGE, "x_0, drawn from q_t"),
        (S, mean, BLUE, "x_s, drawn from the bridge"),
    ):
        axis.plot([t], [x], "o", color=colour, markersize=5)
        axis.annotate(text, (t, x), xytext=(6, 7), textcoords="offset points", fontsize=8, color=colour)
    axis.set_ylim(-5, 4)
    axis.set_xlim(-0.05, 2.0)
    axis.set_xlabel("forward time (0 = data)")
    axis.set_ylabel("x")
    axis.set_title("one step from t = 1.6 to s = 0.7")


def _draw_error(axis: Any, found: dict[str, Any]) -> None:
    for name, colour in (("Exponential", RED), ("Ancestral", ORANGE), ("Bridge", BLUE)):
        axis.plot(found["levels"], found[name], "o-", color=colour, markersize=4, label=name)
    axis.axhline(found["exact"], color=GREY, linewidth=0.9, linestyle=":", label="exact draws")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("levels K")
    axis.set_ylabel("TV of the mode weights")
    axis.set_title("four modes, exact posterior draws")
    axis.legend(loc="upper right", ncols=2)
