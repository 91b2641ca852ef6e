"""Gradients from differences where automatic differentiation has none."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.locate.mended import Mended
from rdmc.locate.optimise import ascend
from tests.laws.cases import F

PLACE = torch.tensor([300.0, -200.0], dtype=F)


def overflowing(x: Tensor) -> Tensor:
    """A normal law, and a log-gamma product of which exp overflows where the normal law is."""
    z = (x + 700.0) / 0.5
    return torch.logaddexp(-0.5 * (x - PLACE).square().sum(-1), (z - z.exp()).sum(-1))


def test_the_gradient_is_the_normal_laws_own() -> None:
    x = PLACE + torch.tensor([[3.0, -4.0], [0.0, 1.0], [0.0, 0.0]], dtype=F)
    density = Density(overflowing, 2)
    assert bool(torch.isnan(density.value_and_grad(x)[1]).all())
    before = density.counter.densities
    value, grad = Mended(density).value_and_grad(x)
    assert density.counter.densities - before == 2 * 2 * len(x)
    torch.testing.assert_close(value, density(x))
    torch.testing.assert_close(grad, PLACE - x, atol=1e-6, rtol=0.0)


def test_where_a_gradient_is_known_it_is_left_alone_and_costs_nothing() -> None:
    x = torch.tensor([[-702.0, -701.0], [-690.0, -700.5]], dtype=F)
    density = Density(overflowing, 2)
    value, grad = density.value_and_grad(x)
    before = density.counter.densities
    again = Mended(density).value_and_grad(x)
    assert torch.equal(again[0], value) and torch.equal(again[1], grad)
    assert density.counter.densities == before


def test_at_the_edge_of_the_support_a_gradient_stays_unknown() -> None:
    """sqrt has none at 0, and the differences reach outside."""
    density = Density(lambda x: torch.where(x[..., 0] >= 0, (0.0 * x[..., 0]).sqrt(), -math.inf), 1)
    value, grad = Mended(density).value_and_grad(torch.zeros(1, 1, dtype=F))
    assert float(value) == 0.0 and not bool(torch.isfinite(grad).any())


def test_ascents_go_through_where_no_gradient_is_known() -> None:
    end = ascend(Density(overflowing, 2), PLACE + torch.tensor([[30.0, 40.0], [-20.0, 5.0]], dtype=F))
    assert bool(end.converged.all())
    torch.testing.assert_close(end.x, PLACE.expand(2, 2), atol=1e-3, rtol=0.0)
