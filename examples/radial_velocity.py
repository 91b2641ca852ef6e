r"""The period of a planet from seven nights: which of the aliases is it?

    python -m examples.radial_velocity

51 Pegasi b, the first planet found about a star like the Sun, goes round in 4.2308 days. The data are 91 HARPS velocities by
Martins et al. (2015), here one mean for each of the seven nights; the model is a circle, v = a cos(2 pi t / P) + b sin(2 pi t /
P) + c, with a broad prior on the period (median 4 days, a factor of 2 either way). A period that fits whole turns more or less
between the nights fits the data nearly as well: the posterior of P is a comb of peaks a few thousandths of a day wide, seven of
which hold at least a percent. A chain stays in the peak where it began.

Truth: given P the model is linear and Gaussian, so the law of P is a one-dimensional integral. The heaviest peak is half of the
true period, 2.114 days, with .558; the true one has .274: seven nights don't tell, and a sampler should say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

import rdmc
import targets
from examples.gallery import INK, POPULATIONS, bars, canvas, mode_shares, nuts, ours, parse, save, tell
from targets.velocities import RadialVelocities


def main(argv: Sequence[str] | None = None) -> dict[str, rdmc.Result]:
    """Sample, print, draw."""
    settings = parse(__doc__, argv)
    target = targets.radial_velocities()
    results = {"rdmc": ours(target, settings), "NUTS": nuts(target, settings)}
    rows = [*(f"{period:.3f}" for period in target.periods.tolist()), "other"]
    shares = mode_shares(target, results, [f"period {row}" for row in rows])
    truth = dict(zip(shares, target.mode_weights.tolist(), strict=True)) | {"log evidence": float(target.log_z or 0.0)}
    tell("Seven nights of 51 Pegasi, d = 4", results, shares, truth)

    page, (axes,) = canvas(2, width_ratios=(1.5, 1.0))
    _orbits(axes[0], target, results["rdmc"])
    bars(
        axes[1],
        dict(zip(rows, shares.values(), strict=True)),
        dict(zip(rows, target.mode_weights.tolist(), strict=True)),
        "weight of each period",
    )
    axes[1].tick_params(axis="x", labelsize=7)
    axes[1].set_xlabel("period, days (the planet's is 4.231)")
    save(page, settings, "radial_velocity")
    return results


def _orbits(axes: Any, target: RadialVelocities, result: rdmc.Result) -> None:
    draws = result.samples.flatten(0, 1)
    label = target.mode_of(draws)
    start = float(target.times[2])
    day = torch.linspace(start - 3.0, start + 42.0, 1500, dtype=torch.float64)
    for colour, mode in zip(POPULATIONS[1:], target.mode_weights.argsort(descending=True)[:3].tolist(), strict=False):
        for k, (log_period, a, b, c) in enumerate(draws[label == mode][:1].tolist()):
            phase = 2.0 * math.pi * day / math.exp(log_period)
            name = f"{target.periods[mode]:.2f} days" if k == 0 else None
            axes.plot(day - start, a * phase.cos() + b * phase.sin() + c, color=colour, alpha=0.8, lw=1.0, label=name)
    axes.errorbar(target.times - start, target.velocities, 2 * target.noise, fmt="o", color=INK, ms=5, zorder=5)
    axes.set(xlim=(-3.0, 42.0), ylim=(-75.0, 95.0), xlabel="days", ylabel="velocity, m/s")
    axes.set_title("four of the seven nights; one draw of each of three periods", loc="left", fontsize=10, color=INK)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")


if __name__ == "__main__":
    main()
