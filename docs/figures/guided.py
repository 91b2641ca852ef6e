"""Which modes guidance prefers, by its strength: draws, the exact guided process, and the product of powers."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rdmc
from docs.figures.base import BLUE, GREY, ORANGE, panels, write
from rdmc.guidance import Guidance

__all__ = ["draw", "numbers"]

F = torch.float64
STRENGTHS = [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
CENTRES = torch.tensor([[-4.0, 1.0], [-1.0, -2.0], [2.0, 2.0], [4.0, -1.0]], dtype=F)
WIDTHS = torch.tensor([0.7, 0.5, 0.8, 0.6], dtype=F)
MEASURED, ERROR = 2.0, 4.0  # the first coordinate, measured with a large error
LEVELS, PARTICLES, HIGH, LOW = 400, 20_000, 40.0, 0.01


def densities() -> tuple[rdmc.GaussianMixture, rdmc.GaussianMixture]:
    """Four modes of equal weight, and what the measurement makes of them."""
    prior = rdmc.GaussianMixture.isotropic(CENTRES, WIDTHS, torch.ones(4, dtype=F))
    before, noise = WIDTHS.square(), ERROR**2
    mean = CENTRES.clone()
    mean[:, 0] += before / (before + noise) * (MEASURED - CENTRES[:, 0])
    covariance = torch.diag_embed(torch.stack([before * noise / (before + noise), before], -1))
    weight = torch.exp(-0.5 * (MEASURED - CENTRES[:, 0]).square() / (before + noise)) / (before + noise).sqrt()
    return prior, rdmc.GaussianMixture.from_covariance(mean, covariance, weight)


def shares(x: Tensor, weight: Tensor | None = None) -> list[float]:
    """Share of each mode, the nearest one's."""
    mode = torch.cdist(x, CENTRES).argmin(1)
    weight = torch.full((len(x),), 1.0 / len(x), dtype=F) if weight is None else weight
    return [float(weight[mode == k].sum()) for k in range(len(CENTRES))]


def exactly(g: float, prior: rdmc.GaussianMixture, posterior: rdmc.GaussianMixture) -> list[float]:
    """The reverse equation on a fine grid with exact scores."""
    rng = rdmc.Streams.seeded(5, [PARTICLES])
    x = HIGH * rng.normal((PARTICLES, 2))
    times = [HIGH * (LOW / HIGH) ** (k / LEVELS) for k in range(LEVELS + 1)]
    for t, s in pairwise(times):
        score, other = (
            rdmc.GaussianMixture(m.log_weight, m.mean, m.basis, m.variance + t**2).value_and_grad(x)[1]
            for m in (posterior, prior)
        )
        step = t**2 - s**2
        x = x + step * (score + g * (score - other)) + math.sqrt(step) * rng.normal(x.shape)
    return shares(x)


def product(g: float, prior: rdmc.GaussianMixture, posterior: rdmc.GaussianMixture) -> list[float]:
    """Shares of the product of powers, by a grid."""
    axis = torch.linspace(-9.0, 9.0, 721, dtype=F)
    grid = torch.cartesian_prod(axis, axis)
    value = (1.0 + g) * posterior.log_prob(grid) - g * prior.log_prob(grid)
    return shares(grid, torch.softmax(value, 0))


def numbers() -> dict[str, Any]:
    """Shares of the modes for each strength."""
    prior, posterior = densities()
    found: dict[str, Any] = {"strengths": STRENGTHS, "draws": [], "exact": [], "product": []}
    for g in STRENGTHS:
        result = rdmc.sample(
            rdmc.Density(posterior.log_prob, 2, posterior.value_and_grad),
            draws=2000,
            sampler=Guidance(rdmc.Density(prior.log_prob, 2, prior.value_and_grad), g),
            progressbar=False,
        )
        found["draws"].append(shares(result.samples.flatten(0, 1)))
        found["exact"].append(exactly(g, prior, posterior))
        found["product"].append(product(g, prior, posterior))
    return found


def draw(found: dict[str, Any]) -> list[Path]:
    """One panel a mode."""
    figure, axes = panels(1, 4, (9.6, 2.8), sharey=True)
    for mode, axis in enumerate(axes):
        own = {name: [row[mode] for row in found[name]] for name in ("draws", "exact", "product")}
        axis.plot(found["strengths"], own["exact"], color=BLUE, label="guided process, exact scores")
        axis.plot(found["strengths"], own["draws"], "o", color=BLUE, markersize=4, label="draws of Guidance")
        axis.plot(found["strengths"], own["product"], "--", color=ORANGE, label="product of powers")
        axis.axvline(0.0, color=GREY, linewidth=0.7, linestyle=":")
        axis.set_title(f"mode at ({CENTRES[mode, 0]:g}, {CENTRES[mode, 1]:g})")
        axis.set_xlabel("strength g")
    axes[0].set_ylabel("share of the mode")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return [write(figure, "guided.svg")]
