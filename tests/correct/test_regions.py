"""Local moves take their scale from the population: the units of its regions, and what that is worth on a hierarchical model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.correct.candidates import factorising
from rdmc.correct.regions import at_fisher_scale, at_moments
from rdmc.correct.temper import Population, log_ratio
from rdmc.mixture import GaussianMixture
from tests.correct.cases import as_target, core, pair, streams
from tests.laws.cases import F, generator, spd
from tests.stats import assert_within

D = 4
GROUPS, TAU = 85, 0.4


def covariance(mixture: GaussianMixture, k: int = 0) -> Tensor:
    return (mixture.basis[k] * mixture.variance[k]) @ mixture.basis[k].T


def told(found: Tensor, truth: Tensor) -> tuple[float, float]:
    """Least and greatest variance of one law in units of the other."""
    values = torch.linalg.eigvals(torch.linalg.solve(truth, found)).real
    return float(values.min()), float(values.max())


def test_gradients_tell_the_scale_of_every_region_and_so_do_points() -> None:
    """Two regions of unlike scale, and a guess that is wrong a hundredfold along random directions."""
    means = torch.stack([torch.zeros(D, dtype=F), torch.full((D,), 60.0, dtype=F)])
    truths = torch.stack([spd(D, 1), 0.01 * spd(D, 2)])
    law = GaussianMixture.from_covariance(means, truths, torch.tensor([0.7, 0.3], dtype=F))
    guess = GaussianMixture.from_covariance(
        means, torch.stack([100.0 * spd(D, 3), 0.1 * spd(D, 4)]), torch.tensor([0.5, 0.5], dtype=F)
    )
    x = law.draw(streams(8000))[0]
    grad = law.value_and_grad(x)[1]
    grad[::7] = torch.nan
    for found in (at_fisher_scale(guess, x, grad), at_moments(guess, x)):
        for k in range(2):
            low, high = told(covariance(found, k), truths[k])
            assert 0.85 < low <= high < 1.18
    assert torch.equal(at_fisher_scale(guess, x, grad).mean, means)
    found = at_moments(guess, x)
    torch.testing.assert_close(found.mean, means, atol=0.1, rtol=0.0)
    torch.testing.assert_close(found.log_weight.exp(), law.log_weight.exp(), atol=0.03, rtol=0.0)


def test_where_points_are_few_a_region_keeps_its_scale() -> None:
    law = core(D)
    x = law.draw(streams(2 * D - 1))[0]
    grad = law.value_and_grad(x)[1]
    few = at_fisher_scale(law, x, grad)
    assert torch.equal(few.basis, law.basis) and torch.equal(few.variance, law.variance)
    assert torch.equal(at_moments(law, x).variance, law.variance)
    none = at_fisher_scale(law, x, torch.full_like(x, torch.nan))
    assert torch.equal(none.variance, law.variance)


def test_values_that_cannot_tell_a_nat_weigh_nothing() -> None:
    law = pair()
    x = law.draw(streams(8))[0]
    value = as_target(law)(x)
    value[:4] -= 5e17
    ratio = log_ratio(x, value, law)
    assert bool((ratio[:4] == -torch.inf).all())
    torch.testing.assert_close(ratio[4:], torch.zeros(4, dtype=F), atol=1e-12, rtol=0.0)


def test_laws_that_factorise_are_guided_at_the_scale_of_the_population() -> None:
    truth = spd(D, 6)
    law = GaussianMixture.from_covariance(torch.zeros(1, D, dtype=F), truth[None], torch.ones(1, dtype=F))
    peak = GaussianMixture.from_covariance(torch.zeros(1, D, dtype=F), 100.0 * spd(D, 7)[None], torch.ones(1, dtype=F))
    x = law.draw(streams(2000))[0]
    value, grad = law.value_and_grad(x)
    population = Population(x, value, grad, torch.arange(len(x)))
    for reference in factorising(population, torch.linalg.cholesky(truth), peak, streams(2000, 1)):
        z = torch.randn(20_000, D, generator=generator(8), dtype=F)
        step = reference.guide.colour(z, torch.zeros(len(z), dtype=torch.int64))
        low, high = told(step.T @ step / len(z), truth)
        assert 0.8 < low <= high < 1.4, reference.name


def data() -> tuple[Tensor, Tensor]:
    """What was seen of each group, and its standard error: some groups are known well and most hardly."""
    error = torch.logspace(-0.8, 0.5, GROUPS, dtype=F)
    noise = torch.randn(2, GROUPS, generator=generator(5), dtype=F)
    return 1.0 + TAU * noise[0] + error * noise[1], error


def varying_means(x: Tensor) -> Tensor:
    """mu, log tau and the standardised effects of the groups: y_j ~ N(mu + tau eta_j, s_j), tau half normal."""
    y, error = data()
    mu, log_tau, eta = x[:, :1], x[:, 1], x[:, 2:]
    tau = log_tau.exp()
    off = (y - mu - tau[:, None] * eta) / error
    return -0.5 * (off.square().sum(1) + eta.square().sum(1) + (mu[:, 0] / 10.0) ** 2 + tau.square()) + log_tau


def truth_of_log_tau() -> tuple[float, float]:
    """Its posterior mean and standard deviation by quadrature over mu and log tau, the effects integrated out."""
    mu = torch.linspace(-1.0, 3.0, 600, dtype=F)[:, None]
    log_tau = torch.linspace(-7.0, 2.0, 900, dtype=F)
    tau2 = (2.0 * log_tau).exp()
    total = -0.5 * (mu / 10.0) ** 2 - 0.5 * tau2 + log_tau
    for y, s in zip(*data(), strict=True):
        total = total - 0.5 * (y - mu) ** 2 / (tau2 + s**2) - 0.5 * (tau2 + s**2).log()
    weight = torch.softmax(total.flatten(), 0).view(600, 900)
    mean = float((weight.sum(0) * log_tau).sum())
    return mean, math.sqrt(float((weight.sum(0) * (log_tau - mean) ** 2).sum()))


@pytest.mark.slow
def test_a_hierarchical_model_of_many_groups_mixes_within_its_populations() -> None:
    """The peak of such a density is no guide to the scale of its mass, and a mixture of it too much to fit."""
    result = rdmc.sample(varying_means, dim=GROUPS + 2, draws=250, seed=0, progressbar=False)
    mean, sd = truth_of_log_tau()
    found = result.convergence
    assert float(found.rhat.max()) < 1.02 and float(np.median(found.ess_bulk)) > 800.0
    draws = result.samples[..., 1].flatten()
    assert_within(float(draws.mean()), mean, sd / math.sqrt(300.0), label="mean of log tau")
    assert 0.8 < float(draws.std()) / sd < 1.2
