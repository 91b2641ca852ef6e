"""Laws of the one place that calls user code: batching, gradients, counting, the edge of the support."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rdmc.density import Counter, Density, as_density
from tests.laws.cases import F, generator

N, B, D = 7, 5, 3


def batched(x: Tensor) -> Tensor:
    """``(M, d) -> (M,)``, asymmetric."""
    return (x - x.exp()).sum(-1) + x[:, 0] * x[:, 1]


def per_point(x: Tensor) -> Tensor:
    """``(d,) -> ()``, the same."""
    return (x - x.exp()).sum() + x[0] * x[1]


def closed(x: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of the same."""
    swapped = torch.stack([x[:, 1], x[:, 0], torch.zeros_like(x[:, 0])], -1)
    return batched(x), 1.0 - x.exp() + swapped


def points(*shape: int) -> Tensor:
    """Where to look."""
    return torch.randn(*shape, D, generator=generator(0), dtype=F)


@pytest.mark.parametrize("density", [Density(batched, D), Density(batched, D, closed)], ids=["autograd", "closed"])
def test_any_leading_shape_gives_value_and_gradient(density: Density) -> None:
    x = points(N, B)
    given = x.clone()
    value, grad = density.value_and_grad(x)
    torch.testing.assert_close(value, density(x))
    torch.testing.assert_close(grad, closed(x.view(-1, D))[1].view_as(x))
    assert value.shape == (N, B) and grad.shape == x.shape and not (value.requires_grad or grad.requires_grad)
    assert torch.equal(x, given) and not x.requires_grad
    single, at_single = density.value_and_grad(x[0, 0])
    torch.testing.assert_close((single, at_single), (value[0, 0], grad[0, 0]))


def test_a_strided_or_tracked_input_is_left_alone() -> None:
    x = points(N, B).transpose(0, 1)[:, ::2].requires_grad_(True)
    value, grad = Density(batched, D).value_and_grad(x)
    assert not (value.requires_grad or grad.requires_grad) and x.grad is None


def test_points_are_counted_by_kind() -> None:
    density = Density(batched, D)
    density(points(N, B))
    density.value_and_grad(points(B))
    density.value_and_grad(points(2))
    assert (density.counter.gradients, density.counter.densities) == (B + 2, N * B)
    assert repr(density.counter) == f"Counter(gradients={B + 2}, densities={N * B})"
    assert Density(batched, D).counter is not density.counter


@pytest.mark.parametrize("with_closed", [False, True])
def test_outside_the_support_the_gradient_is_zero(with_closed: bool) -> None:
    def log(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0.0, x[:, 0].sqrt().log(), -torch.inf) - x.square().sum(-1)

    def closed_log(x: Tensor) -> tuple[Tensor, Tensor]:
        return log(x), torch.full_like(x, torch.nan)

    x = torch.tensor([[-1.0, 2.0, 0.0], [0.5, 2.0, 0.0]], dtype=F)
    value, grad = Density(log, D, closed_log if with_closed else None).value_and_grad(x)
    assert float(value[0]) == -math.inf and torch.equal(grad[0], torch.zeros(D, dtype=F))
    assert bool(torch.isnan(grad[1]).all()) == with_closed


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_plus_infinity_pass_unchanged(bad: float) -> None:
    density = Density(lambda x: torch.where(x[:, 0] > 0.0, bad, batched(x)), D)
    x = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], dtype=F)
    for value in (density(x), density.value_and_grad(x)[0]):
        assert not bool(torch.isfinite(value[0])) and bool(torch.isfinite(value[1]))
        assert torch.equal(torch.isnan(value), torch.tensor([math.isnan(bad), False]))


def test_a_function_of_one_point_is_mapped_over_the_batch() -> None:
    x = points(4)
    given = Density(per_point, D)
    density = given.check(x)
    value, grad = density.value_and_grad(points(N, B))
    torch.testing.assert_close((value, grad), Density(batched, D, closed).value_and_grad(points(N, B)))
    assert density.counter is given.counter and given.counter.densities > 0


def quadratic(x: Tensor) -> Tensor:
    """Works for a point and for a batch alike."""
    return -0.5 * x.square().sum(-1)


@pytest.mark.parametrize("density", [Density(batched, D), Density(batched, D, closed), Density(quadratic, D)])
def test_a_good_density_passes_as_it_is(density: Density) -> None:
    assert density.check(points(4)) is density
    assert density.counter.densities > 0 and density.counter.gradients > 0


@dataclass
class Model:
    """An object with a dimension and a log density."""

    dim: int = D

    def log_density(self, x: Tensor) -> Tensor:
        """The value."""
        return batched(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The value with its gradient."""
        return closed(x)


def test_as_density_takes_what_a_caller_may_hold() -> None:
    x = points(N)
    known = Density(batched, D, counter=Counter())
    for given, dim in ((batched, D), (known, None), (known, D), (Model(), None), (Model(), D)):
        density = as_density(given, dim)
        torch.testing.assert_close(density.value_and_grad(x), closed(x))
        assert density.counter.gradients == N
    assert known.counter.gradients == 0
    assert as_density(Model()).gradient is not None
    assert as_density(quadratic, 2, dtype=torch.float32, device="cpu").dtype == torch.float32
