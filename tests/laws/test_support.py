"""Supports of every kind: a density seen without its bounds has the values, slopes and ends that the map implies."""

from __future__ import annotations

import math

import pytest
import torch

from rdmc.archive import pack, unpack
from rdmc.density import Density
from rdmc.supports.box import Box
from rdmc.supports.polyhedron import Polyhedron
from rdmc.supports.support import Support
from tests.correct.cases import moved
from tests.exact.meta import META
from tests.laws.cases import F, generator
from tests.laws.supports import BOX, MIXED, SOLID, affine

SUPPORTS = [BOX, MIXED, SOLID]
every = pytest.mark.parametrize("support", SUPPORTS, ids=["box", "polyhedron", "polytope"])


def dim(support: Support) -> int:
    return len(support.lower) if isinstance(support, Box) else support.affine.dim  # type: ignore[attr-defined]


def points(support: Support, count: int, seed: int) -> torch.Tensor:
    return 2.0 * torch.randn(count, dim(support), generator=generator(seed), dtype=F)


@every
def test_coordinates_come_back(support: Support) -> None:
    y = points(support, 500, 0)
    torch.testing.assert_close(support.inverse(support.forward(y)), y, rtol=1e-7, atol=1e-7)


@every
def test_values_have_the_derivatives_of_the_map(support: Support) -> None:
    """The log determinant and the gradient, against autograd."""
    y = points(support, 30, 1)
    density = Density(lambda x: -0.3 * (1.0 + (x.sum(-1) - 1.0).square()).sqrt(), dim(support))
    seen = support.seen(density)
    for row in y:
        jacobian = torch.autograd.functional.jacobian(support.forward, row)
        value = density(support.forward(row)) + torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(seen(row), value, rtol=1e-10, atol=1e-10)
    leaf = y.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(seen.log_density(leaf).sum(), leaf)
    value, own = seen.value_and_grad(y)
    torch.testing.assert_close(own, grad)
    torch.testing.assert_close(value, seen(y))
    assert density.counter.gradients == 30


@every
def test_nothing_waits_for_the_device(support: Support) -> None:
    d, away = dim(support), moved(support, F, META)
    seen = away.seen(Density(lambda x: -x.square().sum(-1), d, device=META))
    y = torch.zeros(5, d, dtype=F, device=META)
    value, grad = seen.value_and_grad(y)
    assert value.shape == seen(y).shape == (5,) and grad.shape == (5, d) and grad.device == META
    assert away.inverse(away.forward(y)).shape == (5, d)


@every
def test_it_is_kept_in_a_file(support: Support) -> None:
    y = points(support, 20, 2)
    assert torch.equal(unpack(pack(support)).forward(y), support.forward(y))


@pytest.mark.parametrize(
    "half",
    [
        Box(torch.tensor([0.0, -math.inf], dtype=F), torch.full((2,), math.inf, dtype=F)),
        Polyhedron(affine(2), positive=1),
    ],
    ids=["box", "polyhedron"],
)
def test_beyond_the_largest_number_there_is_nothing(half: Support) -> None:
    """A tail as of a Cauchy law over 1/x would rise for ever where x is no number any more."""
    seen = half.seen(Density(lambda x: -2.0 * x.abs().log1p().sum(-1), 2))
    far = torch.tensor([[680.0, 0.0], [1e4, 0.0], [-1e4, 0.0]], dtype=F)
    value, _ = seen.value_and_grad(far)
    assert torch.isfinite(value[0]) and value[1:].tolist() == [-math.inf] * 2 == seen(far)[1:].tolist()
