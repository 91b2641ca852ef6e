"""The tempering ladder of the default sampler, on a target and from a reference of one dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from docs.figures.base import BLUE, ORANGE, panels, write
from rdmc.correct import Reference, Tempering
from rdmc.density import Density
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams

__all__ = ["draw", "numbers"]

F = torch.float64
PARTICLES, BINS = 2048, np.linspace(-12.0, 12.0, 81)
TARGET = GaussianMixture.isotropic(
    torch.tensor([[-3.0], [3.0]], dtype=F), torch.tensor([0.3, 0.3], dtype=F), torch.tensor([0.7, 0.3], dtype=F)
)
REFERENCE = GaussianMixture.isotropic(
    torch.tensor([[0.5]], dtype=F), torch.tensor([4.0], dtype=F), torch.ones(1, dtype=F)
)


def numbers() -> dict[str, Any]:
    """What a trial learnt: its temperatures, the effective share at each, the evidence, and the weight of the left mode."""
    density = Density(TARGET.log_prob, 1, TARGET.value_and_grad)
    streams = Streams.seeded(0, [PARTICLES], [(0,)])
    trial = Tempering().learn(density, Reference(REFERENCE, REFERENCE, "one Gaussian"), streams)
    x = trial.population.x[:, 0]
    return {
        "betas": [0.0, *(rung.beta for rung in trial.ladder.rungs)],
        "log evidence": trial.log_evidence,
        "weight of the left mode": float((x < 0).double().mean()),
        "histogram": np.histogram(x.numpy(), BINS, density=True)[0].round(5).tolist(),
    }


def draw(found: dict[str, Any]) -> list[Path]:
    """One panel a temperature."""
    betas = found["betas"]
    figure, axes = panels(1, len(betas), (9.0, 2.0), sharey=True)
    x = torch.linspace(-9.0, 9.0, 241, dtype=F)
    reference, target = REFERENCE.log_prob(x[:, None]), TARGET.log_prob(x[:, None])
    for axis, beta in zip(axes, betas, strict=True):
        law = ((1 - beta) * reference + beta * target).exp()
        law = law / (law.sum() * (x[1] - x[0]))
        axis.plot(x, law, color=BLUE)
        axis.fill_between(x, law, color=BLUE, alpha=0.2, linewidth=0)
        axis.set_title(f"beta = {beta:.3g}")
        axis.set_xlim(-9, 9)
        axis.set_yticks([])
    axes[-1].stairs(found["histogram"], BINS, color=ORANGE, linewidth=1.0, label="particles")
    axes[-1].legend(loc="upper right", handlelength=1.0)
    return [write(figure, "ladder.svg")]
