"""Symmetries: groups are groups, folding keeps mass and slope, maps are found where they are and nowhere else."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import rdmc
import targets
from rdmc.coordinates import Affine, InCoordinates
from rdmc.density import Density, as_density
from rdmc.locate.atlas import Atlas
from rdmc.locate.constellation import find_symmetry
from rdmc.locate.folding import Folding
from rdmc.locate.optimise import Ascent
from rdmc.locate.pilot import Pilot
from rdmc.locate.symmetry import Symmetry
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.sampler import pilot_streams
from targets.base import Target
from tests.marks import slow

F = torch.float64


def renaming(order: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return torch.eye(len(order), dtype=F)[list(order)], torch.zeros(len(order), dtype=F)


def turn(angle: float) -> tuple[Tensor, Tensor]:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=F), torch.tensor([0.5, -1.0], dtype=F)


SWAPS = [renaming((1, 0, 2)), renaming((1, 2, 0))]
MIRROR = (torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=F), torch.tensor([0.0, 3.0], dtype=F))


def orders() -> Symmetry:
    group = Symmetry.generated(SWAPS, torch.tensor([[1.0, 2.0, 4.0]], dtype=F))
    assert group is not None
    return Symmetry(group.matrix, group.shift, torch.tensor([0.7, 0.1, -0.5], dtype=F))


def test_two_swaps_make_all_orders() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0]], dtype=F)
    seen = {tuple(image) for image in orders().images(x)[:, 0].tolist()}
    assert seen == set(itertools.permutations((1.0, 2.0, 4.0)))


@pytest.mark.parametrize(("generators", "order"), [([turn(math.pi / 2)], 4), ([MIRROR], 2), ([turn(1.0)], None)])
def test_order(generators: list[tuple[Tensor, Tensor]], order: int | None) -> None:
    group = Symmetry.generated(generators, torch.tensor([[0.3, 0.4]], dtype=F))
    assert (group and group.order) == order


def test_shares_of_an_orbit_are_one() -> None:
    group, x = orders(), torch.randn(50, 3, dtype=F, generator=torch.Generator().manual_seed(0))
    shares = torch.stack([group.log_share(image)[0].exp() for image in group.images(x)])
    assert torch.allclose(shares.sum(0), torch.ones(50, dtype=F))
    home = group.moved(x, group.home(x))
    assert torch.allclose(group.log_share(home)[0].exp(), shares.amax(0))


def test_slope_of_the_share() -> None:
    group, x = orders(), torch.randn(20, 3, dtype=F, generator=torch.Generator().manual_seed(1))
    step = 1e-5 * torch.eye(3, dtype=F)
    numeric = torch.stack([(group.log_share(x + h)[0] - group.log_share(x - h)[0]) / 2e-5 for h in step], 1)
    assert torch.allclose(group.log_share(x)[1], numeric, atol=1e-8)


def test_other_coordinates_see_the_same() -> None:
    group, g = orders(), torch.Generator().manual_seed(2)
    centre, factor = torch.randn(3, dtype=F, generator=g), torch.randn(3, 3, dtype=F, generator=g)
    z = torch.randn(9, 3, dtype=F, generator=g)
    seen, x = group.seen_from(centre, factor), z @ factor.T + centre
    assert torch.allclose(seen.images(z) @ factor.T + centre, group.images(x))
    assert torch.allclose(seen.log_share(z)[0], group.log_share(x)[0])


def test_folding_keeps_mass_and_slope() -> None:
    """In one dimension on a grid, where the fold goes through the mass."""
    log_density = lambda x: torch.logsumexp(torch.stack([-2.0 * (x[:, 0] - 1) ** 2, -2.0 * (x[:, 0] + 1) ** 2]), 0)  # noqa: E731
    group = Symmetry(
        torch.tensor([[[1.0]], [[-1.0]]], dtype=F), torch.zeros(2, 1, dtype=F), torch.tensor([0.8], dtype=F)
    )
    density = Density(log_density, 1)
    half = Folding(Affine(torch.zeros(1, dtype=F), 0.5 * torch.eye(1, dtype=F)), group).folded(density)
    x = torch.linspace(-8.0, 8.0, 4001, dtype=F)[:, None]
    assert half(x).exp().sum() == pytest.approx(float(density(x).exp().sum()), rel=1e-12)
    value, grad = half.value_and_grad(x)
    assert torch.allclose(value, half(x))
    assert torch.allclose(grad[1:-1, 0], (value[2:] - value[:-2]) / 0.008, atol=1e-3)
    assert half.counter is density.counter


def surveyed(target: Target, seed: int = 0) -> tuple[Symmetry | None, Density]:
    density = as_density(target)
    return Pilot().search(density, pilot_streams(density, seed, 64)).symmetry, density


@pytest.mark.parametrize("disguise", [1, *slow(None, 2)])
def test_labels_are_found_in_any_coordinates(disguise: int | None) -> None:
    target = targets.label_switching()
    found, _ = surveyed(target if disguise is None else targets.disguise(target, disguise))
    assert found is not None and found.order == math.factorial(target.dim)


def test_maps_of_a_square() -> None:
    found, _ = surveyed(targets.eight_gaussians())
    assert found is not None and found.order == 8


@pytest.mark.parametrize("slope", [0.0, 1e-4])
def test_nearly_is_not_the_same(slope: float) -> None:
    """Heights agree to 1e-3 nats, widths and distances too; the values elsewhere do not."""

    def log_density(x: Tensor) -> Tensor:
        pair = torch.stack([-0.5 * (x - 4.0).square().sum(1), -0.5 * (x + 4.0).square().sum(1)])
        return torch.logsumexp(pair, 0) + slope * x[:, 1]

    mean = torch.tensor([[4.0, 4.0], [-4.0, -4.0]], dtype=F)
    modes = GaussianMixture.isotropic(mean, torch.ones(2, dtype=F), torch.ones(2, dtype=F))
    density = Density(log_density, 2)
    found = find_symmetry(
        density, modes, density(mean) if not slope else torch.zeros(2, dtype=F), Streams.seeded(0, [64], [(0,)])
    )
    assert (found is not None) == (slope == 0.0)


def test_an_atlas_sees_every_image_alike() -> None:
    """In coordinates in which no map is a rotation, so that its inverse is not its transpose."""
    target = targets.label_switching()
    factor = torch.tensor([[1.0, 0.4, 0.0], [0.0, 2.0, -0.3], [0.1, 0.0, 0.5]], dtype=F)
    density = InCoordinates(as_density(target), Affine(torch.tensor([0.3, -0.2, 0.1], dtype=F), factor))
    group = Symmetry.generated(SWAPS, torch.tensor([[1.0, 2.0, 4.0]], dtype=F))
    assert group is not None
    seen = Symmetry(group.matrix, group.shift, torch.tensor([0.9, 0.1, -1.1], dtype=F)).seen_from(
        density.affine.centre, density.affine.factor
    )
    atlas = Atlas(density, seen)
    atlas.add(density.affine.to_white(target.modes[:1] + 0.05))
    x = torch.randn(30, 3, dtype=F, generator=torch.Generator().manual_seed(3))
    slopes, values = atlas.slope(x)
    for image in seen.images(x):
        torch.testing.assert_close(atlas.slope(image), (slopes, values), rtol=1e-6, atol=1e-9)
    value, grad = density.value_and_grad(x)
    home = atlas._homed(Ascent(x, value, grad, torch.ones(30, dtype=torch.bool)))
    assert not torch.equal(home.x, x)
    torch.testing.assert_close((home.value, home.grad), density.value_and_grad(home.x), rtol=1e-9, atol=1e-9)


def broken_pair() -> GaussianMixture:
    """Two equal modes and a narrow third that has no image."""
    mean = torch.tensor([[-6.0, 0.0], [6.0, 0.0], [2.0, 9.0]], dtype=F)
    sd = torch.tensor([1.0, 1.0, 0.2], dtype=F)
    return GaussianMixture.isotropic(mean, sd, torch.tensor([0.4, 0.4, 0.2], dtype=F))


def test_an_end_without_image_breaks_the_symmetry() -> None:
    law = broken_pair()
    density = Density(law.log_prob, 2)
    modes = GaussianMixture.isotropic(law.mean[:2], torch.ones(2, dtype=F), torch.ones(2, dtype=F))
    about = law.mean[:2] + torch.tensor([[0.2, 0.1], [-0.1, 0.3]], dtype=F)
    symmetry = find_symmetry(density, modes, density(law.mean[:2]), Streams.seeded(0, [64], [(0,)]))
    assert symmetry is not None and symmetry.order >= 2
    atlas = Atlas(density, symmetry)
    atlas.add(about)
    assert len(atlas.mean) == 1 and not atlas.broken
    beside = law.mean[2:] + 0.05
    assert not Folding(Affine.identity(2), symmetry).holds(
        density, beside, density(beside), Streams.seeded(0, [64], [(1,)])
    )
    atlas.add(torch.cat([beside, symmetry.images(beside)[1]]))
    assert atlas.broken
    found = torch.stack(atlas.mean)
    assert float(torch.cdist(law.mean, found).amin(1).max()) < 0.01
    assert atlas.symmetry is None and len(found) == 3


def test_a_symmetry_that_a_further_mode_breaks() -> None:
    """The search finds the third mode and gives up the symmetry."""
    law = broken_pair()
    for seed in range(3):
        result = rdmc.sample(law.log_prob, dim=2, draws=500, seed=seed, progressbar=False)
        label = law.log_responsibilities(result.samples.reshape(-1, 2)).argmax(-1)
        share = torch.bincount(label, minlength=3) / len(label)
        error = 5.0 * (torch.tensor([0.24, 0.24, 0.16]) / len(label)).sqrt()
        assert bool(((share - torch.tensor([0.4, 0.4, 0.2])).abs() < error).all()), share
        assert abs(result.log_evidence) < 5.0 * result.log_evidence_mcse + 0.02
        assert result.stages[0]["symmetries"] == 1


def test_every_image_is_drawn_as_often() -> None:
    target = targets.label_switching()
    result = rdmc.sample(target, draws=500, seed=3, progressbar=False)
    count = torch.bincount(target.mode_of(result.samples.reshape(-1, target.dim)), minlength=6).double()
    n = count.sum()
    chi_square = float((count - n / 6).square().sum() / (n / 6))
    assert chi_square < 5 + 5 * math.sqrt(10), (chi_square, count)
    assert result.stages[0]["symmetries"] == 6
    assert len(result.modes) == 6


def test_a_search_ends_with_all_images() -> None:
    target = targets.label_switching()
    density = as_density(target)
    survey = Pilot().run(density, pilot_streams(density, 0, 64))
    assert survey.surrogate.components == 6
    assert len(target.mode_of(survey.modes).unique()) == 6
    values = InCoordinates(density, survey.affine)(survey.surrogate.mean)
    assert torch.allclose(values, survey.peak, atol=1e-4)
