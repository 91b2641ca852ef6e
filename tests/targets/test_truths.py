"""The stated ground truths, recomputed by a method that shares no code with the statement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate

import targets
from targets import Target
from tests.targets.cases import NAMES, case, seeded
from tests.targets.stats import assert_within, mean_and_mcse


def _log_z_by_importance(target: Target, pilot: torch.Tensor, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Importance sampling of log Z, the pilot's kernel density with Student-t kernels as the proposal."""
    generator = seeded(seed)
    dim, df = target.dim, 5
    # One kernel per pilot cluster: an assignment to the nearest of a few pilot draws, with that cluster's covariance.
    centres = pilot[:32]
    owner = torch.cdist(pilot, centres).argmin(1)
    means, factors, weights = [], [], []
    for k in range(len(centres)):
        members = pilot[owner == k]
        if len(members) <= 3 * dim:
            continue
        means.append(members.mean(0))
        factors.append(torch.linalg.cholesky(2.0 * torch.cov(members.T).reshape(dim, dim)))
        weights.append(len(members))
    mean, factor = torch.stack(means), torch.stack(factors)
    weight = torch.tensor(weights, dtype=torch.float64)
    weight = weight / weight.sum()
    pick = torch.multinomial(weight, n, replacement=True, generator=generator)
    z = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    chi = torch.randn(n, df, generator=generator, dtype=torch.float64).square().mean(1).sqrt()
    x = mean[pick] + torch.einsum("nij,nj->ni", factor[pick], z / chi[:, None])
    whitened = torch.einsum("kij,nkj->nki", torch.linalg.inv(factor), x[:, None] - mean)
    log_norm = math.lgamma((df + dim) / 2) - math.lgamma(df / 2) - 0.5 * dim * math.log(df * math.pi)
    kernel = log_norm - torch.linalg.slogdet(factor).logabsdet
    logs = kernel - 0.5 * (df + dim) * torch.log1p(whitened.square().sum(2) / df)
    log_weight = target.log_density(x) - torch.logsumexp(logs + weight.log(), 1)
    top = log_weight.max()
    ratio, mcse = mean_and_mcse(torch.exp(log_weight - top))
    return ratio.log() + top, mcse / ratio


POOR = ("student_mixture", "funnel", "eight_schools-centred", "banana")  # too far from a normal law


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(POOR)])
def test_log_z_by_importance_sampling(name: str) -> None:
    target = case(name)
    if target.log_z is None or not target.can_sample or target.dim > 10:
        pytest.skip("no exact draws in few dimensions, or no known constant")
    estimate, mcse = _log_z_by_importance(target, target.sample(8000, seeded(21)), 20000, 22)
    print(f"{name}: log Z {estimate:.5f}, stated {target.log_z:.5f}, standard error {mcse:.5f}")
    assert mcse < 0.1, f"the proposal is too poor to judge: standard error {mcse:.3f}"
    assert_within(estimate[None], target.log_z, mcse[None], what=f"{name}: log Z")


@pytest.mark.parametrize(
    "name", ["gmm40", "gmm40-unequal", "four_modes", "rings", "rings-two", "student_mixture-plane"]
)
def test_plane_targets_by_quadrature(name: str) -> None:
    """Midpoint rule on a square: normaliser, and the mass of each mode's region."""
    target = case(name)
    reach = {"rings": 7.0, "rings-two": 7.0, "four_modes": 18.0}.get(name, 60.0)
    h = reach / 500.0
    side = h * (torch.arange(-500, 500, dtype=torch.float64) + 0.5)
    mass, masses = 0.0, torch.zeros(len(target.mode_weights), dtype=torch.float64)
    for x in torch.cartesian_prod(side, side).split(20000):
        density = torch.exp(target.log_density(x)) * h * h
        mass += float(density.sum())
        masses += torch.bincount(target.mode_of(x), density, len(masses))
    # Product-t3 tails beyond 60 hold a few times 1e-5.
    tolerance = 1e-4 if name.startswith("student") else 1e-6
    assert abs(math.log(mass) - target.log_z) < tolerance, (math.log(mass), target.log_z)
    # The stated masses carry a Monte Carlo error of up to 4e-4, and cells cut by a border add as much to this rule.
    worst = (masses / mass - target.mode_weights).abs().max()
    print(f"{name}: mode masses differ by at most {worst:.1e}")
    assert worst < 1.5e-3, f"mode masses differ by {worst:.1e}"


