"""How a picture is kept: a small SVG file whose bytes depend on its numbers alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

__all__ = ["BLUE", "GREY", "HERE", "ORANGE", "RED", "STYLE", "panels", "write"]

HERE = Path(__file__).resolve().parent
BLUE, ORANGE, RED, GREY = "#1f5f8b", "#d9822b", "#b03a2e", "#8a8f98"
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "font.size": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "path.simplify_threshold": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "rdmc",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def panels(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """A figure with axes, without touching pyplot's state."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def write(figure: Figure, name: str) -> Path:
    """Write ``name`` (an SVG or PNG file) beside the scripts, without a date."""
    path = HERE / name
    figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
    if path.suffix == ".svg":  # hundredths of a point are finer than any screen
        lean = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}", path.read_text())
        path.write_text(re.sub(r"[ \t]*\n[ \t]*", "\n", lean))
    return path
