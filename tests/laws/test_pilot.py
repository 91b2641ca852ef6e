"""The pilot finds modes, scales and coordinates wherever they are, and says how sure it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import targets
from rdmc.coordinates import Affine, InCoordinates
from rdmc.density import Density, as_density
from rdmc.errors import DensityError
from rdmc.locate.curvature import principal_axes
from rdmc.locate.optimise import ascend
from rdmc.locate.pilot import Pilot, extended
from rdmc.locate.survey import Known, Survey
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from tests.marks import slow

F = torch.float64


def survey(target: object, seed: int = 0) -> Survey:
    pilot = Pilot()
    return pilot.run(as_density(target), Streams.seeded(seed, [pilot.starts]))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [0, *slow(1, 2)])
@pytest.mark.parametrize(
    "make",
    [
        *(lambda: targets.two_modes(8), lambda: targets.student_mixture(5), lambda: targets.label_switching()),
        *slow(
            lambda: targets.two_modes(64),
            lambda: targets.four_modes(),
            lambda: targets.eight_gaussians(weights="unequal"),
            lambda: targets.double_wells(5, 5, 4.0, 0.3),
        ),
    ],
    ids=["two8", "student", "labels", "two64", "four", "eight", "wells"],
)
def test_every_mode_is_found_under_any_disguise(make: object, seed: int) -> None:
    """A thousand units off, turned, with scales of .01 to 100 in its coordinates."""
    target = targets.disguise(make(), seed)  # type: ignore[operator]
    found = survey(target, seed)
    assert len(target.mode_of(found.modes).unique()) == len(target.mode_weights)
    assert found.unseen < 0.05


def test_coordinates_make_a_mode_round() -> None:
    """Condition number 1e8 in 60 dimensions: in the pilot's coordinates the covariance is the identity."""
    target = targets.disguise(targets.gaussian(60, condition=1e8), 4)
    found = survey(target)
    white = found.affine.to_white(target.sample(40_000, torch.Generator().manual_seed(0)))
    eigenvalues = torch.linalg.eigvalsh(torch.cov(white.T))
    assert float(eigenvalues[0]) > 0.85 and float(eigenvalues[-1]) < 1.15  # sampling noise at 40000 x 60 is .08
    assert float(white.mean(0).norm()) < 0.1


def test_weights_are_laplace_with_a_floor() -> None:
    found = survey(targets.two_modes(4))
    weights = found.surrogate.log_weight.exp().sort(descending=True).values
    root = 2**0.5 / (1 + 2**0.5)  # a fifth goes to the square roots
    assert weights.tolist() == pytest.approx([0.8 * 2 / 3 + 0.2 * root, 0.8 / 3 + 0.2 * (1 - root)], abs=1e-3)


@pytest.mark.parametrize(
    ("f", "sd"),
    [
        (lambda x: -x.abs().sum(-1), 0.75),  # a Laplace peak falls by 1.125 at 1.125 = 1.5 x .75; its Hessian is 0
        (lambda x: -x.pow(4).sum(-1), 1.125**0.25 / 1.5),  # a flat peak; its Hessian is 0 too
        (lambda x: -0.5 * (x / 3.0).square().sum(-1), 3.0),
    ],
    ids=["sharp", "flat", "gaussian"],
)
def test_widths_come_from_the_density_where_the_hessian_fails(f: object, sd: float) -> None:
    density = Density(f, 2)  # type: ignore[arg-type]
    x = torch.zeros(2, dtype=F)
    _, widths = principal_axes(density, x, density(x))
    assert widths.tolist() == pytest.approx([sd] * 2, rel=0.25)  # a width within a quarter is left as it is


def test_ascent_reaches_the_top_of_an_uneven_hill() -> None:
    precision = torch.diag(torch.logspace(-1.5, 1.5, 12, dtype=F))
    top = torch.arange(12, dtype=F)

    def f(x: Tensor) -> Tensor:
        return -0.5 * ((x - top) @ precision * (x - top)).sum(-1)

    start = 10.0 * torch.randn(5, 12, generator=torch.Generator().manual_seed(0), dtype=F)
    end = ascend(Density(f, 12), start, iterations=200)
    assert bool(end.converged.all()) and float(end.value.min()) > -1e-3


