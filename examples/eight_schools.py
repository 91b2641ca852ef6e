r"""The eight schools, twice: in coordinates with a funnel, and in those without.

    python -m examples.eight_schools

Coaching effects in eight schools (Rubin 1981) in the usual hierarchical model, y_j ~ N(theta_j, s_j^2), theta_j ~ N(mu, tau^2),
d = 10. There is one mode in the non-centred coordinates, eta = (theta - mu) / tau, and none at all in the centred ones: as tau
goes to 0 with all theta at mu, the density rises without bound, a funnel whose neck is as narrow as tau. All but its mouth is
hard to enter and hard to leave.

Truth: mu and theta integrate out, the evidence is a one-dimensional integral over log tau, -31.311, the same in both
coordinates, and exact draws exist. Non-centred, NUTS and rdmc are both right. Centred, NUTS is wrong and says so; rdmc has the
evidence, but too little of the neck (tau below 1 in .170 of 4000 draws where .200 is right), and `check()` does not always tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

import rdmc
import targets
from examples.gallery import INK, PALE, canvas, nuts, ours, parse, save, scatter, share, tell


def main(argv: Sequence[str] | None = None) -> dict[str, rdmc.Result]:
    """Sample, print, draw."""
    settings = parse(__doc__, argv)
    easy, funnel = targets.eight_schools(), targets.eight_schools(centred=True)
    results = {
        "rdmc": ours(easy, settings),
        "NUTS": nuts(easy, settings),
        "rdmc, centred": ours(funnel, replace(settings, draws=settings.draws // 2)),
        "NUTS, centred": nuts(funnel, settings),
    }
    exact = easy.sample(4000, torch.Generator().manual_seed(0))
    shares = {"tau < 1": {name: share(r.samples[..., 1] < 0.0) for name, r in results.items()}}
    truth = {"tau < 1": easy.log_tau.probability(easy.log_tau.nodes < 0.0), "log evidence": float(easy.log_z or 0.0)}
    tell("Eight schools, d = 10", results, shares, truth)

    page, (axes,) = canvas(4, width=13.0)
    lowest = min(-6.0, *(float(r.samples[..., 1].quantile(0.01)) - 1.0 for r in results.values()))
    _, tau, theta = easy.constrained(exact)
    for each, (name, result) in zip(axes, results.items(), strict=True):
        target = funnel if "centred" in name else easy
        _, scale, effects = target.constrained(result.samples.flatten(0, 1))
        each.scatter(theta[:, 0], tau.log(), s=5, color=PALE, linewidths=0, rasterized=True)
        shape = result.samples.shape[:2]
        scatter(each, effects[:, 0].view(shape), scale.log().view(shape), name)
        each.set(xlim=(-12.0, 25.0), ylim=(lowest, 4.0), xlabel="effect of school 1")
    axes[0].set_ylabel("log tau")
    page.suptitle("grey: exact draws; one colour for each chain", x=0.01, ha="left", fontsize=9, color=INK)
    save(page, settings, "eight_schools")
    return results


if __name__ == "__main__":
    main()
