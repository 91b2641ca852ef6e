r"""How many clusters of galaxies? Models compared by their evidence.

    python -m examples.galaxy_components

The velocities of `examples.galaxies`, with one to four normal components. The evidence of each number K, with the K! labellings
counted in full, makes the probability of K. It is where a sampler that stays in one labelling goes wrong by log K!: Neal (1999)
showed that of the estimates from one labelling that were published for these data.

For K = 3 two runs that share no coordinates check each other: exchangeable components in the coordinates of
`targets.galaxies`, and ordered means with a stick-breaking simplex by `rdmc.parameters`, whose prior has the factor K!. With
four exchangeable components, 24 copies in d = 11, the default is out of its depth and says so (docs/auto.md); ordered ones are
easy. For K = 1 a two-dimensional quadrature is the truth: -251.278. NUTS is run for K = 2: two labellings, no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

import rdmc
import targets
from examples.gallery import INK, PALE, POPULATIONS, Settings, canvas, mode_shares, nuts, ours, parse, save, tell
from rdmc.parameters import NamedDensity, Parameter, Parameters


def ordered(components: int) -> NamedDensity:
    """The same posterior with the means in ascending order."""
    target = targets.galaxies(components)
    parameters = Parameters(
        mean=Parameter(components, "ordered"),
        variance=Parameter(components, "positive"),
        weight=Parameter(components, "simplex"),
    )

    def log_density(mean: Tensor, variance: Tensor, weight: Tensor) -> Tensor:
        z2 = (target.data[:, None] - mean[:, None, :]).square() / variance[:, None, :]
        logs = (weight.log() - 0.5 * variance.log())[:, None, :] - 0.5 * z2
        likelihood = torch.logsumexp(logs, 2).sum(1) - 0.5 * len(target.data) * math.log(2.0 * math.pi)
        prior = torch.distributions.Normal(target.location, target.spread).log_prob(mean)
        prior = prior - (target.shape + 1.0) * variance.log() - target.rate / variance
        constant = target.shape * math.log(target.rate) - math.lgamma(target.shape)
        # K! of the order, (K - 1)! of the Dirichlet law
        return likelihood + prior.sum(1) + components * constant + math.lgamma(components + 1) + math.lgamma(components)

    return parameters.density(log_density)


def main(argv: Sequence[str] | None = None) -> dict[str, rdmc.Result]:
    """Sample, print, draw."""
    settings = parse(__doc__, argv)
    settings = replace(settings, draws=settings.draws // 2)  # six runs
    free = {k: ours(targets.galaxies(k), settings) for k in (1, 2, 3)}
    sorted_ = {k: ours(ordered(k), settings) for k in (3, 4)}
    stuck = nuts(targets.galaxies(2), settings)
    target = targets.galaxies(2)
    both = {"rdmc, K = 2": free[2], "NUTS, K = 2": stuck}
    shares = mode_shares(target, both, ["means 1 < 2", "means 2 < 1"])
    tell("Two components, d = 5", both, shares, dict.fromkeys(shares, 0.5))
    others = {f"K = {k}": r for k, r in free.items() if k != 2} | {f"K = {k}, ordered": r for k, r in sorted_.items()}
    tell("The other numbers of components", others, {}, {})

    best = free | sorted_
    logs = torch.tensor([best[k].log_evidence for k in sorted(best)], dtype=torch.float64)
    chance = logs.softmax(0)
    print("\nprobability of K = 1, 2, 3, 4: " + ", ".join(f"{p:.3f}" for p in chance.tolist()))
    _draw(free, sorted_, chance, settings)
    return (
        {f"K = {k}": r for k, r in free.items()}
        | {f"K = {k}, ordered": r for k, r in sorted_.items()}
        | {"NUTS": stuck}
    )


def _draw(free: dict[int, rdmc.Result], by_order: dict[int, rdmc.Result], chance: Tensor, settings: Settings) -> None:
    page, (axes,) = canvas(3, width=12.5, width_ratios=(1.6, 1.0, 0.8))
    axes[0].hist(targets.galaxies().data, bins=40, range=(5.0, 40.0), density=True, color=PALE)
    velocity = torch.linspace(5.0, 40.0, 300, dtype=torch.float64)
    for k, colour in zip((1, 2, 3), POPULATIONS, strict=False):
        means, variances, weights = targets.galaxies(k).constrained(free[k].samples.flatten(0, 1)[::20])
        axes[0].plot(velocity, _density(velocity, means, variances, weights), color=colour, label=f"K = {k}")
    values = ordered(4).parameters.constrain(by_order[4].samples.flatten(0, 1)[::20])
    four = _density(velocity, values["mean"], values["variance"], values["weight"])
    axes[0].plot(velocity, four, color=POPULATIONS[3], label="K = 4")
    axes[0].set_title("velocities, and each model's predictive density", loc="left", fontsize=10, color=INK)
    axes[0].set(xlabel="velocity, 1000 km/s", yticks=[])
    axes[0].legend(frameon=False, fontsize=8)
    for runs, shift, marker, colour, name in (
        (free, -0.08, "o", 0, "exchangeable"),
        (by_order, 0.08, "s", 1, "ordered means"),
    ):
        place = [k + shift for k in runs]
        height, error = (
            [r.log_evidence for r in runs.values()],
            [2 * (r.log_evidence_mcse or 0.0) for r in runs.values()],
        )
        axes[1].errorbar(place, height, error, fmt=marker, ms=5, color=POPULATIONS[colour], capsize=3, label=name)
    axes[1].set(xlabel="components K", xticks=[1, 2, 3, 4])
    axes[1].set_title("log evidence, \u00b1 2 standard errors", loc="left", fontsize=10, color=INK)
    axes[1].legend(frameon=False, fontsize=8, loc="lower right")
    axes[2].bar([1, 2, 3, 4], chance.tolist(), color=POPULATIONS[0], alpha=0.75)
    axes[2].set(xlabel="components K", xticks=[1, 2, 3, 4], ylim=(0.0, 1.02))
    axes[2].set_title("probability of K", loc="left", fontsize=10, color=INK)
    save(page, settings, "galaxy_components")


def _density(at: Tensor, means: Tensor, variances: Tensor, weights: Tensor) -> Tensor:
    """``(T,)`` density of a new velocity, averaged over ``(M, K)`` draws."""
    parts = torch.distributions.Normal(means, variances.sqrt()).log_prob(at[:, None, None]).exp()
    return (parts * weights).sum(2).mean(1)


if __name__ == "__main__":
    main()
