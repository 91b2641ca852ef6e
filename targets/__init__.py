"""Densities with ground truth: what a sampler should return is known before it runs.

Every factory returns a :class:`Target`; ``ALL`` maps the name of each to the factory, all callable without arguments.
:func:`affine` and :func:`disguise` put any of them into other coordinates.

Example:
    >>> import targets
    >>> targets.double_wells(dim=5, wells=2, tilt=0.3)
    Wells(name='double_wells', dim=5)
"""

from __future__ import annotations

from collections.abc import Callable

from targets.base import Target
from targets.curved import banana, funnel
from targets.galaxies import galaxies
from targets.gaussians import (
    eight_gaussians,
    entropic_pair,
    four_modes,
    gaussian,
    gmm40,
    random_mixture,
    two_modes,
)
from targets.label_switching import label_switching
from targets.lattice import phi4
from targets.maps import affine, disguise
from targets.mixture import gaussian_mixture
from targets.mueller import mueller_brown
from targets.regression import logistic_regression
from targets.rings import rings
from targets.schools import eight_schools
from targets.selection import spike_and_slab
from targets.sensors import sensor_network
from targets.stars import star_cluster
from targets.student import student_mixture
from targets.unlike import unlike_mixture
from targets.velocities import radial_velocities
from targets.weather import gaussian_process
from targets.wells import double_wells, many_well

__all__ = [
    "ALL",
    "Target",
    "affine",
    "banana",
    "disguise",
    "double_wells",
    "eight_gaussians",
    "eight_schools",
    "entropic_pair",
    "four_modes",
    "funnel",
    "galaxies",
    "gaussian",
    "gaussian_mixture",
    "gaussian_process",
    "gmm40",
    "label_switching",
    "logistic_regression",
    "many_well",
    "mueller_brown",
    "phi4",
    "radial_velocities",
    "random_mixture",
    "rings",
    "sensor_network",
    "spike_and_slab",
    "star_cluster",
    "student_mixture",
    "two_modes",
    "unlike_mixture",
]

_FACTORIES: tuple[Callable[[], Target], ...] = (
    gaussian,
    eight_gaussians,
    gmm40,
    four_modes,
    two_modes,
    entropic_pair,
    random_mixture,
    student_mixture,
    rings,
    banana,
    funnel,
    many_well,
    double_wells,
    mueller_brown,
    phi4,
    label_switching,
    galaxies,
    eight_schools,
    logistic_regression,
    spike_and_slab,
    sensor_network,
    radial_velocities,
    gaussian_process,
    star_cluster,
    unlike_mixture,
)

ALL: dict[str, Callable[[], Target]] = {factory.__name__: factory for factory in _FACTORIES}
"""Factory of each target by name, in the order of the documentation."""
