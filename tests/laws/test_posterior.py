"""Laws of the inner posterior: values, Tweedie and conversions against closed form, to 1e-9."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.mixture import GaussianMixture
from rdmc.posterior import (
    InnerPosterior,
    mean_from_noise,
    mean_from_score,
    noise_from_mean,
    noise_from_score,
    score_from_mean,
    score_from_noise,
)
from rdmc.rng import Streams
from tests.laws.cases import F, as_target, bimodal, generator, spd, surrogate
from tests.stats import assert_moments

N, B, D = 7, 5, 3
LEVELS = [(0.9, 0.3), (0.4, 1.3), (1.0, 2.5), (0.99, 0.02)]


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal draws of a test's own."""
    return torch.randn(*shape, generator=generator(seed), dtype=F)


def gaussian() -> tuple[Tensor, Tensor, Density]:
    """N(m, S) with correlations, unnormalised."""
    mean, covariance = randn(D), spd(D, 3)
    precision = torch.linalg.inv(covariance)
    return mean, covariance, Density(lambda x: -0.5 * ((x - mean) @ precision * (x - mean)).sum(-1) + 11.0, D)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_gaussian_posterior_and_score(alpha: float, sigma: float) -> None:
    mean, covariance, target = gaussian()
    x_t, x_0 = randn(B, D, seed=1), randn(N, B, D, seed=2)
    q = InnerPosterior(target, x_t, alpha, sigma)
    precision = torch.linalg.inv(covariance) + alpha**2 / sigma**2 * torch.eye(D, dtype=F)
    posterior_mean = torch.linalg.solve(precision, (torch.linalg.solve(covariance, mean) + alpha / sigma**2 * x_t).T).T
    exact = -0.5 * torch.einsum("nbi,ij,nbj->nb", x_0 - posterior_mean, precision, x_0 - posterior_mean)
    value, grad = q.value_and_grad(x_0)
    scale = max(1.0, float(exact.abs().max()))
    torch.testing.assert_close(value - value[0], exact - exact[0], rtol=1e-9, atol=1e-9 * scale)
    torch.testing.assert_close(q(x_0), value, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(grad, -(x_0 - posterior_mean) @ precision, rtol=1e-9, atol=1e-9 / sigma**2)
    marginal = alpha**2 * covariance + sigma**2 * torch.eye(D, dtype=F)
    score = -torch.linalg.solve(marginal, (x_t - alpha * mean).T).T
    torch.testing.assert_close(q.score(posterior_mean), score, rtol=1e-9, atol=1e-9 / sigma**2)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize("dim", [1, 2])
def test_mixture_posterior_and_score(dim: int, alpha: float, sigma: float) -> None:
    pi = bimodal(dim)
    x_t, x_0 = randn(B, dim, seed=1), randn(N, B, dim, seed=2)
    law = pi.condition(x_t, alpha, sigma)
    q = InnerPosterior(as_target(pi), x_t, alpha, sigma, surrogate(dim))
    difference = q(x_0) - law.log_prob(x_0)
    torch.testing.assert_close(difference, difference[:1].expand_as(difference), rtol=1e-9, atol=1e-9 / sigma**2)
    noised = GaussianMixture(pi.log_weight, alpha * pi.mean, pi.basis, alpha**2 * pi.variance + sigma**2)
    mean = torch.einsum("bk,bki->bi", law.log_weight.exp(), law.mean)
    torch.testing.assert_close(q.score(mean), noised.value_and_grad(x_t)[1], rtol=1e-9, atol=1e-9 / sigma**2)
    proposal = q.proposal()
    torch.testing.assert_close(proposal.mean, surrogate(dim).condition(x_t, alpha, sigma).mean)


def test_six_conversions_invert_each_other() -> None:
    x_t, mean, alpha, sigma = randn(B, D), randn(B, D, seed=1), 0.6, 1.7
    score, noise = score_from_mean(mean, x_t, alpha, sigma), noise_from_mean(mean, x_t, alpha, sigma)
    same = [
        (mean_from_score(score, x_t, alpha, sigma), mean),
        (mean_from_noise(noise, x_t, alpha, sigma), mean),
        (noise_from_score(score, sigma), noise),
        (score_from_noise(noise, sigma), score),
        (alpha * mean + sigma * noise, x_t),
    ]
    for a, b in same:
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_parts_of_target_and_likelihood_add_up() -> None:
    _, _, target = gaussian()
    q = InnerPosterior(target, randn(B, D, seed=1), 0.7, 0.4)
    x_0 = randn(N, B, D, seed=2)
    value, grad = q.value_and_grad(x_0)
    torch.testing.assert_close(q.target_part(x_0, value, grad), target.value_and_grad(x_0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        q.from_target_part(x_0, *target.value_and_grad(x_0)), (value, grad), rtol=1e-12, atol=1e-12
    )
    x = x_0.clone().requires_grad_(True)
    (auto,) = torch.autograd.grad(q.log_likelihood(x).sum(), x)
    torch.testing.assert_close(q.likelihood_grad(x_0), auto, rtol=1e-9, atol=1e-9)


def test_draws_from_the_likelihood() -> None:
    q = InnerPosterior(gaussian()[2], torch.tensor([[0.5, -1.0, 2.0]], dtype=F), 0.4, 1.2)
    draws = q.from_likelihood(Streams.seeded(0, [1]), 20_000)[:, 0]
    assert_moments(draws, q.x_t[0] / 0.4, 9.0, label="likelihood")


def test_scale_is_the_width_of_q_for_a_unit_target() -> None:
    q = InnerPosterior(gaussian()[2], torch.zeros(2, D, dtype=F), 0.3, 0.8)
    assert q.scale == pytest.approx(1.0 / math.sqrt(1.0 + 0.3**2 / 0.8**2))
    assert (q.dim, q.particles) == (D, 2)


@pytest.mark.parametrize(("name", "value"), [("alpha", 0.0), ("sigma", -1.0), ("sigma", math.nan)])
def test_bad_arguments_are_named(name: str, value: float) -> None:
    q = InnerPosterior(gaussian()[2], torch.zeros(2, D, dtype=F), 0.3, 0.8)
    with pytest.raises(ValueError, match=f"`{name}` must be a positive float, got {value}"):
        dataclasses.replace(q, **{name: value})  # type: ignore[arg-type]
