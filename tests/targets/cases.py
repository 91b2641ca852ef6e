"""The instances every law is checked on: each default, and the settings that a default would hide."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

import targets
from targets import Target

CASES: dict[str, Callable[[], Target]] = {
    **targets.ALL,
    "gaussian-ill-conditioned": lambda: targets.gaussian(dim=6, condition=1e8, seed=3),
    "eight_gaussians-shifted": lambda: targets.eight_gaussians(shift=(20.0, -7.0), weights="unequal"),
    "gmm40-unequal": lambda: targets.gmm40(weights="unequal"),
    "four_modes-apart": lambda: targets.four_modes(shift=(20.0, 20.0), scale=30.0 / 11.0),
    "two_modes-32": lambda: targets.two_modes(dim=32),
    "entropic_pair-uneven": lambda: targets.entropic_pair(dim=3, weight=0.2),
    "random_mixture-small": lambda: targets.random_mixture(dim=3, components=4, seed=5),
    "student_mixture-plane": lambda: targets.student_mixture(dim=2, components=10, df=3, seed=1),
    "rings-two": lambda: targets.rings(radii=(2.0, 3.0), weights=(0.3, 0.7), width=0.3),
    "banana-5": lambda: targets.banana(dim=5, centre=-1.0, scale=2.0, bend=0.2),
    "funnel-variance-3": lambda: targets.funnel(dim=4, scale=3.0**0.5),
    "many_well-8": lambda: targets.many_well(dim=8),
    "double_wells-tilted": lambda: targets.double_wells(dim=6, wells=3, delta=3.0, tilt=0.3),
    "phi4-tilted": lambda: targets.phi4(dim=16, b=0.02),
    "label_switching-other": lambda: targets.label_switching(observations=25, seed=4),
    "galaxies-2": lambda: targets.galaxies(components=2, rate=5.0, shape=3.0),
    "galaxies-4": lambda: targets.galaxies(components=4),
    "eight_schools-centred": lambda: targets.eight_schools(centred=True),
    "logistic_regression-tight": lambda: targets.logistic_regression(coefficient_sd=0.3, intercept_sd=1.0),
    "spike_and_slab-wide": lambda: targets.spike_and_slab(spike=0.3, slab=2.0, inclusion=0.4),
    "radial_velocities-noisy": lambda: targets.radial_velocities(noise=6.0, centre=3.0, spread=0.5),
    "gaussian_process-smooth": lambda: targets.gaussian_process(length=5.0, length_spread=0.7, noise_spread=1.0),
    "star_cluster-robust": lambda: targets.star_cluster(slope_sd=1.5, outliers=0.1),
    "unlike_mixture-line": lambda: targets.unlike_mixture(seed=1),
    "unlike_mixture-plane": lambda: targets.unlike_mixture(seed=5),
    "unlike_mixture-space": lambda: targets.unlike_mixture(seed=2),
    "disguise-wells": lambda: targets.disguise(targets.double_wells(dim=4, wells=2, delta=2.0, tilt=0.5), seed=1),
    "disguise-galaxies": lambda: targets.disguise(targets.galaxies(), seed=2),
}

NAMES = tuple(CASES)


@cache
def case(name: str) -> Target:
    """The instance of that name, built once."""
    return CASES[name]()


# Draws whose cost would dominate the suite.
_FEW = {"phi4": 800, "phi4-tilted": 5000, "many_well": 5000}


@cache
def draws(name: str) -> torch.Tensor:
    """``(n, d)`` exact draws of the instance of that name, made once."""
    return case(name).sample(_FEW.get(name, 20000), seeded(11))


def seeded(seed: int) -> torch.Generator:
    """A CPU generator."""
    return torch.Generator().manual_seed(seed)


def points(target: Target, n: int, seed: int = 0) -> torch.Tensor:
    """Points on the target where it can be sampled or its modes are known, mixed with points ten times as far out."""
    generator = seeded(seed)
    noise = torch.randn(n, target.dim, generator=generator, dtype=torch.float64)
    if target.can_sample:
        x = target.sample(n, generator)
    elif target.modes is not None:
        x = target.modes[torch.randint(len(target.modes), (n,), generator=generator)] + 0.3 * noise
    else:
        x = noise
    if isinstance(target, targets.maps.Affine) and not target.can_sample:
        x = noise @ target.matrix.T + target.offset
    scale = x.std(0) if n > 1 else torch.ones(target.dim, dtype=torch.float64)
    return torch.cat([x, x + 10.0 * scale.nan_to_num(1.0) * noise])
