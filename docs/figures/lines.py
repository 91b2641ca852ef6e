"""The worked case of two modes: the data, and the lines that a grid finds, with their probabilities."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from docs.figures.base import BLUE, GREY, HERE, ORANGE, RED, panels, write

__all__ = ["draw", "numbers"]

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
CHUNK = 100_000


def model() -> dict[str, Any]:
    """What the first block of the page defines."""
    space: dict[str, Any] = {}
    exec(_BLOCK.findall((HERE.parent / "two-modes.md").read_text())[0], space)
    return space


def numbers() -> dict[str, Any]:
    """Log evidence, local maxima of the density on a grid, and the probability of the region about each."""
    log_density = model()["log_density"]
    a = torch.linspace(-6.0, 13.0, 476, dtype=torch.float64)
    b = torch.linspace(-10.0, 13.0, 576, dtype=torch.float64)
    grid = torch.cartesian_prod(a, b)
    value = torch.cat([log_density(part) for part in grid.split(CHUNK)]).reshape(len(a), len(b))
    highest = torch.nn.functional.max_pool2d(value[None], 41, stride=1, padding=20)[0]
    peaks = ((value == highest) & (value > value.max() - 12.0)).flatten()
    where = grid[peaks]
    nearest = torch.cat([torch.cdist(part, where).argmin(1) for part in grid.split(CHUNK)])
    share = torch.softmax(value.flatten(), 0)
    weight = torch.zeros(len(where), dtype=torch.float64).index_add(0, nearest, share)
    order = weight.argsort(descending=True)
    cell = (a[1] - a[0]) * (b[1] - b[0])
    return {
        "log evidence": float(value.flatten().logsumexp(0) + cell.log()),
        "lines": where[order].tolist(),
        "weights": weight[order].tolist(),
    }


def draw(found: dict[str, Any]) -> list[Path]:
    """One panel."""
    space = model()
    figure, axis = panels(1, 1, (5.5, 3.0))
    ends = torch.tensor([-0.1, 1.2], dtype=torch.float64)
    for (intercept, slope), weight, colour in zip(found["lines"], found["weights"], (BLUE, ORANGE, RED), strict=True):
        axis.plot(ends, intercept + slope * ends, color=colour, label=f"probability {weight:.3f}")
    axis.plot(space["x"], space["y"], "o", color=GREY, markersize=5)
    axis.set_xlabel("x")
    axis.set_ylabel("y")
    axis.legend(loc="center right")
    return [write(figure, "lines.svg")]
