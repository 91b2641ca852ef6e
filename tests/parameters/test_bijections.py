"""Laws of the maps from real coordinates to values: determinant, round trip, support, batching, dtypes, and the law itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Beta, Gamma, LogNormal, MultivariateNormal, Pareto, biject_to, constraints

from rdmc.parameters import Parameter
from rdmc.parameters.bijections import CorrelationCholesky, Simplex
from tests.parameters.cases import CASES, LAWS, Case, F, Law, numbers

ALL = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def points(case: Case, *lead: int, scale: float = 1.5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*lead, case.parameter.size, generator=generator, dtype=F)


@ALL
def test_the_determinant_is_that_of_the_map(case: Case) -> None:
    for x in points(case, 5):
        _, log_det = case.parameter.forward(x)
        jacobian = torch.func.jacrev(lambda x: case.free(case.parameter.forward(x)[0]))(x)
        assert jacobian.shape == (x.shape[0], x.shape[0])
        torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian)[1], rtol=1e-10, atol=1e-10)


@ALL
def test_round_trips(case: Case) -> None:
    for scale in (0.1, 1.5, 40.0) if case.far else (0.1, 1.5):
        x = points(case, 7, 5, scale=scale)
        value, _ = case.parameter.forward(x)
        assert value.shape == (7, 5, *case.parameter.value_shape)
        torch.testing.assert_close(case.parameter.inverse(value), x, rtol=1e-10, atol=1e-10)
        again, _ = case.parameter.forward(case.parameter.inverse(value))
        torch.testing.assert_close(again, value, rtol=1e-10, atol=1e-10)


@ALL
def test_values_lie_in_the_support(case: Case) -> None:
    value, _ = case.parameter.forward(points(case, 50, scale=3.0))
    assert bool(case.parameter.constraint.check(value).all())  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@ALL
def test_no_point_leaves_the_support(case: Case, dtype: torch.dtype) -> None:
    """Distributions refuse values on an edge, and samplers ask for points from which values round to it."""
    if "ordered" in case.name:
        pytest.skip("neighbours may be equal after rounding")
    pattern = torch.rand(200, case.parameter.size, generator=torch.Generator().manual_seed(2))
    x = torch.where(pattern < 0.4, -1000.0, torch.where(pattern < 0.8, 60.0, 0.3)).to(dtype).requires_grad_(True)
    value, log_det = case.parameter.forward(x)
    assert bool(case.parameter.constraint.check(value).all())  # type: ignore[union-attr]
    for name, sign in (("lower_bound", 1.0), ("upper_bound", -1.0)):
        bound = getattr(case.parameter.constraint, name, None)
        if bound is not None:
            assert bool((sign * value > sign * torch.as_tensor(bound, dtype=dtype)).all())
    if case.parameter.size:
        (grad,) = torch.autograd.grad(value.sum() + log_det.sum(), x)
        assert bool(torch.isfinite(log_det).all()) and bool(torch.isfinite(grad).all())


def test_distributions_take_every_value() -> None:
    x = torch.tensor([-1000.0, 0.0, 60.0], dtype=F)
    for parameter, law in (
        (Parameter((), "positive"), Gamma(*numbers(0.5, 1.0))),
        (Parameter((), "positive"), LogNormal(*numbers(0.0, 1.0))),
        (Parameter((), "unit_interval"), Beta(*numbers(0.5, 0.5))),
        (Parameter((), constraints.greater_than(1.0)), Pareto(*numbers(1.0, 2.0))),
    ):
        value, log_det = parameter.forward(x[:, None])
        density = law.log_prob(value) + log_det
        assert bool(torch.isfinite(density).all()) and bool((density[::2] < -20.0).all())
    for dtype in (torch.float32, torch.float64):
        assert bool(torch.isfinite(1.0 / Parameter((), "positive").forward(x[:1].to(dtype))[0]))
    factor, _ = Parameter((2, 2), "lower_cholesky").forward(x.expand(3, 3))
    MultivariateNormal(torch.zeros(2, dtype=F), scale_tril=factor)


@ALL
def test_points_do_not_see_each_other(case: Case) -> None:
    x = points(case, 4, 3)
    value, log_det = case.parameter.forward(x)
    mapped = torch.vmap(torch.vmap(case.parameter.forward))(x)
    torch.testing.assert_close((value, log_det), mapped, rtol=1e-14, atol=1e-14)
    for i in range(4):
        alone = case.parameter.forward(x[i, 1])
        assert alone[0].shape == case.parameter.value_shape and alone[1].shape == ()
        torch.testing.assert_close((value[i, 1], log_det[i, 1]), alone, rtol=1e-14, atol=1e-14)
    empty, nothing = case.parameter.forward(x[:0])
    assert empty.shape == (0, 3, *case.parameter.value_shape) and nothing.shape == (0, 3)


@ALL
def test_gradients_flow(case: Case) -> None:
    if case.parameter.size:
        assert torch.autograd.gradcheck(case.parameter.forward, points(case, 3).requires_grad_(True))
        assert torch.autograd.gradcheck(
            lambda x: case.parameter.forward(x)[0].sin(), torch.zeros_like(points(case, 2)).requires_grad_(True)
        )


@ALL
def test_single_precision_stays_single(case: Case) -> None:
    x = points(case, 20)
    exact, single = case.parameter.forward(x), case.parameter.forward(x.float())
    assert single[0].dtype == single[1].dtype == torch.float32
    for a, b in zip(single, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)
    back = case.parameter.inverse(single[0])
    assert back.dtype == torch.float32
    torch.testing.assert_close(back.double(), x, rtol=1e-2, atol=1e-3)


@ALL
def test_shapes_are_known_without_values(case: Case) -> None:
    x = points(case, 4).to(torch.float32)
    for real, meta in zip(case.parameter.forward(x), case.parameter.forward(x.to("meta")), strict=True):
        assert (meta.shape, meta.dtype, meta.device.type) == (real.shape, real.dtype, "meta")
    assert case.parameter.inverse(case.parameter.forward(x.to("meta"))[0]).shape == x.shape


def test_coordinates_of_correlations_are_those_of_torch() -> None:
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1), dtype=F)
    transform = biject_to(constraints.corr_cholesky)
    y = transform(x)
    expected = y, transform.log_abs_det_jacobian(x, y)
    torch.testing.assert_close(CorrelationCholesky().forward(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (3, 0, 1, 2), (2, 3, 0, 1)])
def test_renumbering_a_simplex_turns_its_coordinates(order: tuple[int, ...]) -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=F)
    y, log_det = Simplex().forward(x)
    turned = Simplex().inverse(y[:, list(order)])
    matrix = torch.linalg.lstsq(x, turned).solution
    torch.testing.assert_close(x @ matrix, turned, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(3, dtype=F), rtol=0.0, atol=1e-12)
    torch.testing.assert_close(Simplex().forward(turned)[1], log_det, rtol=0.0, atol=1e-12)


def test_tiny_values_keep_their_digits() -> None:
    x = torch.tensor([[-300.0, 0.0, 0.0], [0.0, 0.0, 600.0]], dtype=F)
    value, log_det = Simplex().forward(x)
    assert bool((value > 0.0).all()) and bool(torch.isfinite(log_det).all())
    assert float(value[0, 0].log()) == pytest.approx(-600.0 / math.sqrt(2.0), abs=1e-9)
    assert float(value[1, 3].log()) == pytest.approx(-2400.0 / math.sqrt(12.0) - math.log(3.0), abs=1e-9)
    factor, log_det = CorrelationCholesky().forward(torch.tensor([150.0, -90.0, 0.5], dtype=F))
    assert float(factor[1, 1].log()) == pytest.approx(-150.0 + math.log(2.0), abs=1e-9)
    assert bool(torch.isfinite(log_det))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_density_with_the_determinant_is_the_law(law: Law) -> None:
    d = law.parameter.size
    nodes = {1: 4001, 2: 801, 3: 101}[d]
    axis = torch.linspace(-law.half_width, law.half_width, nodes, dtype=F)
    mass, moment = torch.zeros((), dtype=F), torch.zeros_like(law.mean)
    for first in axis.split(max(1, 400_000 // nodes ** (d - 1))):
        x = torch.cartesian_prod(first, *[axis] * (d - 1)).reshape(-1, d)
        value, log_det = law.parameter.forward(x)
        density = (law.log_prob(value) + log_det).exp() * (2.0 * law.half_width / (nodes - 1)) ** d
        mass += density.sum()
        moment += density @ law.statistic(value)
    assert float(mass) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(moment, law.mean, rtol=0.0, atol=1e-5)
