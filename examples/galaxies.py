r"""Clusters of galaxies, and the labels of a mixture's components.

    python -m examples.galaxies

The velocities of 82 galaxies of the Corona Borealis region (Postman, Huchra, Geller 1986; Roeder 1990), a mixture of three
normal laws with unknown means, variances and weights (d = 8). Nothing tells the components apart, so the posterior is 3! = 6
copies of itself, one for each order of the means, and each has probability 1/6 exactly: the truth comes from symmetry.

A chain of NUTS stays in the copy where it began. Its R-hat says that the chains disagree, not what the weights are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

import rdmc
import targets
from examples.gallery import INK, PALE, POPULATIONS, canvas, mode_shares, nuts, ours, parse, save, scatter, tell


def main(argv: Sequence[str] | None = None) -> dict[str, rdmc.Result]:
    """Sample, print, draw."""
    settings = parse(__doc__, argv)
    target = targets.galaxies()
    results = {"rdmc": ours(target, settings), "NUTS": nuts(target, settings)}
    orders = ("1 < 2 < 3", "1 < 3 < 2", "2 < 1 < 3", "3 < 1 < 2", "2 < 3 < 1", "3 < 2 < 1")
    shares = mode_shares(target, results, [f"means {order}" for order in orders])
    tell("Velocities of 82 galaxies, three components, d = 8", results, shares, dict.fromkeys(shares, 1.0 / 6.0))

    page, (axes,) = canvas(3)
    axes[0].hist(target.data, bins=40, range=(5.0, 40.0), density=True, color=PALE)
    velocity = torch.linspace(5.0, 40.0, 300, dtype=torch.float64)
    means, variances, weights = target.constrained(results["rdmc"].samples.flatten(0, 1)[::20])
    parts = torch.distributions.Normal(means, variances.sqrt()).log_prob(velocity[:, None, None]).exp()
    density = (parts * weights).sum(2)
    axes[0].fill_between(
        velocity, density.quantile(0.05, 1), density.quantile(0.95, 1), color=POPULATIONS[0], alpha=0.3, lw=0
    )
    axes[0].plot(velocity, density.mean(1), color=POPULATIONS[0])
    axes[0].set_title("velocities, and the mixture with its 90 % band", loc="left", fontsize=10, color=INK)
    axes[0].set(xlabel="velocity, 1000 km/s", yticks=[])
    for each, (name, result) in zip(axes[1:], results.items(), strict=True):
        scatter(each, result.samples[..., 0], result.samples[..., 1], f"{name}: one colour for each chain")
        each.set(xlabel="mean of component 1", ylabel="mean of component 2", xlim=(-2.0, 45.0), ylim=(-2.0, 45.0))
    save(page, settings, "galaxies")
    return results


if __name__ == "__main__":
    main()