def test_ascent_leaves_a_heavy_tail() -> None:
    """log density -2 log(1 + x^2): convex far out, where Newton's method would run away."""
    density = Density(lambda x: -2.0 * torch.log1p(x.square()).sum(-1), 2)
    end = ascend(density, torch.tensor([[1e4, -3e3], [50.0, 0.1]], dtype=F))
    assert float(end.x.abs().max()) < 1e-2


def test_points_outside_the_support_never_move() -> None:
    density = Density(lambda x: torch.where(x.sum(-1) > 0, -x.square().sum(-1), -torch.inf), 2)
    start = torch.tensor([[-1.0, -1.0], [1.0, 2.0]], dtype=F)
    end = ascend(density, start)
    assert (
        torch.equal(end.x[0], start[0])
        and not bool(end.converged[0])
        and float(end.value[1]) > float(density(start[1]))
    )


def test_a_survey_seen_in_other_coordinates_is_the_same_survey() -> None:
    target = targets.disguise(targets.four_modes(), 1)
    found = survey(target)
    other = Affine(torch.tensor([3.0, -700.0], dtype=F), torch.tensor([[2.0, 0.3], [0.0, 50.0]], dtype=F))
    seen = found.seen_in(other)
    torch.testing.assert_close(seen.modes, found.modes, rtol=1e-8, atol=1e-6)
    x = target.sample(50, torch.Generator().manual_seed(0))
    one, two = (s.surrogate.log_prob(s.affine.to_white(x)) - s.affine.log_det() for s in (found, seen))
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


def test_modes_of_unlike_volume_are_told_in_any_coordinates() -> None:
    """Masses .2 and .8 at two volumes that differ by a factor of 2^3 = 8: a standard deviation of sqrt(.2 * .8) log(8)."""
    mixture = GaussianMixture.isotropic(
        torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]], dtype=F),
        torch.tensor([1.0, 2.0], dtype=F),
        torch.tensor([1.0, 4.0], dtype=F),
    )
    zeros = torch.zeros(2, dtype=F)
    survey = Survey(Affine.identity(3), mixture, zeros, zeros, 0.0)
    for seen in (survey, survey.whitened()):
        assert math.isclose(seen.unlike, 0.4 * math.log(8.0), rel_tol=1e-9)


def test_what_is_known_needs_no_pilot() -> None:
    mixture = GaussianMixture.isotropic(
        torch.tensor([[0.0, 5.0], [9.0, 5.0]], dtype=F),
        torch.tensor([0.5, 2.0], dtype=F),
        torch.tensor([1.0, 3.0], dtype=F),
    )
    found = Known(mixture).run(Density(mixture.log_prob, 2), Streams.seeded(0, [1]))
    torch.testing.assert_close(found.modes, mixture.mean)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=F)
    seen = found.surrogate.log_prob(found.affine.to_white(x)) - found.affine.log_det()
    torch.testing.assert_close(seen, mixture.log_prob(x))


def test_modes_without_a_valley_between_them_are_one() -> None:
    means = torch.tensor([[0.0], [1.5], [30.0]], dtype=F)
    mixture = GaussianMixture.isotropic(means, torch.ones(3, dtype=F), torch.ones(3, dtype=F))
    k = torch.zeros(3, dtype=F)
    assert Survey(Affine.identity(1), mixture, k, k, 0.0).groups() == [0, 0, 2]


def test_coordinates_transform_gradients() -> None:
    density = as_density(targets.four_modes())
    affine = Affine(torch.tensor([1.0, 2.0], dtype=F), torch.tensor([[2.0, 1.0], [0.0, 0.5]], dtype=F))
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(2), dtype=F).requires_grad_(True)
    value = targets.four_modes().log_density(affine.to_user(z))
    (grad,) = torch.autograd.grad(value.sum(), z)
    seen, seen_grad = InCoordinates(density, affine).value_and_grad(z.detach())
    torch.testing.assert_close(seen, value.detach())
    torch.testing.assert_close(seen_grad, grad)
    torch.testing.assert_close(affine.to_white(affine.to_user(z.detach())), z.detach())
    assert float(affine.log_det()) == pytest.approx(math.log(1.0))


