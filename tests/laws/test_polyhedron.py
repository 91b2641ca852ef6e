"""Supports with flat faces: found where they are, seen without them, and nothing else taken for one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Dirichlet

import rdmc
from rdmc.density import Density
from rdmc.locate.pilot import Pilot
from rdmc.rng import Streams
from rdmc.supports.facets import _closes, find_polyhedron
from rdmc.supports.polyhedron import Polyhedron
from rdmc.supports.support import Support
from tests.laws.cases import F, generator
from tests.laws.supports import MIXED, SOLID, affine
from tests.marks import slow
from tests.quick import QUICK
from tests.stats import assert_within

Inside = Callable[[Tensor], Tensor]


def searched(inside: Inside, dim: int, seed: int = 3) -> Support | None:
    """What is found of a density that falls away from the origin."""
    density = Density(lambda x: torch.where(inside(x), -x.abs().sum(-1), -torch.inf), dim)
    return Pilot().support(density, Streams.seeded(seed, [64]))


def ordered(x: Tensor) -> Tensor:
    return (x[..., 1:] > x[..., :-1]).all(-1)


def change_points(x: Tensor) -> Tensor:
    return ordered(x) & (x[..., 0] > 0.0) & (x[..., -1] < 1000.0)


def corner_cut_open(x: Tensor) -> Tensor:
    """Four faces that depend on each other and close nothing."""
    return (x > 0.0).all(-1) & (x.sum(-1) > 1.0)


def shares(x: Tensor) -> Tensor:
    return (x > 0.0).all(-1) & (x.sum(-1) < 1.0)


def turned_cube(x: Tensor) -> Tensor:
    return (affine(x.shape[-1]).to_white(x).abs() < 1.0).all(-1)


def wedge(x: Tensor) -> Tensor:
    """Two faces that meet at an angle, between two bounds of another coordinate; the fourth is free."""
    return (x[..., 0] > 0.0) & (x[..., 1] > 2.0 * x[..., 0]) & (x[..., 2].abs() < 5.0)


@pytest.mark.parametrize(
    ("inside", "dim", "positive", "simplices"),
    [
        (ordered, 2, 1, ()),
        (ordered, 12, 11, ()),
        (change_points, 16, 0, (16,)),
        (shares, 4, 0, (4,)),
        (turned_cube, 3, 0, (1, 1, 1)),
        (lambda x: x.sum(-1) > 1.0, 5, 1, ()),
        (wedge, 4, 2, (1,)),
        (lambda x: shares(x[..., :2]) & ordered(x[..., 2:]), 5, 2, (2,)),
        *slow(
            (ordered, 30, 29, ()),
            (change_points, 20, 0, (20,)),
            (turned_cube, 12, 0, (1,) * 12),
            (shares, 40, 0, (40,)),
        ),
    ],
)
def test_faces_are_found_where_they_are(inside: Inside, dim: int, positive: int, simplices: tuple[int, ...]) -> None:
    """Exactly: what the map reaches is in the support, and all that is in the support is reached."""
    found = searched(inside, dim)
    assert isinstance(found, Polyhedron) and (found.positive, found.simplices) == (positive, simplices)
    x = found.forward(3.0 * torch.randn(4000, dim, generator=generator(4), dtype=F))
    assert float(inside(x).double().mean()) == 1.0
    step = 0.3 * (x - x.mean(0)) * torch.randn(4000, dim, generator=generator(5), dtype=F)
    away = torch.where(torch.rand(4000, dim, generator=generator(6)) < 1.5 / dim, x + step, x)
    there = torch.isfinite(found.inverse(away)).all(-1)
    assert 0 < int(there.sum()) < 4000 and torch.equal(there, inside(away))


@pytest.mark.parametrize(("inside", "dim"), [(change_points, 16), (corner_cut_open, 3)])
def test_what_is_found_has_all_of_the_support(inside: Inside, dim: int) -> None:
    """Where a face is met by no way, or only near its edges: of 16 times the end, of a corner the cut."""
    found = searched(inside, dim, seed=0)
    assert isinstance(found, Polyhedron)
    x = 1000.0 * torch.rand(400, dim, generator=generator(7), dtype=F).sort(1).values
    assert bool(inside(x).all()) and bool(torch.isfinite(found.inverse(x)).all())


def test_faces_on_axes_are_exact() -> None:
    """So that poles keep their mass: where a coordinate is bounded by 0, the map adds nothing to it."""
    found = searched(shares, 4)
    assert isinstance(found, Polyhedron)
    for part in (found.affine.centre, found.affine.factor):
        rest = part[part != 0.0].abs()
        torch.testing.assert_close(rest, torch.ones_like(rest), rtol=1e-14, atol=0.0)
    assert (found.affine.factor != 0.0).sum() == 7 and (found.affine.centre != 0.0).sum() == 1


@pytest.mark.parametrize(
    "inside",
    [
        lambda x: x.square().sum(-1) < 4.0,
        lambda x: (x.square().sum(-1) > 1.0) & (x.square().sum(-1) < 1.44),
        lambda x: (x[..., :2].abs() < x[..., 2:]).all(-1),  # four faces at a point
        lambda x: (x[..., 0] > x[..., 1].abs()) | (x[..., 0] < -x[..., 1].abs() - 3.0),
        lambda x: (x[..., 0] + x[..., 1] > 0.0) & ~((x[..., 0] > 2.0) & (x[..., 1] > 2.0) & (x[..., 0] < 9.0)),
        lambda x: x[..., 0] > -0.1 * x[..., 1].square(),
        corner_cut_open,  # met by some way from this seed's middle
        lambda x: (x[..., :2].abs() < 1.0).all(-1) & (x[..., :2].sum(-1) < 1.5),
    ],
    ids=["ball", "shell", "pyramid", "two wedges", "hole", "bent", "corner cut open", "corner cut off"],
)
def test_no_other_set_is_taken_for_one(inside: Inside) -> None:
    assert searched(inside, 3) is None


def test_faces_of_more_than_one_relation_close_no_simplex() -> None:
    """Six sides of a regular hexagon, whose normals have the sum 0 as those of a simplex have."""
    turn = torch.arange(6, dtype=F) * math.pi / 3.0
    normals = torch.stack([turn.cos(), turn.sin()], 1)
    relations = torch.eye(6, dtype=F) - normals @ normals.T / 3.0
    assert not _closes(relations, normals, torch.ones(6, dtype=F))
    assert _closes(torch.full((3, 3), 1.0 / 3.0, dtype=F), normals[::2], torch.ones(3, dtype=F))


def test_where_numbers_end_is_no_face() -> None:
    """The exponential of 710 is none: the density of a rate's logarithm is -inf there, with and without a map of coordinates."""
    turn = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=F)
    for factor in (torch.eye(2, dtype=F), turn):

        def f(x: Tensor, factor: Tensor = factor) -> Tensor:
            z = x @ factor.T
            return 3.0 * z[..., 0] - z[..., 0].exp() - z[..., 1].square()

        density = Density(f, 2)
        far = torch.tensor([[0.0, 0.0], [3000.0, 0.0]], dtype=F)
        assert density(far).min() == -torch.inf
        assert Pilot(radii=(0.1, 1e4)).support(density, Streams.seeded(0, [64])) is None
        assert find_polyhedron(density, far, Streams.seeded(0, [64])) is None


