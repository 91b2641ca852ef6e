"""The first picture: four modes, long HMC chains beside the default sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import rdmc
import targets
from docs.figures.base import BLUE, GREY, ORANGE, RED, panels, write

__all__ = ["draw", "numbers"]

DRAWS, SHOWN = 400, 120


def numbers() -> dict[str, Any]:
    """Mode weights by population, and some draws of each."""
    target = targets.four_modes()
    found: dict[str, Any] = {"truth": target.mode_weights.tolist()}
    for name in ("hmc", "auto"):
        result = rdmc.sample(target, draws=DRAWS, chains=4, seed=1, sampler=name, progressbar=False)
        label = target.mode_of(result.samples.reshape(-1, 2)).reshape(4, DRAWS)
        found[name] = {
            "weights": torch.stack([(label == k).double().mean(1) for k in range(4)], 1).tolist(),
            "rhat": result.convergence.worst_rhat,
            "evaluations": result.evaluations_per_draw,
            "draws": result.samples[:, :: DRAWS // SHOWN][:, :SHOWN].mul(100).round().div(100).tolist(),
        }
    return found


def draw(found: dict[str, Any]) -> list[Path]:
    """Two panels, a colour a population."""
    figure, axes = panels(1, 2, (8.0, 3.4), sharex=True, sharey=True)
    for axis, name, title in zip(
        axes, ("hmc", "auto"), ("four HMC chains", "the default, four populations"), strict=True
    ):
        for points, colour in zip(found[name]["draws"], (BLUE, ORANGE, RED, GREY), strict=True):
            axis.scatter([p[0] for p in points], [p[1] for p in points], s=5, color=colour, linewidths=0)
        axis.set_title(f"{title}: R-hat {found[name]['rhat']:.2f}")
        axis.set_aspect("equal")
    return [write(figure, "modes.png")]
