"""The pilot beyond ascents: a scan for narrow modes, an end where there are too many, and a way in from where nothing is finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import targets
from rdmc.density import Density, as_density
from rdmc.locate.approach import _Compressed, climb
from rdmc.locate.atlas import Atlas
from rdmc.locate.optimise import ascend
from rdmc.locate.pilot import Pilot
from rdmc.locate.scan import Scan, between
from rdmc.locate.survey import Overlooked
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.sampler import pilot_streams
from tests.correct.cases import as_target, core, streams
from tests.laws.cases import F, generator
from tests.marks import slow


@pytest.mark.parametrize("seed", [0, *slow(1, 2)])
def test_a_narrow_mode_beside_a_wide_one_is_found(seed: int) -> None:
    target = targets.disguise(targets.entropic_pair(5), seed)
    pilot = Pilot()
    found = pilot.run(as_density(target), Streams.seeded(seed, [pilot.starts]))
    assert len(target.mode_of(found.modes).unique()) == 2


def test_a_scan_chooses_the_points_that_see_a_spike() -> None:
    """A spike of sd .05 half a unit from the one known mode; to everything else the density is the known Gaussian."""
    spike = torch.tensor([0.5, 0.0], dtype=F)

    def f(x: Tensor) -> Tensor:
        narrow = 8.0 - 0.5 * ((x - spike) / 0.05).square().sum(-1)
        return torch.logaddexp(-0.5 * x.square().sum(-1), narrow)

    density, scan = Density(f, 2), Scan(65536)
    atlas = Atlas(density)
    atlas.add(torch.full((1, 2), -2.0, dtype=F))
    assert len(atlas.mean) == 1 and float(atlas.mean[0].norm()) < 0.1
    before = density.counter.densities
    points, _ = scan.run(atlas, atlas.surrogate(1)[0], 64, streams(16))
    assert 0 <= 2 * 65536 - (density.counter.densities - before) < 2 * 16 * 2 * scan.shells
    assert 1 <= len(points) <= 64
    assert bool((f(points) > -0.5 * points.square().sum(-1) + 0.1).all())


def boxed(x: Tensor) -> Tensor:
    """Within [0, 1]^5: a law of sd .1 at a corner, one of sd .02 inside, and a floor without a slope."""
    corner, inside = torch.full((5,), 0.02, dtype=F), torch.full((5,), 0.6, dtype=F)
    parts = [
        -0.5 * ((x - mean) / sd).square().sum(-1) - 5.0 * math.log(sd) for mean, sd in ((corner, 0.1), (inside, 0.02))
    ]
    value = torch.logsumexp(torch.stack([*parts, torch.full_like(parts[0], 3.0)]), 0)
    return torch.where(((x >= 0.0) & (x <= 1.0)).all(-1), value, -torch.inf)


@pytest.mark.parametrize("seed", [0, *slow(1)])
def test_bounds_leave_a_scan_its_points(seed: int) -> None:
    """Nearly all points about a mode in a corner have no density; in their place the box is filled."""
    pilot = Pilot()
    density = Density(boxed, 5)
    modes = pilot.run(density, Streams.seeded(seed, [pilot.starts])).modes
    assert float((modes - 0.6).norm(dim=1).min()) < 1e-3
    assert float((modes - 0.02).norm(dim=1).min()) < 1e-3


def test_points_between_are_uniform_on_the_ways() -> None:
    ends = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=F)
    x = between(ends, 20_001, streams(64))
    assert x.shape == (20_001, 2)
    torch.testing.assert_close(x[:, 1], 2.0 * x[:, 0])
    at_an_end = (x[:, 0] == 0.0) | (x[:, 0] == 1.0)  # a way from a point to itself
    assert abs(float(at_an_end.double().mean()) - 0.5) < 0.02
    inner = x[~at_an_end, 0]
    assert abs(float(inner.mean()) - 0.5) < 0.01 and abs(float(inner.var()) - 1.0 / 12.0) < 0.003


def wide_and_strange(x: Tensor) -> Tensor:
    """Gaussian with correlation, wider to the right than to the left: no Gaussian has its tails."""
    skewed = x[..., 0] * torch.where(x[..., 0] > 0, 0.2, 1.0)
    return -0.5 * (skewed.square() + 0.8 * skewed * x[..., 1] + x[..., 1].square())


def test_a_slope_is_one_wherever_a_density_is_quadratic_along_rays() -> None:
    """Also where the atlas has the width wrong by a factor of five; not beside a mode that the atlas doesn't know."""
    other = torch.tensor([3.0, 9.0], dtype=F)

    def f(x: Tensor) -> Tensor:
        return torch.logaddexp(wide_and_strange(x), -0.5 * ((x - other) / 0.3).square().sum(-1))

    atlas = Atlas(Density(f, 2))
    unit = GaussianMixture.isotropic(torch.zeros(1, 2, dtype=F), torch.ones(1, dtype=F), torch.ones(1, dtype=F))
    atlas.recall(unit, torch.zeros(1, dtype=F), torch.ones(1))
    generator_ = generator(0)
    away = 20.0 * torch.randn(400, 2, generator=generator_, dtype=F)
    away = away[(away - other).norm(dim=-1) > 6.0]
    slope, value = atlas.slope(away)
    torch.testing.assert_close(value, f(away))
    torch.testing.assert_close(slope, torch.ones_like(slope), atol=1e-6, rtol=0.0)
    near = other + 0.5 * torch.randn(100, 2, generator=generator_, dtype=F)
    assert float((atlas.slope(near)[0] - 1.0).abs().median()) > 0.5


