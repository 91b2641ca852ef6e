"""Where modes are decided, on a wide and a narrow mode: exact draws, chains that begin at x_t, tempering, guidance, a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from docs.figures.base import BLUE, GREY, ORANGE, RED, panels, write
from rdmc.baselines import AnnealedLangevin
from rdmc.density import Density
from rdmc.diagnostics import Capture
from rdmc.grid import LogSNRGrid
from rdmc.guidance import Guidance
from rdmc.inner import Chains, Draws, FromSurrogate, Importance, Warm
from rdmc.kernels import MALA
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.network import distill
from rdmc.posterior import InnerPosterior
from rdmc.process import EDM
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.sampling import sample
from rdmc.schedule import Fixed
from rdmc.score import Tweedie

__all__ = ["draw", "numbers"]

MIXTURE = GaussianMixture.isotropic(
    torch.tensor([[-2.0], [2.0]], dtype=torch.float64),
    torch.tensor([1.0, 0.35], dtype=torch.float64),
    torch.tensor([0.5, 0.5], dtype=torch.float64),
)
SCHEDULE = Fixed(EDM(20.0), LogSNRGrid(16, 0.25))


@dataclass(frozen=True)
class FromHere:
    """A local chain that begins at x_t at every level."""

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """A few steps from x_t."""
        return Chains(MALA(0.3), chains=1, burn_in=4, steps=4).draw(q, rng, Warm((q.x_t / q.alpha)[None]))


RUNS = {
    "exact draws": RDMC(SCHEDULE, Importance(4, FromSurrogate()), estimator=Tweedie(), pilot=Known(MIXTURE)),
    "local chains from x_t": RDMC(SCHEDULE, FromHere(), pilot=Known(MIXTURE)),
    "annealed Langevin": AnnealedLangevin(budget=600, levels=24),
}


def measured(x: torch.Tensor) -> torch.Tensor:
    """Log density of the mixture given a measurement of -1 with error 2."""
    return MIXTURE.log_prob(x) - 0.5 * ((x[:, 0] + 1.0) / 2.0).square()


def weight_of_wide() -> float:
    """The wide mode's weight given the measurement, on a grid."""
    x = torch.linspace(-12.0, 12.0, 24_001, dtype=torch.float64)[:, None]
    share = MIXTURE.log_responsibilities(x)[:, 0].exp()
    p = measured(x).exp()
    return float((share * p).sum() / p.sum())


def story(capture: Capture, truth: float) -> dict[str, Any]:
    """What is drawn of a capture, and the weight that the wide mode should have."""
    wide = min(range(2), key=lambda k: capture.places["location"][k][0])
    rows = [row for row in capture.table if row["log_snr"] < float("inf")]
    return {
        "log_snr": [round(row["log_snr"], 3) for row in rows],
        "wide": [round(row[f"mode {wide}"], 4) for row in rows],
        "told": [round(row["told"], 3) for row in rows],
        "final": round(capture.table[f"mode {wide}"][-1], 4),
        "decided": round(capture.table["log_snr"][capture.decided or 0], 3),
        "settled": capture.settled,
        "window": [round(edge, 3) for edge in capture.window],
        "truth": round(truth, 4),
    }


def numbers() -> dict[str, Any]:
    """The frequency of the wide mode by level, what each level tells, and the window."""
    density = Density(MIXTURE.log_prob, 1, MIXTURE.value_and_grad)
    results = {
        name: sample(density, draws=2000, chains=2, sampler=sampler, progressbar=False)
        for name, sampler in RUNS.items()
    }
    found = {name: story(result.capture(), 0.5) for name, result in results.items()}
    guided = sample(measured, dim=1, draws=2000, chains=2, sampler=Guidance(density, strength=1.0), progressbar=False)
    found["guidance, g = 1"] = story(guided.capture(), weight_of_wide())
    network = distill(results["exact draws"], progressbar=False)
    found["score network"] = story(network.capture(density, 4000, pilot=Known(MIXTURE)), 0.5)
    return found


def draw(found: dict[str, Any]) -> list[Path]:
    """One panel a run, and one for the names of the lines."""
    figure, rows = panels(2, 3, (9.6, 5.2), sharey=True)
    axes = rows.flatten()
    for axis, (name, run) in zip(axes, found.items(), strict=False):
        axis.axvspan(*run["window"], color=ORANGE, alpha=0.15, linewidth=0, label="predicted window")
        axis.axhline(run["truth"], color=GREY, linewidth=0.8, linestyle=":", label="its weight under the target")
        axis.plot(run["log_snr"], run["wide"], "o-", color=BLUE, markersize=3, label="frequency of the wide mode")
        axis.plot(run["log_snr"], run["told"], "-", color=RED, linewidth=1.1, label="told of the final mode")
        axis.axvline(run["decided"], color=RED, linewidth=0.9, linestyle="--", label="decided")
        axis.set_title(name)
        axis.set_ylim(-0.05, 1.05)
        axis.set_xlabel("log snr (run: left to right)")
    axes[-1].axis("off")
    axes[-1].legend(*axes[0].get_legend_handles_labels(), loc="center left")
    return [write(figure, "capture.svg")]
