"""The error budget of three runs on one pair of modes: the published algorithm, with few inner draws, and with few levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docs.figures.base import BLUE, ORANGE, RED, panels, write
from rdmc.density import Density
from rdmc.diagnostics import ErrorBudget
from rdmc.mixture import GaussianMixture
from rdmc.reverse import RDMC
from rdmc.sampling import sample

__all__ = ["draw", "numbers", "pair"]

DRAWS = 500
RUNS = {
    "30 levels, 128 inner draws": {"levels": 30, "importance": 64, "chains": 8, "steps": 32, "start_steps": 8},
    "30 levels, 4 inner draws": {"levels": 30, "importance": 64, "chains": 2, "steps": 4, "start_steps": 8},
    "6 levels, 128 inner draws": {"levels": 6, "importance": 64, "chains": 8, "steps": 32, "start_steps": 8},
}
TERMS = (("start", BLUE), ("discretisation", ORANGE), ("score", RED))


def pair() -> Density:
    """Two round modes of weights .7 and .3 in two dimensions, three of their widths from the middle."""
    import torch

    mean = torch.tensor([[-1.5, 0.5], [1.5, -0.5]], dtype=torch.float64)
    mixture = GaussianMixture.isotropic(mean, torch.full((2,), 0.5).double(), torch.tensor([0.7, 0.3]).double())
    return Density(mixture.log_prob, 2, mixture.value_and_grad)


def numbers() -> dict[str, Any]:
    """The tables, and what is left."""
    found: dict[str, Any] = {}
    for name, sizes in RUNS.items():
        result = sample(pair(), draws=DRAWS, chains=2, sampler=RDMC.published(**sizes), progressbar=False)
        budget: ErrorBudget = result.error_budget()
        columns = ("log_snr", "start", "discretisation", "score")
        table = {column: [float(f"{value:.4g}") for value in budget.table[column]] for column in columns}
        found[name] = {
            "table": table,
            "sums": [float(f"{value:.3g}") for value in (budget.start, budget.discretisation, budget.score)],
            "left": [float(f"{value:.3g}") for value in budget.left],
            "gradients": result.evaluations_per_draw,
        }
    return found


def draw(found: dict[str, Any]) -> list[Path]:
    """One panel a run, and one of what is left."""
    figure, axes = panels(1, 4, (10.0, 2.9))
    for axis, (name, run) in zip(axes, found.items(), strict=False):
        for term, colour in TERMS:
            values = run["table"][term]
            shown = [value if value > 1e-7 else float("nan") for value in values]
            axis.semilogy(run["table"]["log_snr"], shown, "o-", color=colour, markersize=3, label=term)
        axis.set_ylim(1e-7, 1.0)
        axis.minorticks_off()
        axis.set_title(name)
        axis.set_xlabel("log snr")
    axes[0].set_ylabel("nats made at each level")
    axes[0].legend(loc="lower center", fontsize=7)
    last = axes[-1]
    for k, (_, colour) in enumerate(TERMS):
        heights = [run["left"][k] for run in found.values()]
        last.bar([place + 0.27 * (k - 1) for place in range(len(found))], heights, width=0.25, color=colour)
    last.set_yscale("log")
    last.set_ylim(1e-5, 1.0)
    last.minorticks_off()
    last.set_xticks(range(len(found)), ["128 draws", "4 draws", "6 levels"])
    last.set_title("left in the draws, nats")
    return [write(figure, "budget.svg")]
