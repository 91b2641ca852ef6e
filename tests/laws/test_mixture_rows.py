"""Every way in which a mixture turns its rows is the same linear map: copied, sorted by label, or one for all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rdmc.mixture import GaussianMixture, squared_norm

F = torch.float64
SHAPE = (3, 7)


def mixture(components: int, dim: int, particles: int | None = None) -> GaussianMixture:
    """Components with axes, widths and weights of their own."""
    generator = torch.Generator().manual_seed(components + dim)
    lead = () if particles is None else (particles,)
    mean = torch.randn(*lead, components, dim, generator=generator, dtype=F)
    basis = torch.linalg.qr(torch.randn(components, dim, dim, generator=generator, dtype=F))[0]
    variance = torch.rand(components, dim, generator=generator, dtype=F) + 0.1
    return GaussianMixture(torch.randn(*lead, components, generator=generator, dtype=F), mean, basis, variance)


def points(dim: int) -> tuple[Tensor, Tensor]:
    """Rows, and a label for each; label 1 is never used."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(*SHAPE, dim, generator=generator, dtype=F), 2 * torch.randint(2, SHAPE, generator=generator)


@pytest.mark.parametrize("dim", [1, 3, 8, 9, 20])
@pytest.mark.parametrize("components", [1, 3])
def test_colour_is_the_square_root_of_the_named_covariance(components: int, dim: int) -> None:
    g = mixture(components, dim)
    z, label = points(dim)
    label = label.clamp(max=components - 1)
    for i in range(SHAPE[0]):
        for j in range(SHAPE[1]):
            k = int(label[i, j])
            root = g.basis[k] @ torch.diag(g.variance[k].sqrt())
            assert torch.allclose(g.colour(z, label)[i, j], root @ z[i, j], rtol=1e-12, atol=1e-13)
            assert torch.allclose(g.colour_transpose(z, label)[i, j], root.T @ z[i, j], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("particles", [None, 7])
@pytest.mark.parametrize("dim", [1, 3, 4, 20])
def test_whitening_and_its_gradient(dim: int, particles: int | None) -> None:
    g = mixture(3, dim, particles)
    x, _ = points(dim)
    expected = torch.einsum("...ki,kij->...kj", x[..., None, :] - g.mean, g.basis) / g.variance.sqrt()
    assert torch.allclose(g.white(x), expected, rtol=1e-11, atol=1e-12)
    assert torch.allclose(squared_norm(expected), expected.square().sum(-1), rtol=1e-13)
    leaf = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(g.log_prob(leaf).sum(), leaf)
    value, grad = g.value_and_grad(x)
    assert torch.allclose(grad, slope, rtol=1e-9, atol=1e-10)
    assert torch.allclose(value, g.log_prob(x), rtol=1e-13)
