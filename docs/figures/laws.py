"""Measured laws, as the tables of ``benchmarks/README.md`` have them: score error, order of the steps, control variate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docs.figures.base import BLUE, GREY, ORANGE, RED, panels, write
from docs.hooks.tables import table

__all__ = ["draw", "numbers"]

_COLOURS = (RED, ORANGE, GREY, BLUE, "#3c7a4b", "#6b4c9a")


def _rows(heading: str, number: int) -> list[list[str]]:
    lines = table(heading, number).splitlines()
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]


def numbers() -> dict[str, Any]:
    """The tables as numbers."""
    score = _rows("Closed form", 1)[1:]
    head, *steps = _rows("Closed form", 2)
    gain_head, *gains = _rows("The Stein control variate", 1)
    return {
        "score": {"draws": [int(row[0]) for row in score], "error": [float(row[1]) for row in score]},
        "levels": [int(re.findall(r"\d+", cell)[0]) for cell in head[2:-1]],
        "steps": {row[0]: [float(cell) for cell in row[2:-1]] for row in steps},
        "widths": [float(re.findall(r"[\d.]+", cell)[0]) for cell in gain_head[1:]],
        "gain": {row[0]: [float(re.findall(r"([\d.]+)x", cell)[0]) for cell in row[1:]] for row in gains},
    }


def draw(found: dict[str, Any]) -> list[Path]:
    """Three panels."""
    figure, (left, middle, right) = panels(1, 3, (9.6, 3.0))
    left.loglog(found["score"]["draws"], found["score"]["error"], "o-", color=BLUE, markersize=4)
    n0, e0 = found["score"]["draws"][0], found["score"]["error"][0]
    left.loglog(
        found["score"]["draws"],
        [e0 * (n0 / n) ** 0.5 for n in found["score"]["draws"]],
        ":",
        color=GREY,
        label="1/sqrt(n)",
    )
    left.set_xlabel("exact posterior draws n")
    left.set_title("error of the score")
    left.legend(loc="upper right")
    for (name, errors), colour in zip(found["steps"].items(), _COLOURS, strict=True):
        if name != "Bridge":
            middle.loglog(found["levels"], errors, "o-", color=colour, markersize=3, label=name)
    middle.set_xlabel("levels K")
    middle.set_title("error of a step, exact score")
    middle.legend(loc="lower left", fontsize=7)
    for (name, gain), colour in zip(found["gain"].items(), (BLUE, ORANGE, RED), strict=True):
        right.semilogx(found["widths"], gain, "o-", color=colour, markersize=4, label=name)
    right.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    right.set_xlabel("noise, in widths of the narrowest mode")
    right.set_title("control variate: error cut by a factor of")
    right.legend(loc="upper right", fontsize=7)
    return [write(figure, "laws.svg")]