def test_gmm40_is_fab() -> None:
    first = torch.tensor([[-0.2995, 21.4577], [-32.9218, -29.4376]], dtype=torch.float64)
    target = targets.gmm40()
    torch.testing.assert_close(target.means[:2], first, rtol=0, atol=5e-5)
    assert math.sqrt(float(target.factors[0, 0, 0]) ** 2) == pytest.approx(1.31326, abs=5e-6)
    assert float(torch.pdist(target.means).min()) == pytest.approx(1.18, abs=0.005)


def test_eight_gaussians_radius() -> None:
    radius = targets.eight_gaussians().sample(20000, seeded(0)).norm(dim=1)
    mean, mcse = mean_and_mcse(radius)
    assert_within(mean[None], 10.035, mcse[None], what="radius")
    assert float(radius.std()) == pytest.approx(0.84, abs=0.02)


def test_gaussian_covariance_and_condition() -> None:
    target = targets.gaussian(dim=6, condition=1e8, seed=1)
    covariance = target.factors[0] @ target.factors[0].T
    eigenvalues = torch.linalg.eigvalsh(covariance)
    assert float(eigenvalues[-1] / eigenvalues[0]) == pytest.approx(1e8, rel=1e-3)
    x = target.means + torch.ones(1, 6, dtype=torch.float64)
    wanted = torch.distributions.MultivariateNormal(target.means[0], covariance).log_prob(x)
    torch.testing.assert_close(target.log_density(x), wanted, rtol=1e-6, atol=1e-6)


def test_many_well() -> None:
    assert targets.many_well(32).log_z == pytest.approx(164.695675, abs=5e-7)
    assert targets.many_well(32).positive == pytest.approx(0.844307, abs=5e-7)
    z, _ = integrate.quad(lambda x: math.exp(0.5 * x + 6 * x**2 - x**4), -5, 5, epsabs=0, epsrel=1e-12)
    assert targets.many_well(2).log_z == pytest.approx(math.log(z) + 0.5 * math.log(2 * math.pi), abs=1e-9)
    x = targets.many_well(32).sample(20000, seeded(3))
    correlation = torch.corrcoef(x.T) - torch.eye(32, dtype=torch.float64)
    assert float(correlation.abs().max()) < 5.5 / math.sqrt(20000)


@pytest.mark.parametrize(("dim", "delta", "log_z"), [(5, 4.0, -0.541056), (10, 3.0, 3.097424), (50, 2.0, 27.221431)])
def test_double_wells_of_the_literature(dim: int, delta: float, log_z: float) -> None:
    assert targets.double_wells(dim, wells=5, delta=delta).log_z == pytest.approx(log_z, abs=5e-7)


def test_double_wells_tilt() -> None:
    target = targets.double_wells(dim=3, wells=2, delta=3.0, tilt=0.3)
    part = [integrate.quad(lambda x: math.exp(-((x**2 - 3) ** 2) + 0.3 * x), *ends)[0] for ends in ((-6, 0), (0, 6))]
    positive = part[1] / sum(part)
    assert target.log_z == pytest.approx(2 * math.log(sum(part)) + 0.5 * math.log(math.pi), abs=1e-9)
    wanted = [(1 - positive) ** 2, positive * (1 - positive), positive * (1 - positive), positive**2]
    np.testing.assert_allclose(target.mode_weights, wanted, atol=1e-8)


def test_mueller_brown() -> None:
    target = targets.mueller_brown()
    assert target.log_z == pytest.approx(10.014179, abs=5e-7)
    x = target.sample(200000, seeded(4))
    mean, mcse = mean_and_mcse(torch.cat([x, x.square().sum(1, keepdim=True)], 1))
    truth = torch.tensor([3.357256, -3.713724, 36.7345], dtype=torch.float64)
    assert_within(mean, truth, mcse, what="mueller_brown: mean, E|x|^2")
    rounded = torch.tensor([[0.385, 0.202], [3.27, -4.17], [6.16, -6.23]], dtype=torch.float64)
    torch.testing.assert_close(target.modes, rounded, rtol=0, atol=0.01)
    np.testing.assert_allclose(target.mode_weights, [0.27474, 0.38302, 0.34224], atol=3e-5)


