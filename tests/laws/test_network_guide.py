"""Draws of a network given an observation have their law in closed form where everything is normal."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdmc.network import Guide
from tests.laws.test_network import F, gaussian
from tests.stats import assert_moments, assert_within


def test_guide_is_exact_for_a_normal_law_and_a_linear_observation() -> None:
    known = gaussian(2, sigma_max=40.0)
    a, y, noise = torch.tensor([1.0, 0.5], dtype=F), 3.0, 0.4

    def likelihood(x: Tensor) -> Tensor:
        return -0.5 * ((x @ a - y) / noise).square()

    prior = torch.distributions.MultivariateNormal(known.affine.centre, scale_tril=known.affine.factor)
    covariance = torch.linalg.inv(torch.linalg.inv(prior.covariance_matrix) + torch.outer(a, a) / noise**2)
    mean = covariance @ (torch.linalg.solve(prior.covariance_matrix, known.affine.centre) + a * y / noise**2)
    guide, z, sigma = Guide(likelihood), torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=F), 0.8
    row = known.affine.factor.T @ a / noise
    precision = (1 + sigma**-2) * torch.eye(2, dtype=F) + torch.outer(row, row)
    pull = z / sigma**2 + row * (y - a @ known.affine.centre) / noise
    guided = guide.wrapped(known)(z, sigma)
    torch.testing.assert_close(guided, pull @ torch.linalg.inv(precision))
    white = torch.linalg.inv(torch.linalg.cholesky(covariance))
    x = known.sample(3000, seed=1, steps=40, guide=guide)
    assert_moments(
        (x - mean) @ white.T, 0.0, 1.0, allowance=(0.02, 0.05), label="guided"
    )  # Heun's error, and the start
    found = known.weights(lambda x: prior.log_prob(x) + likelihood(x), 1000, seed=2, guide=guide)
    evidence = torch.distributions.Normal(a @ known.affine.centre, (a @ prior.covariance_matrix @ a + noise**2).sqrt())
    truth = float(evidence.log_prob(torch.tensor(y, dtype=F))) + math.log(noise * (2 * math.pi) ** 0.5)
    assert_within(found.log_evidence, truth, found.log_evidence_mcse, found.ess, label="log evidence")
    assert found.ess > 900