def test_a_slope_outside_the_support_is_unknown_and_above_the_mode_infinite() -> None:
    f = Density(lambda x: torch.where(x[..., 0] > -1.0, -0.5 * x.square().sum(-1), -torch.inf), 2)
    atlas = Atlas(f)
    unit = GaussianMixture.isotropic(torch.zeros(1, 2, dtype=F), torch.ones(1, dtype=F), torch.ones(1, dtype=F))
    atlas.recall(unit, torch.full((1,), -5.0, dtype=F), torch.ones(1))
    slope, value = atlas.slope(torch.tensor([[-2.0, 0.0], [0.5, 0.5]], dtype=F))
    assert torch.isnan(slope[0]) and value[0] == -torch.inf and slope[1] == torch.inf


@pytest.mark.parametrize("seed", [2, *slow(0, 40)])
def test_modes_with_small_basins_are_found_beside_skewed_and_heavy_ones(seed: int) -> None:
    """In 3, 5 and 8 dimensions; without the slopes at scanned points a mode is lost in each."""
    target = targets.unlike_mixture(seed)
    pilot = Pilot()
    found = pilot.run(as_density(target), Streams.seeded(seed, [pilot.starts]))
    tops = target.mode_of(ascend(as_density(target), target.locations).x).unique()
    lost = sorted(set(tops.tolist()) - set(target.mode_of(found.modes).tolist()))
    assert not lost, f"lost {lost} of weights {target.mode_weights[lost].tolist()}"


def test_the_search_ends_when_all_places_are_taken() -> None:
    """2^12 modes and 8 places: far fewer rounds than allowed, and the survey says that more are unseen."""
    density = as_density(targets.double_wells(12, 12, 4.0))
    pilot = Pilot(starts=32, modes=8, rounds=32)
    found = pilot.run(density, streams(32))
    assert found.surrogate.components <= 8 and found.unseen > 0.3
    assert density.counter.densities < 8 * 32 * 32 + 32 * 32 * 24 * 12


def test_where_some_first_points_are_finite_they_are_taken_as_they_are() -> None:
    density, pilot = (
        Density(lambda x: torch.where(x[..., 0] > 0.0, -x.square().sum(-1), -torch.inf), 2),
        Pilot(starts=8),
    )
    x = pilot._usable_points(density, streams(8))
    assert torch.equal(x, pilot.first_points(2, streams(8))) and density.counter.densities == 8


@pytest.mark.parametrize("radius", [6e-3, 3e3])
def test_a_support_at_other_radii_is_searched_for(radius: float) -> None:
    """A shell of a factor four, inside or outside the first radii of .1 to 100: the finite points come first."""
    density = Density(
        lambda x: torch.where((x.norm(dim=-1) / radius).log().abs() < 0.7, -x[..., 0] / radius, -torch.inf), 2
    )
    x = Pilot(starts=8)._usable_points(density, streams(8))
    finite = torch.isfinite(density(x))
    assert x.shape == (8, 2) and bool(finite[0]) and bool((finite.long().diff() <= 0).all())


@pytest.mark.parametrize(("dim", "searches"), [(2, 128), (5, 51), (8, 32), (40, 32)])
def test_a_search_without_end_ends(dim: int, searches: int) -> None:
    """In two dimensions a support may be a few in a million of the directions; in many a longer search would be hopeless."""
    density = Density(lambda x: torch.full_like(x[..., 0], -torch.inf), dim)
    x = Pilot(starts=4)._usable_points(density, streams(4))
    assert x.shape == (4, dim) and density.counter.densities == 4 + 256 * 4 * searches


def test_the_compressed_density_has_its_gradient_and_its_order() -> None:
    density = as_target(core(2))
    x = (3.0 * torch.randn(20, 2, generator=generator(0), dtype=F)).requires_grad_(True)
    value, grad = _Compressed(density).value_and_grad(x.detach())
    (auto,) = torch.autograd.grad(torch.asinh(density.log_density(x)).sum(), x)
    torch.testing.assert_close(grad, auto)
    torch.testing.assert_close(value, _Compressed(density)(x.detach()))
    assert torch.equal(value.argsort(), density(x.detach()).argsort())
    assert _Compressed(density).dim == 2