def test_a_law_without_end_has_no_faces() -> None:
    """What is improper shall be seen as that, in the user's coordinates."""
    uniform = Density(lambda x: torch.where(ordered(x), 0.0 * x.sum(-1), -torch.inf), 3)
    assert Pilot().support(uniform, Streams.seeded(0, [64])) is None


@pytest.mark.parametrize("outside", [math.nan, -math.inf])
@pytest.mark.parametrize("inside", [shares, lambda x: (x > 0.0).all(-1)], ids=["simplex", "box"])
def test_nan_is_no_outside(inside: Inside, outside: float) -> None:
    """It may be an error of the density: it is rejected and reported, and no support is made of it."""
    density = Density(
        lambda x: torch.where(inside(x), -x.abs().sum(-1), torch.where(x[..., 0] > 0.0, outside, -torch.inf)), 3
    )
    found = Pilot().support(density, Streams.seeded(0, [64]))
    assert (found is None) == math.isnan(outside)


def test_points_are_scattered_evenly() -> None:
    x = SOLID.affine.to_white(SOLID.forward(SOLID.scattered(40_000, Streams.seeded(0, [64]))))
    exact = torch.cat([Dirichlet(torch.ones(4)).variance[:3], torch.tensor([1.0 / 12.0])]).to(F)
    assert_within(x.mean(0), torch.tensor([0.25, 0.25, 0.25, 0.5]), exact.sqrt() / 199.0, label="mean")
    assert_within(x.var(0), exact, exact * 1.5 / 199.0, label="variance")
    with pytest.raises(ValueError, match="bounded"):
        MIXED.scattered(10, Streams.seeded(0, [4]))


