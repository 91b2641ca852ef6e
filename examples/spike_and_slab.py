r"""Which features does a tumour classifier need? Near-copies stand in for each other.

    python -m examples.spike_and_slab

Logistic regression of malignant against benign for 569 biopsies (Street, Wolberg, Mangasarian 1993), six features, and a prior
by which a coefficient is either about zero (standard deviation .1, probability .8) or free (3, .2): spike and slab, George and
McCulloch (1993), d = 7. Radius, perimeter and area of a cell nucleus measure the same thing and correlate by .99. One of them
is needed, any one will do, and the prior discourages two: each choice is a mode, thin ridges lead from one to the next.

Truth: for each of the 64 patterns of spikes and slabs the posterior is log-concave and its evidence easy; their sum is -98.997
(error .001). Area is in the slab with probability .816, radius with .279, perimeter with .177.
"""

from __future__ import annotations

from collections.abc import Sequence

import rdmc
import targets
from examples.gallery import bars, canvas, nuts, ours, parse, save, scatter, tell
from targets.selection import FEATURES

INCLUDED = {"radius": 0.279, "perimeter": 0.177, "area": 0.816}
"""Probability of the slab, summed over the 64 patterns; the errors are below .001."""


def main(argv: Sequence[str] | None = None) -> dict[str, rdmc.Result]:
    """Sample, print, draw."""
    settings = parse(__doc__, argv)
    target = targets.spike_and_slab()
    results = {"rdmc": ours(target, settings, "auto"), "NUTS": nuts(target, settings)}
    shares: dict[str, dict[str, tuple[float, float]]] = {feature: {} for feature in FEATURES}
    for name, result in results.items():
        chance = target.slab_probability(result.samples.flatten(0, 1)).view(result.chains, result.draws, -1)
        for j, feature in enumerate(FEATURES):
            by_chain = chance[..., j].mean(1)
            error = max(float(by_chain.std()) / 2.0, float(chance[..., j].std()) / chance[..., j].numel() ** 0.5)
            shares[feature][name] = float(by_chain.mean()), error
    tell(
        "Six features, spikes and slabs, d = 7",
        results,
        shares,
        INCLUDED | {"log evidence": float(target.log_z or 0.0)},
    )

    page, (axes,) = canvas(3, width=12.5)
    for each, (name, result) in zip(axes, results.items(), strict=False):
        scatter(each, result.samples[..., 1], result.samples[..., 3], f"{name}: one colour for each chain")
        each.set(xlabel="coefficient of radius", ylabel="coefficient of area", xlim=(-6.0, 9.0), ylim=(-3.0, 9.0))
    bars(axes[2], {size: shares[size] for size in INCLUDED}, INCLUDED, "probability that a feature is in the slab")
    save(page, settings, "spike_and_slab")
    return results


if __name__ == "__main__":
    main()
