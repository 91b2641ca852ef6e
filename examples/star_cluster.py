r"""A line through a star cluster: are the giants part of it?

    python -m examples.star_cluster

Temperature and light of 47 stars of CYG OB1 (Humphreys 1978; Rousseeuw and Leroy 1987), the data set by which robust regression
is taught. A line with outliers, y ~ (1 - p) N(a + b t, s^2) + p N(0, 1), d = 4. Four red giants are cool and bright. Take them
as stars like the others, and light falls with temperature; call them outliers, and it rises, as on the main sequence it does.
The prior on the share of outliers has its median at 2 %, so that both explanations hold: two modes with slopes of opposite sign
and nothing between.

Truth: a four-dimensional quadrature gives the log evidence -44.1183, and .2447 to the falling line, .7553 to the rising one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

import rdmc
import targets
from examples.gallery import INK, POPULATIONS, canvas, mode_shares, nuts, ours, parse, save, scatter, tell


def main(argv: Sequence[str] | None = None) -> dict[str, rdmc.Result]:
    """Sample, print, draw."""
    settings = parse(__doc__, argv)
    target = targets.star_cluster()
    results = {"rdmc": ours(target, settings), "NUTS": nuts(target, settings)}
    shares = mode_shares(target, results, ["slope falls", "slope rises"])
    weights = [] if target.mode_weights is None else target.mode_weights.tolist()
    truth = dict(zip(shares, weights, strict=True)) | {"log evidence": float(target.log_z or 0.0)}
    tell("A line through 47 stars, d = 4", results, shares, truth)

    page, (axes,) = canvas(3, width=12.5)
    draws = results["rdmc"].samples.flatten(0, 1)
    label = target.mode_of(draws)
    ends = torch.tensor([-0.95, 0.4], dtype=torch.float64)
    for k, colour in enumerate((POPULATIONS[1], POPULATIONS[0])):
        for a, b in draws[label == k][:40, :2].tolist():
            axes[0].plot(ends, a + b * ends, color=colour, alpha=0.25, lw=0.8)
        weight = float((label == k).double().mean())
        axes[0].plot([], [], color=colour, label=f"{'rises' if k else 'falls'}: {weight:.2f}")
    outlier = target.outlier_probability(draws).mean(0)
    dots = axes[0].scatter(
        target.temperature,
        target.light,
        c=outlier,
        cmap="Greys",
        edgecolors=INK,
        lw=0.7,
        s=26,
        zorder=5,
        vmin=0,
        vmax=1,
    )
    page.colorbar(dots, ax=axes[0], shrink=0.8, label="probability of an outlier")
    axes[0].set(xlim=(0.45, -1.0), ylim=(-1.6, 1.6), xlabel="log temperature (hot to the left)", ylabel="log light")
    axes[0].set_title("draws of the line", loc="left", fontsize=10, color=INK)
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    for each, (name, result) in zip(axes[1:], results.items(), strict=True):
        scatter(each, result.samples[..., 1], result.samples[..., 2].exp(), f"{name}: one colour for each chain")
        each.set(xlabel="slope", ylabel="standard deviation about the line", xlim=(-2.0, 6.0), ylim=(0.2, 0.85))
    save(page, settings, "star_cluster")
    return results


if __name__ == "__main__":
    main()
