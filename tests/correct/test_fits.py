"""What is fitted comes out as what it was: curvature, directions, products, mixtures, and the points of a trail."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian

import targets
from rdmc.correct import fit_mixture, fit_product, independent_directions
from rdmc.correct.axes import fit_axes
from rdmc.correct.fit import whitening
from rdmc.correct.judge import forward_efficiency
from rdmc.correct.reference import covering
from rdmc.density import Density
from rdmc.locate.curvature import local_axes, precisions
from rdmc.locate.trail import Trail
from rdmc.mixture import GaussianMixture
from rdmc.student import StudentMixture
from tests.correct.cases import core, pair, streams
from tests.laws.cases import F, generator, spd

D = 4


def randn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=F)


def covariances(precision: Tensor, width: Tensor, widest: float) -> Tensor:
    axes, sd = local_axes(precision, width, widest)
    return (axes * sd.square()[:, None, :]) @ axes.mT


def quadratic(precision: Tensor, top: Tensor) -> Density:
    return Density(lambda x: -0.5 * ((x - top) @ precision * (x - top)).sum(-1), len(top))


@pytest.mark.parametrize("decades", [0.0, 3.0])
def test_curvature_of_a_quadratic_is_exact_everywhere(decades: float) -> None:
    """Coordinates of scales over up to six decades, points far from the top too; and a covariance is its inverse."""
    scale = torch.logspace(-decades, decades, D, dtype=F)
    covariance = scale[:, None] * spd(D, 3) * scale
    precision = torch.linalg.inv(covariance)
    density = quadratic(precision, 3.0 * scale)
    x = scale * torch.cat([torch.full((1, D), 3.0, dtype=F), 10.0 * randn(6, D)])
    found, width = precisions(density, x)
    unit = scale[:, None] * scale
    torch.testing.assert_close(found * unit, (precision * unit).expand(7, D, D), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(width, precision.diagonal().rsqrt().expand(7, D), rtol=1e-7, atol=0.0)
    assert density.counter.gradients == 7 * 4 * D
    back = covariances(found, width, widest=math.inf)
    torch.testing.assert_close(back / unit, (covariance / unit).expand(7, D, D), rtol=1e-6, atol=1e-6)


def test_a_scale_is_that_of_the_bending_whichever_way_and_bounded() -> None:
    saddle = torch.diag(torch.tensor([4.0, -0.25, 1e-6], dtype=F))
    found, width = precisions(quadratic(saddle, torch.zeros(3, dtype=F)), torch.ones(2, 3, dtype=F))
    covariance = covariances(found, width, widest=30.0)
    expected = torch.diag(torch.tensor([0.25, 4.0, 900.0], dtype=F)).expand(2, 3, 3)
    torch.testing.assert_close(covariance, expected, rtol=1e-5, atol=1e-5)


def test_at_an_edge_a_coordinate_has_the_scale_of_its_slope() -> None:
    """exp(-5 x) on x > 0, beside a Gaussian coordinate of sd 2: at the edge 1/5 alone, and the rest as ever."""

    def f(x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 0.0, -5.0 * x[..., 0] - x[..., 1].square() / 8.0, -torch.inf)

    found, width = precisions(Density(f, 2), torch.tensor([[1e-12, 1.0]], dtype=F))
    torch.testing.assert_close(found[0], torch.diag(torch.tensor([25.0, 0.25], dtype=F)), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(width[0], torch.tensor([0.2, 2.0], dtype=F), rtol=1e-6, atol=0.0)


def factorising(dim: int, seed: int) -> tuple[Density, Tensor]:
    """Independent coordinates of other shapes, seen through a random matrix; and the matrix."""
    matrix = randn(dim, dim, seed=seed) * torch.logspace(-1.0, 1.0, dim, dtype=F)
    inverse, power = torch.linalg.inv(matrix), torch.linspace(0.5, 1.5, dim, dtype=F)

    def f(x: Tensor) -> Tensor:
        z = x @ inverse.T
        return (-0.5 * z.square() - (power * z).cosh().log() + 0.3 * (z + power).sin()).sum(-1)

    return Density(f, dim), matrix


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("dim", [2, 6])
def test_directions_of_independence_are_found(dim: int, seed: int) -> None:
    """Up to order, scale and sign, from five points."""
    density, matrix = factorising(dim, seed)
    points = 1.5 * randn(5, dim, seed=9) @ matrix.T
    exact = torch.stack([-hessian(lambda x: density.log_density(x[None])[0], point) for point in points])
    # differences of step h = 1e-3 widths leave O(h^2)
    for precision, error in ((exact, 1e-8), (precisions(density, points)[0], 1e-4)):
        relation = torch.linalg.solve(matrix, independent_directions(precision))
        relation = (relation / relation.abs().amax(0)).abs()
        assert relation.argmax(0).sort().values.tolist() == list(range(dim))
        assert float(relation.sort(0).values[:-1].max()) < error


def test_a_product_of_64_modes_is_fitted_as_one() -> None:
    """2^6 modes, turned, from 1000 draws and Hessians at 10 of them; no list of modes."""
    target = targets.disguise(targets.double_wells(6, 6, 4.0, 0.3), 2)
    points = target.sample(1000, generator(0))
    density = Density(target.log_density, 6)
    law = fit_product(points, independent_directions(precisions(density, points[:10])[0]))
    x = law.draw(streams(4000))[0]
    assert float(forward_efficiency(target.log_density(x) - law.log_prob(x))) > 0.5


def test_axes_are_fitted_by_mode() -> None:
    """Two modes of independent Student coordinates along known directions: location, scale and weight of each."""
    directions, n = torch.tensor([[2.0, 1.0], [0.0, 0.5]], dtype=F), 20_000
    scale = torch.tensor([[0.3, 1.0], [0.8, 0.2]], dtype=F)
    mean = torch.tensor([[-6.0, 0.0], [6.0, 3.0]], dtype=F)
    label = (torch.rand(n, generator=generator(0)) < 0.7).long()
    t = randn(n, 2, seed=2) / (randn(n, 2, 2, seed=3).square().sum(-1) / 2.0).sqrt()
    points = (mean[label] + scale[label] * t) @ directions.T
    modes = GaussianMixture.isotropic(mean @ directions.T, 2.0 * torch.ones(2, dtype=F), torch.ones(2, dtype=F))
    law = fit_axes(points, directions, modes, df=2)
    assert law.log_weight.exp().tolist() == pytest.approx([0.3, 0.7], abs=0.02)
    located = law.affine.to_user(law.mean) @ torch.linalg.inv(directions).T
    torch.testing.assert_close(located, mean, rtol=0.0, atol=0.06)  # 5 sd of a median of 6000 draws is .09 x scale
    torch.testing.assert_close(law.scale / scale, torch.ones(2, 2, dtype=F), rtol=0.0, atol=0.12)


def test_a_fitted_mixture_is_near_the_law_and_follows_its_coordinates() -> None:
    truth, factor = pair(), torch.tensor([[300.0, 100.0], [0.0, 0.01]], dtype=F)
    points = truth.draw(streams(2000))[0]
    x = truth.draw(streams(2000, 1))[0]
    fit = fit_mixture(points, 10)
    loss = truth.log_prob(x) - fit.log_prob(x)
    assert float(loss.mean()) < -math.log(0.8)  # nats that weights moved by a fifth may cost, wherever to
    stretched = fit_mixture(points @ factor.T, 10)
    other = truth.log_prob(x) - (stretched.log_prob(x @ factor.T) + torch.linalg.slogdet(factor)[1])
    assert float(other.mean()) < -math.log(0.8)


def test_components_of_a_fit_need_points() -> None:
    points = core(2).draw(streams(100))[0]
    assert fit_mixture(points, 40).components <= 100 // 18
    assert fit_mixture(points[:10], 40).components == 1


def test_whitening_and_covering_have_the_moments_of_the_points() -> None:
    points = randn(500, D) @ spd(D, 1) * torch.logspace(-3, 3, D, dtype=F) + 100.0
    white = whitening(points).to_white(points)
    torch.testing.assert_close(white.mean(0), torch.zeros(D, dtype=F), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(D, dtype=F), rtol=0.0, atol=1e-6)
    mean, covariance = covering(points, 2.0).moments()
    unit = torch.outer(points.std(0), points.std(0))
    torch.testing.assert_close(mean, points.mean(0))
    torch.testing.assert_close(covariance / unit, 4.0 * torch.cov(points.T) / unit, rtol=1e-6, atol=1e-6)


def test_a_trail_keeps_what_was_climbed() -> None:
    density = Density(lambda x: torch.where(x[..., 0] < 9.0, -x.square().sum(-1), torch.nan), 2)
    trail = Trail(density)
    points = randn(3, 11, 2)
    value, grad = trail.value_and_grad(points)
    trail.value_and_grad(torch.tensor([[10.0, 0.0]], dtype=F))  # no number: not kept
    trail(randn(50, 2, seed=5))  # no gradient: not kept
    assert density.counter.gradients == 34 and trail.dim == 2
    torch.testing.assert_close(grad, -2.0 * points)
    every, values = trail.thinned(1000)
    assert torch.equal(values, value.flatten().sort(descending=True).values)
    assert torch.equal(values, -every.square().sum(-1))
    some, kept = trail.thinned(5)
    assert torch.equal(some, every[[0, 8, 16, 24, 32]]) and torch.equal(kept, values[[0, 8, 16, 24, 32]])


def test_light_tails_of_a_student_law_are_a_gaussians() -> None:
    x = randn(6, 2)
    torch.testing.assert_close(StudentMixture(core(2), 10**7).log_prob(x), core(2).log_prob(x), rtol=1e-4, atol=1e-4)


def test_axes_of_more_modes_than_points_are_those_of_all_points() -> None:
    points = 3.0 + 2.0 * randn(300, 2)
    modes = GaussianMixture.isotropic(
        5.0 * randn(100, 2, seed=2) + 3.0, torch.full((100,), 0.1, dtype=F), torch.ones(100, dtype=F)
    )
    assert int(torch.bincount(modes.log_responsibilities(points).argmax(-1)).max()) >= 8  # some have points enough
    few = fit_axes(points[:40], torch.eye(2, dtype=F), modes, df=5)
    assert few.mean.shape == (1, 2) and float((few.affine.to_user(few.mean) - 3.0).abs().max()) < 1.5
    assert bool(torch.isfinite(few.log_prob(points)).all())


def test_copies_of_a_point_make_no_atom() -> None:
    """Beside 200 different points, 100 copies of one of them, and 98 of seven others in a mode of their own."""
    random = generator(11)
    modes = GaussianMixture.isotropic(
        torch.tensor([[0.0, 0.0], [30.0, 0.0]], dtype=F), torch.ones(2, dtype=F), torch.ones(2, dtype=F)
    )
    wide = torch.randn(200, 2, generator=random, dtype=F)
    seven = torch.tensor([30.0, 0.0], dtype=F) + torch.randn(7, 2, generator=random, dtype=F)
    points = torch.cat([wide, wide[:1].expand(100, 2), seven.repeat(14, 1)])
    law = fit_axes(points, torch.eye(2, dtype=F), modes, df=5)
    assert law.log_weight.shape == (1,)
    truth = wide.quantile(0.75, dim=0) - wide.quantile(0.25, dim=0)
    told = law.scale[0] * 2.0 * 0.7266868438  # quartiles of Student's law with 5 degrees of freedom
    torch.testing.assert_close(told, truth, atol=1e-6, rtol=1e-6)
    x, _ = law.draw(streams(200))
    value, grad = law.value_and_grad(x)
    assert bool(torch.isfinite(value).all()) and bool(torch.isfinite(grad).all())