@pytest.mark.parametrize(
    "bad", [{"starts": 0}, {"rounds": -1}, {"modes": 0}, {"radii": (0.0, 1.0)}, {"radii": (2.0, 1.0)}]
)
def test_bad_arguments_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}` must be"):
        Pilot(**bad)  # type: ignore[arg-type]


def test_a_support_out_of_sight_is_searched_for() -> None:
    """Finite only 300 units from the origin, so that none of the first 64 points may see it."""
    centre = torch.tensor([300.0, 0.0], dtype=F)

    def f(x: Tensor) -> Tensor:
        return torch.where((x - centre).norm(dim=-1) < 250.0, -0.5 * (x - centre).square().sum(-1), -torch.inf)

    pilot = Pilot(radii=(0.1, 10.0))
    found = pilot.run(Density(f, 2), Streams.seeded(0, [pilot.starts]))
    torch.testing.assert_close(found.modes, centre[None], rtol=0.0, atol=1e-3)


def test_a_best_point_that_is_no_mode_is_refused() -> None:
    """At -1e30 float64 cannot tell one nat from another: nothing found there means anything."""
    pilot = Pilot()
    with pytest.raises(DensityError, match="must lead from some starting point to a mode; the best point reached has"):
        pilot.run(Density(lambda x: -1e30 - 0.5 * x.square().sum(-1), 2), Streams.seeded(0, [pilot.starts]))


def test_modes_on_a_lattice_stay_apart() -> None:
    """Equal steps between two of them would fall on others, with no valley in sight."""
    mean = 20.0 * torch.arange(40, dtype=F)[:, None]
    mixture = GaussianMixture.isotropic(mean, torch.ones(40, dtype=F), torch.ones(40, dtype=F))
    k = torch.zeros(40, dtype=F)
    assert Survey(Affine.identity(1), mixture, k, k, 0.0).groups() == list(range(40))


def test_where_ascents_do_not_arrive_a_quarter_of_them_says_so() -> None:
    target = targets.funnel()
    found, density = survey(target), as_density(target)
    points = found.affine.to_white(target.sample(64, torch.Generator().manual_seed(1)))
    assert extended(InCoordinates(density, found.affine), found, points).modes.shape == found.modes.shape
    assert density.counter.gradients < 64 * 80  # all of them would take 64 * 160


@pytest.mark.parametrize("at", [0, 1], ids=["a scout", "another point"])
def test_further_ascents_find_a_mode_that_one_point_lies_at(at: int) -> None:
    mixture = GaussianMixture.isotropic(
        torch.tensor([[0.0, 5.0], [9.0, 5.0]], dtype=F), torch.ones(2, dtype=F), torch.ones(2, dtype=F)
    )
    density = Density(mixture.log_prob, 2)
    known = Known(GaussianMixture.isotropic(mixture.mean[:1], torch.ones(1, dtype=F), torch.ones(1, dtype=F)))
    found = known.run(density, Streams.seeded(0, [1]))
    points = mixture.mean[:1].repeat(64, 1)
    points[at] = mixture.mean[1] + 0.5
    more = extended(InCoordinates(density, found.affine), found, found.affine.to_white(points))
    torch.testing.assert_close(more.modes[more.modes[:, 0].argsort()], mixture.mean, rtol=0.0, atol=1e-3)


@pytest.mark.parametrize(("dim", "shift", "scales"), [(6, -300.0, 1.0), *slow((3, 1000.0, 2.0), (12, 500.0, 2.0))])
def test_a_way_up_between_walls_of_exponentials(dim: int, shift: float, scales: float) -> None:
    """Logarithms of gamma variables, turned, of scales from 1/100 to 100, and far away."""
    shape = torch.linspace(0.7, 4.0, dim, dtype=F)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(dim), dtype=F))[0]
    factor = turn * torch.logspace(-scales, scales, dim, dtype=F)
    back = torch.linalg.inv(factor)

    def log_density(x: Tensor) -> Tensor:
        y = (x - shift) @ back.T
        return (shape * y - y.exp()).sum(-1)

    found = Pilot().run(Density(log_density, dim), Streams.seeded(0, [64]))
    mode = shape.log() @ factor.T + shift
    assert found.surrogate.components == 1
    torch.testing.assert_close(float(found.peak[0]), float(log_density(mode[None])), rtol=0.0, atol=1e-4)
    off = (found.affine.to_user(found.surrogate.mean[0]) - mode) @ back.T
    assert float(off.abs().max()) < 0.02
