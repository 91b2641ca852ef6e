"""A score network distilled from draws: its density, what more draws give, and what too few do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import rdmc
import targets
from docs.figures.base import BLUE, GREY, ORANGE, panels, write
from rdmc.network import DenoisingLoss, TargetScoreLoss, Training
from targets.mixture import gaussian_mixture

__all__ = ["draw", "numbers"]

_SIZES = (100, 300, 1000, 3000)
_WEIGHTED = 4000
_SHORT = Training(steps=2000)


def numbers() -> dict[str, Any]:
    """Densities on a grid, effective sample sizes, and two loss curves."""
    line = gaussian_mixture(torch.tensor([[-2.0], [2.0]], dtype=torch.float64), (0.4, 1.0), (0.3, 0.7))
    x = torch.linspace(-5.0, 6.0, 221, dtype=torch.float64)[:, None]
    known = rdmc.distill(line.sample(4000, torch.Generator().manual_seed(0)), training=_SHORT, progressbar=False)
    four = targets.four_modes()
    ess: dict[str, list[float]] = {"denoising": [], "target score": []}
    curves: dict[str, list[float]] = {}
    for size in _SIZES:
        draws = four.sample(size, torch.Generator().manual_seed(1))
        for name, loss in (("denoising", DenoisingLoss()), ("target score", TargetScoreLoss(four))):
            network = rdmc.distill(draws, loss=loss, training=_SHORT, progressbar=False)
            ess[name].append(round(network.weights(four, _WEIGHTED, seed=1, tails=None).ess / _WEIGHTED, 4))
    few = four.sample(_SIZES[0], torch.Generator().manual_seed(1))
    history = rdmc.distill(few, training=Training(steps=2000, every=50, patience=1000), progressbar=False).history
    for column in ("step", "train", "held_out"):
        curves[column] = [round(float(value), 4) for value in history[column]]
    return {
        "x": [round(value, 3) for value in x[:, 0].tolist()],
        "target": [round(value, 5) for value in line.log_density(x).exp().tolist()],
        "network": [round(value, 5) for value in known.log_density(x).exp().tolist()],
        "sizes": list(_SIZES),
        "ess": ess,
        "curves": curves,
    }


def draw(found: dict[str, Any]) -> list[Path]:
    """Three panels."""
    figure, (left, middle, right) = panels(1, 3, (9.6, 3.0))
    left.plot(found["x"], found["target"], color=GREY, linewidth=3.0, label="target")
    left.plot(found["x"], found["network"], color=BLUE, label="network, from 4000 draws")
    left.set_ylim(0.0, 0.42)
    left.set_xlabel("x")
    left.set_title("density")
    left.legend(loc="upper left")
    for (name, values), colour in zip(found["ess"].items(), (BLUE, ORANGE), strict=True):
        middle.semilogx(found["sizes"], values, "o-", color=colour, markersize=4, label=name)
    middle.set_ylim(0.0, 1.0)
    middle.set_xlabel("draws distilled, four modes in the plane")
    middle.set_title("effective share of weighted draws")
    middle.legend(loc="lower right", title="loss")
    curves = found["curves"]
    right.plot(curves["step"], curves["train"], color=GREY, label="training draws")
    right.plot(curves["step"], curves["held_out"], color=BLUE, label="held-out draws")
    best = curves["held_out"].index(min(curves["held_out"]))
    right.axvline(curves["step"][best], color=ORANGE, linestyle=":", label="kept")
    right.set_xlabel("step")
    right.set_title(f"loss, {found['sizes'][0]} draws")
    right.legend(loc="upper left")
    return [write(figure, "distilled.svg")]