def test_a_climb_leaves_an_abyss() -> None:
    """-cosh(5 x) 60 units out is -1e130: squares of its slopes overflow, and its logarithm leads to the top."""
    density = Density(lambda x: -(5.0 * x).cosh().sum(-1), 2)
    angle = torch.linspace(0.1, 6.0, 16, dtype=F)
    x = 60.0 * torch.stack([angle.cos(), angle.sin()], -1)
    end = climb(density, x)
    assert float(end.x[end.value.argmax()].norm()) < 1e-2
    plain = ascend(density, x)
    assert float(plain.value.max()) < float(end.value.max()) - 1e10  # control: without it, none gets there


def test_a_scan_that_finds_nothing_ends_the_search_also_beside_a_light_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mode 12 nats lighter than another is known and does not matter; it must not count as news."""
    events: list[str] = []
    look = Scan.run

    class Watched(Pilot):
        def _next_points(self, atlas: Atlas, rng: Streams) -> Tensor:
            events.append("round")
            return super()._next_points(atlas, rng)

    def watched(
        scan: Scan, atlas: Atlas, known: GaussianMixture, groups: int, rng: Streams, crowd: None
    ) -> tuple[Tensor, Overlooked]:
        assert len(atlas.mean) == 2 and len(atlas.heavy()) == 1
        events.append("scan")
        return look(scan, atlas, known, groups, rng)

    monkeypatch.setattr(Scan, "run", watched)

    def f(x: Tensor) -> Tensor:
        light = -12.0 - 0.5 * (x - 9.0).square().sum(-1)
        return torch.logaddexp(-0.5 * (x + 3.0).square().sum(-1), light)

    Watched().run(Density(f, 2), streams(64))
    assert events.count("scan") == 1 and events[-1] == "scan"


def test_a_sketch_of_too_many_modes_has_both_wells_of_every_coordinate() -> None:
    """The 64 heaviest of those found would leave one coordinate with one well, and so would every law fitted to them."""
    target = targets.disguise(targets.many_well(32), 3)
    pilot = Pilot()
    found = pilot.run(as_density(target), Streams.seeded(0, [pilot.starts]))
    wells = ((found.modes - target.offset) @ target.inverse.T)[:, ::2] > 0.0
    share = wells.double().mean(0)
    assert found.surrogate.components <= 64
    assert bool(((share > 0.05) & (share < 0.95)).all()), f"shares of the right well: {share.tolist()}"


def test_an_ascent_that_stalled_on_the_way_does_not_hide_the_mode() -> None:
    """In heavy tails the gradient is next to nothing; whoever later reaches the top takes the place."""
    f = Density(lambda x: -2.5 * torch.log1p(x.square().sum(-1)), 2)
    stalled = torch.tensor([[300.0, 400.0]], dtype=F)
    atlas = Atlas(f)
    atlas.recall(
        GaussianMixture.isotropic(stalled, torch.ones(1, dtype=F), torch.ones(1, dtype=F)), f(stalled), torch.ones(1)
    )
    atlas.add(torch.tensor([[0.5, -0.3]], dtype=F))
    assert len(atlas.mean) == 1 and float(atlas.mean[0].norm()) < 1e-3


def test_modes_are_found_from_far_out_in_heavy_tails() -> None:
    target = targets.disguise(targets.student_mixture(10), 3)
    pilot = Pilot()
    found = pilot.run(as_density(target), Streams.seeded(0, [pilot.starts]))
    assert sorted(target.mode_of(found.modes).unique().tolist()) == list(range(10))


@pytest.mark.parametrize("seed", [0, *slow(1, 2)])
def test_modes_in_all_directions_are_found_from_two(seed: int) -> None:
    """In d = 50 two modes show their distance in one direction only; points as wide in all reach none but the widest."""
    base = targets.random_mixture(50, 10)
    target = targets.affine(base, 7.0 * torch.eye(50, dtype=F), torch.full((50,), 40.0, dtype=F))
    pilot = Pilot()
    found = pilot.run(as_density(target), Streams.seeded(seed, [pilot.starts], [(0xFFFFFFFF,)]))
    assert len(target.mode_of(found.modes).unique()) >= 9, found.hits.tolist()


def test_a_search_that_begins_in_the_abyss() -> None:
    """The best of the first points has a log density of -2e153, whose slope squared is no number; at other radii it is higher."""
    plain, hidden = targets.eight_schools(), targets.disguise(targets.eight_schools(), 23)
    heights = []
    for target in (plain, hidden):
        density = as_density(target)
        heights.append(Pilot(scan=1).run(density, pilot_streams(density, 2, 64)).peak.max())
    first = Pilot().first_points(hidden.dim, pilot_streams(as_density(hidden), 2, 64))
    assert float(hidden.log_density(first).max()) < -1e100
    assert float(heights[1] - heights[0]) == pytest.approx(float(-torch.linalg.slogdet(hidden.matrix)[1]), abs=1e-4)
