"""Laws of Gaussian mixtures: torch.distributions, autograd, Bayes' rule and moments of draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from tests.laws.cases import F, bimodal, generator, spd
from tests.stats import assert_within

N, B, D, K = 7, 5, 3, 4


def parts() -> tuple[Tensor, Tensor, Tensor]:
    """Means, covariances and weights of an asymmetric mixture."""
    mean = 2.0 * torch.randn(K, D, generator=generator(0), dtype=F)
    return mean, torch.stack([spd(D, k) * (0.3 + k) for k in range(K)]), torch.tensor([1.0, 0.2, 3.0, 0.7], dtype=F)


def reference() -> MixtureSameFamily:
    """The same in torch.distributions."""
    mean, covariance, weight = parts()
    return MixtureSameFamily(Categorical(weight), MultivariateNormal(mean, covariance))


def randn(*shape: int, seed: int = 1) -> Tensor:
    """Normal draws of a test's own."""
    return 2.0 * torch.randn(*shape, generator=generator(seed), dtype=F)


def test_density_is_that_of_torch() -> None:
    g, x = GaussianMixture.from_covariance(*parts()), randn(N, B, D)
    torch.testing.assert_close(g.log_prob(x), reference().log_prob(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(g.log_responsibilities(x).exp().sum(-1), torch.ones(N, B, dtype=F))
    assert (g.components, g.dim) == (K, D)


def test_isotropic_is_a_special_case() -> None:
    mean, _, weight = parts()
    sd = torch.tensor([0.1, 0.5, 1.0, 2.0], dtype=F)
    covariance = sd.square()[:, None, None] * torch.eye(D, dtype=F)
    x = randn(N, D)
    one, two = GaussianMixture.isotropic(mean, sd, weight), GaussianMixture.from_covariance(mean, covariance, weight)
    torch.testing.assert_close(one.log_prob(x), two.log_prob(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("conditioned", [False, True])
def test_gradient_is_that_of_autograd(conditioned: bool) -> None:
    g = GaussianMixture.from_covariance(*parts())
    g = g.condition(randn(B, D, seed=3), 0.6, 0.9) if conditioned else g
    x = randn(N, B, D).requires_grad_(True)
    value, grad = g.value_and_grad(x.detach())
    (auto,) = torch.autograd.grad(g.log_prob(x).sum(), x)
    torch.testing.assert_close(grad, auto, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(value, g.log_prob(x.detach()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.9, 0.3), (0.3, 1.5), (1.0, 20.0), (1.0, 0.01)])
def test_condition_is_bayes_rule(alpha: float, sigma: float) -> None:
    g, x_t = GaussianMixture.from_covariance(*parts()), randn(B, D, seed=3)
    posterior = g.condition(x_t, alpha, sigma)
    x = posterior.mean.mean(1) + sigma * randn(N, B, D)
    noised = MixtureSameFamily(
        Categorical(parts()[2]),
        MultivariateNormal(alpha * parts()[0], alpha**2 * parts()[1] + sigma**2 * torch.eye(D, dtype=F)),
    )
    likelihood = torch.distributions.Normal(alpha * x, sigma).log_prob(x_t).sum(-1)
    exact = g.log_prob(x) + likelihood - noised.log_prob(x_t)
    torch.testing.assert_close(posterior.log_prob(x), exact, rtol=1e-9, atol=1e-7)


def test_condition_agrees_with_quadrature() -> None:
    g = bimodal(1)
    x_t, alpha, sigma = torch.tensor([[-0.3], [0.8]], dtype=F), 0.7, 0.6
    grid = torch.linspace(-8.0, 8.0, 4001, dtype=F)[:, None, None]
    weight = torch.softmax(g.log_prob(grid) - 0.5 * ((x_t - alpha * grid)[..., 0] / sigma).square(), 0)
    posterior = g.condition(x_t, alpha, sigma)
    mean = torch.einsum("bk,bki->bi", posterior.log_weight.exp(), posterior.mean)
    torch.testing.assert_close(mean[:, 0], (weight * grid[..., 0]).sum(0), rtol=1e-9, atol=1e-9)


def test_moments_and_draws() -> None:
    g, n = GaussianMixture.from_covariance(*parts()), 40_000
    mean, covariance = g.moments()
    torch.testing.assert_close(mean, reference().mean)
    torch.testing.assert_close(covariance.diagonal(), reference().variance)
    x, label = g.draw(Streams.seeded(0, [n]))
    centred = x - mean
    outer = centred[:, :, None] * centred[:, None, :]
    assert_within(x.mean(0), mean, x.std(0) / n**0.5, n, label="mean")
    assert_within(outer.mean(0), covariance, outer.std(0) / n**0.5, n, label="covariance")
    share = torch.nn.functional.one_hot(label, K).double()
    assert_within(share.mean(0), g.log_weight.exp(), share.std(0) / n**0.5, n, label="labels")
    pick = x[label == 1]
    assert_within(pick.mean(0), g.mean[1], pick.std(0) / len(pick) ** 0.5, len(pick), label="component mean")


def test_draws_of_a_mixture_per_particle() -> None:
    g = GaussianMixture.from_covariance(*parts()).condition(randn(2, D, seed=3), 0.5, 1.5)
    x, label = g.draw(Streams.seeded(0, [2]), (20_000,))
    mean = torch.einsum("bk,bki->bi", g.log_weight.exp(), g.mean)
    assert x.shape == (20_000, 2, D) and label.shape == (20_000, 2)
    assert_within(x.mean(0), mean, x.std(0) / 20_000**0.5, 20_000, label="mean")


def test_affine_is_the_law_of_the_image() -> None:
    g, x = GaussianMixture.from_covariance(*parts()), randn(N, D)
    centre, inverse = torch.tensor([1.0, -2.0, 0.5], dtype=F), torch.randn(D, D, generator=generator(8), dtype=F)
    image = g.affine(centre, inverse)
    exact = g.log_prob(x) - torch.linalg.slogdet(inverse)[1]
    torch.testing.assert_close(image.log_prob((x - centre) @ inverse.T), exact, rtol=1e-8, atol=1e-8)


def test_colour_is_a_square_root_of_the_covariance() -> None:
    g = GaussianMixture.from_covariance(*parts())
    eye = torch.eye(D, dtype=F)
    for k in range(K):
        label = torch.full((D,), k)
        factor = g.colour(eye, label).T  # columns L e_i
        torch.testing.assert_close(factor @ factor.T, parts()[1][k], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(g.colour_transpose(eye, label).T, factor.T, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        g.within(), torch.einsum("k,kij->ij", g.log_weight.exp(), parts()[1]), rtol=1e-9, atol=1e-9
    )