@pytest.mark.parametrize("seed", [0, *slow(1, 2)])
def test_numbers_in_order_have_their_mass(seed: int) -> None:
    """Five normal ones: in the user's coordinates a reference lost 99 % of its draws, and the evidence was 12 to 20 too low."""
    result = rdmc.sample(
        lambda x: torch.where(ordered(x), -0.5 * x.square().sum(-1), -torch.inf),
        dim=5,
        draws=250,
        seed=seed,
        sampler=QUICK,
        progressbar=False,
    )
    assert set(result.stages["support"]) == {"polyhedron"} and "flat faces" in result.summary()
    x = result.samples.flatten(0, 1)
    assert bool(ordered(x).all()) and bool(torch.isfinite(result.log_density).all())
    expected = torch.tensor([-1.16296447, -0.49501897, 0.0, 0.49501897, 1.16296447], dtype=F)  # of order statistics
    assert_within(x.mean(0), expected, x.std(0) / 500.0**0.5, label="mean")
    truth = 2.5 * math.log(2.0 * math.pi) - math.log(120.0)
    assert_within(result.log_evidence or math.nan, truth, result.log_evidence_mcse or math.nan, label="log evidence")


def test_a_pole_at_a_face_that_is_not_an_axis() -> None:
    """Dirichlet with shapes .3, 1, 2 and .4: poles where one share is 0, among them the one that is what others leave."""
    law = Dirichlet(torch.tensor([0.3, 1.0, 2.0, 0.4], dtype=F), validate_args=False)

    def f(x: Tensor) -> Tensor:
        full = torch.cat([x, 1.0 - x.sum(-1, keepdim=True)], -1)
        return torch.where((full > 0.0).all(-1), law.log_prob(full.clamp(min=1e-300)), -torch.inf)

    result = rdmc.sample(f, dim=3, draws=250, sampler=QUICK, progressbar=False)
    assert set(result.stages["support"]) == {"polytope"} and "polytope" in result.summary()
    x = result.samples.flatten(0, 1)
    assert_within(x.mean(0), law.mean[:3], law.variance[:3].sqrt() / 500.0**0.5, label="mean")
    assert_within(result.log_evidence or math.nan, 0.0, result.log_evidence_mcse or math.nan, label="log evidence")
    assert torch.tensor(result.modes["location"][0]).gt(0.0).all()


def test_bad_polyhedra_are_refused() -> None:
    for positive, simplices in ((-1, ()), (2, (0,)), (4, (3, 1))):
        with pytest.raises(ValueError, match="7 at most in all"):
            Polyhedron(MIXED.affine, positive, simplices)
