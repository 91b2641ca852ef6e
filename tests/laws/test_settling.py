"""Coordinates that first ascents found far from any mode are given up, and others are kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import targets
from rdmc.coordinates import Affine
from rdmc.density import Density, as_density
from rdmc.locate.atlas import Atlas
from rdmc.locate.pilot import Pilot
from rdmc.locate.settling import misplaced, moved
from rdmc.mixture import GaussianMixture
from rdmc.sampler import pilot_streams
from tests.laws.cases import F

PLACE = torch.tensor([30.0, -20.0, 10.0], dtype=F)
WIDTH = torch.tensor([1e-3, 2e-3, 5e-4], dtype=F)


def needle(x: Tensor) -> Tensor:
    return -0.5 * ((x - PLACE) / WIDTH).square().sum(-1)


def known(f: Density, mean: Tensor, sd: Tensor) -> Atlas:
    """An atlas in the user's coordinates with one mode."""
    atlas = Atlas(f)
    mode = GaussianMixture.from_covariance(mean[None], torch.diag(sd.square())[None], torch.ones(1, dtype=F))
    atlas.recall(mode, f(mean[None]), torch.ones(1, dtype=torch.int64))
    return atlas


def test_a_mode_far_above_the_place_of_the_coordinates_gives_its_own() -> None:
    f = Density(needle, 3)
    atlas = known(f, PLACE, 3.0 * WIDTH)  # a curvature measured in bad coordinates need not be exact
    assert misplaced(atlas)
    old = Affine.identity(3)
    affine, again = moved(f, old, atlas)
    torch.testing.assert_close(affine.centre, PLACE, atol=1e-6, rtol=0.0)
    scale = torch.linalg.svdvals(affine.factor / WIDTH[:, None])
    assert bool((scale > 0.5).all() and (scale < 2.0).all()), scale
    assert not misplaced(again)
    torch.testing.assert_close(affine.to_user(torch.stack(again.mean)), PLACE[None], atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(
    ("mean", "sd", "why"),
    [
        (PLACE, torch.ones(3, dtype=F), "its widths are these"),
        (torch.zeros(3, dtype=F), torch.full((3,), 1e-3, dtype=F), "it stands at the origin itself"),
    ],
)
def test_good_coordinates_stay(mean: Tensor, sd: Tensor, why: str) -> None:
    f = Density(lambda x: -0.5 * ((x - mean) / sd).square().sum(-1), 3)
    assert not misplaced(known(f, mean, sd)), why


@pytest.mark.parametrize(("peak", "moves"), [(-5.0, False), (25.0, True)])
def test_a_broad_law_must_be_higher_too(peak: float, moves: bool) -> None:
    """A thousand times as wide in d = 5 is 34 nats more of mass at equal height: as in a neck, whose mass is elsewhere."""
    far = torch.tensor([4e4, 0.0, 0.0, 0.0, 0.0], dtype=F)

    def f(x: Tensor) -> Tensor:
        return torch.logaddexp(-0.5 * x.square().sum(-1), peak - 0.5 * ((x - far) / 1e3).square().sum(-1))

    density = Density(f, 5)
    assert misplaced(known(density, far, torch.full((5,), 1e3, dtype=F))) is moves
    assert not misplaced(known(density, far, torch.full((5,), 1e8, dtype=F)))  # no width: no fall was seen


def test_a_narrow_mode_that_is_lighter_moves_nothing() -> None:
    """Thirty nats higher and a thousandth as wide in d = 5: less than a hundredth of the mass."""
    narrow = torch.full((5,), 40.0, dtype=F)

    def f(x: Tensor) -> Tensor:
        spike = 30.0 - 0.5 * ((x - narrow) / 1e-3).square().sum(-1)
        return torch.logaddexp(-0.5 * x.square().sum(-1), spike)

    density = Density(f, 5)
    atlas = known(density, torch.zeros(5, dtype=F), torch.ones(5, dtype=F))
    spike = GaussianMixture.isotropic(narrow[None], torch.full((1,), 1e-3, dtype=F), torch.ones(1, dtype=F))
    atlas.recall(spike, density(narrow[None]), torch.ones(1, dtype=torch.int64))
    assert not misplaced(atlas)


def test_labels_are_all_found_from_ascents_that_end_thousands_of_nats_too_low() -> None:
    """The best of the first ascents stops at -44,340; in its units dozens of 'modes' were found, all of one order of the labels."""
    base = targets.galaxies(3)
    target = targets.disguise(base, 91)
    density = as_density(target)
    pilot = Pilot(scan=1)
    found = pilot.run(density, pilot_streams(density, 9, pilot.starts))
    top = found.peak >= found.peak.max() - 1e-3
    assert int(top.sum()) == math.factorial(3)
    assert math.isclose(float(found.peak.max()), -219.2373, abs_tol=1e-3)