PHI4 = {
    0.0: (-196.912221, 0.0),
    0.0025: (-196.837691, -0.77939),
    0.005: (-196.633253, -1.55877),
    0.01: (-195.996197, -3.11744),
    0.025: (-193.664446, -7.79174),
    0.05: (-189.641034, -15.56675),
    0.1: (-181.362334, -23.40093),
}


@pytest.mark.parametrize("b", PHI4)
def test_phi4_at_two_grid_sizes(b: float) -> None:
    for nodes in (501, 701):
        target = targets.phi4(100, b, nodes)
        odds = float((target.mode_weights[1] / target.mode_weights[0]).log())
        assert target.log_z == pytest.approx(PHI4[b][0], abs=5e-7)
        assert odds == pytest.approx(PHI4[b][1], abs=1e-5 if b < 0.05 else 1e-3)


def test_phi4_by_direct_quadrature() -> None:
    """Two sites on a plain square grid: no transfer matrix, and the weight of the first site's sign."""
    target = targets.phi4(dim=2, b=0.1)
    side = 0.02 * torch.arange(-250, 251, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    density = torch.exp(target.log_density(x))
    assert float((density.sum() * 0.02**2).log()) == pytest.approx(target.log_z, abs=1e-9)
    half = (density * torch.heaviside(x[:, 0], torch.tensor(0.5, dtype=torch.float64))).sum() / density.sum()
    assert float(half) == pytest.approx(float(target.mode_weights[1]), abs=1e-4)
    assert target.mode_weights[0] > target.mode_weights[1]


def test_phi4_sampler_moments() -> None:
    """Site variances and neighbour correlations of the draws against the quadrature of the two-site chain."""
    target = targets.phi4(dim=2, b=0.1)
    side = 0.02 * torch.arange(-250, 251, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    density = torch.softmax(target.log_density(grid), 0)
    draws = target.sample(50000, seeded(6))

    def moments(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1], x[:, 0] ** 4], 1)

    mean, mcse = mean_and_mcse(moments(draws))
    assert_within(mean, density @ moments(grid), mcse, what="phi4: moments")


def test_funnel_and_banana_by_conditionals() -> None:
    x = targets.funnel(5, 1.7).sample(10, seeded(0))
    normal = torch.distributions.Normal
    wanted = normal(0.0, 1.7).log_prob(x[:, 0]) + normal(0.0, (0.5 * x[:, :1]).exp()).log_prob(x[:, 1:]).sum(1)
    torch.testing.assert_close(targets.funnel(5, 1.7).log_density(x), wanted)
    banana = targets.banana(3, centre=1.0, scale=4.0, bend=0.1)
    x = banana.sample(10, seeded(0))
    wanted = normal(1.0, 4.0).log_prob(x[:, 0]) + normal(-0.1 * (x[:, 0] ** 2 - 16.0), 1.0).log_prob(x[:, 1])
    torch.testing.assert_close(banana.log_density(x), wanted + normal(0.0, 1.0).log_prob(x[:, 2]))


def test_student_mixture_by_scipy() -> None:
    from scipy.stats import t

    target = targets.student_mixture(dim=3, components=4, df=2)
    x = target.sample(20000, seeded(1))
    each = t.pdf(x.numpy()[:50, None] - target.locations.numpy(), 2).prod(2)
    np.testing.assert_allclose(target.log_density(x[:50]), np.log(each.mean(1)), rtol=1e-12)
    levels = torch.tensor([-30.0, -5.0, 0.0, 5.0, 30.0], dtype=torch.float64)
    below = (x[:, :1] <= levels).double()
    mean, mcse = mean_and_mcse(below)
    truth = torch.from_numpy(t.cdf(levels.numpy()[:, None] - target.locations[:, 0].numpy(), 2).mean(1))
    assert_within(mean, truth, mcse, what="student_mixture: distribution function of the first coordinate")


def test_a_component_that_is_the_largest_nowhere_has_no_mode() -> None:
    """Its share is a mean of differences, -1.6e-4 by chance."""
    target = targets.unlike_mixture(101)
    assert float(target.weights[0]) > 0.1
    x = torch.linspace(-30.0, 30.0, 60_001, dtype=torch.float64)[:, None]
    assert 0 not in target.mode_of(x)
    assert target.mode_weights is not None
    assert float(target.mode_weights[0]) == 0.0 and abs(float(target.mode_weights.sum()) - 1.0) < 1e-12
