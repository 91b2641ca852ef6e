"""The posteriors of the gallery: densities by other code, truths by methods that share none with the statement."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import targets
from targets.sensors import DISTANCES, KNOWN
from targets.stars import STARS
from targets.weather import TEMPERATURES
from tests.targets.cases import seeded
from tests.targets.stats import assert_within, mean_and_mcse

Normal = torch.distributions.Normal
DOUBLE = torch.float64


def _circles(
    a: np.ndarray, r: np.ndarray, b: np.ndarray, s: np.ndarray, side: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Intersection of the circles about a and b, on the given side, and |d(r, s) / d place|; 0 where they don't meet."""
    between = b - a
    apart = np.linalg.norm(between, axis=1)
    along = (r**2 - s**2 + apart**2) / (2 * apart)
    square = r**2 - along**2
    away = np.sqrt(np.maximum(square, 1e-12)) * side
    e = between / apart[:, None]
    place = a + along[:, None] * e + away[:, None] * np.stack([-e[:, 1], e[:, 0]], 1)
    u, v = (place - a) / r[:, None], (place - b) / s[:, None]
    return place, np.where(square > 0, np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]), 0.0)


def test_sensors_by_importance_sampling_of_distances() -> None:
    """Sensors 1 and 3 by their distances from the known ones, 2 on a ring about 3, 4 by its distances from 1 and 2."""
    target, rng, n = targets.sensor_network(), np.random.default_rng(4), 200_000
    known = [np.broadcast_to(np.array(place), (n, 2)) for place in KNOWN]
    drawn = {pair: y + 0.02 * rng.standard_normal(n) for pair, y in DISTANCES.items()}
    side = lambda: rng.choice([-1.0, 1.0], n)  # noqa: E731
    one, jacobian_1 = _circles(known[0], drawn[0, 4], known[1], drawn[0, 5], side())
    three, jacobian_3 = _circles(known[0], drawn[2, 4], known[1], drawn[2, 5], side())
    angle, radius = rng.uniform(0.0, 2 * np.pi, n), drawn[1, 2]
    two = three + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    four, jacobian_4 = _circles(one, drawn[0, 3], two, drawn[1, 3], side())
    places = [one, two, three, four, *known]
    log_weight = -0.5 * (np.stack(places[:4]) ** 2).sum((0, 2)) / 100 - 8 * math.log(10 * math.sqrt(2 * math.pi))
    for i, j in itertools.combinations(range(6), 2):
        scaled = ((places[i] - places[j]) ** 2).sum(1) / (2 * 0.3**2)
        if (i, j) in DISTANCES:
            log_weight -= scaled  # the law of the measured distance is that of the proposal
        elif (i, j) != (4, 5):
            log_weight += np.log1p(-np.exp(-scaled))
    jacobian = jacobian_1 * jacobian_3 * jacobian_4
    weight = np.where(jacobian > 0, np.exp(log_weight) * 2 * np.pi * radius * 8 / np.maximum(jacobian, 1e-12), 0.0)
    x = torch.from_numpy(np.concatenate(places[:4], 1))
    fair = torch.from_numpy(weight / math.exp(target.log_z))
    mean, mcse = mean_and_mcse(torch.stack([fair, *(fair * (target.mode_of(x) == k) for k in range(4))], 1))
    print("evidence ratio and mode weights", mean, mcse)
    assert float(mcse[0]) < 0.005
    assert_within(mean, torch.cat([torch.ones(1, dtype=DOUBLE), target.mode_weights]), mcse, what="sensors")
    # and the density itself, where the weight has it
    inside = np.flatnonzero(jacobian > 0.05)[:50]  # near-touching circles lose digits
    seen = sum(
        Normal(torch.tensor(y, dtype=DOUBLE), 0.02).log_prob(torch.tensor(drawn[pair][inside]))
        for pair, y in DISTANCES.items()
    )
    torch.testing.assert_close(target.log_density(x[inside]), seen + torch.tensor(log_weight[inside]))


def test_sensors_are_where_the_modes_say() -> None:
    """The places of the simulation are in mode 0: sensor 1 above the line through the known ones, 3 below."""
    from targets.sensors import TRUE_PLACES

    target = targets.sensor_network()
    truth = torch.tensor(TRUE_PLACES, dtype=DOUBLE).reshape(1, 8)
    assert target.mode_of(truth).tolist() == [0]
    assert float(target.log_density(truth)) > -40.0  # the model explains its own data


@pytest.mark.parametrize("noise", [3.0, 8.0])
def test_radial_velocities_by_dense_covariance(noise: float) -> None:
    """The evidence from the covariance of the velocities, and the joint density from its parts."""
    target = targets.radial_velocities(noise=noise)
    nodes = torch.linspace(math.log(4.0) - 4.2, math.log(4.0) + 4.2, 60_001, dtype=DOUBLE)
    phase = 2 * math.pi * target.times / nodes.exp()[:, None]
    design = torch.stack([phase.cos(), phase.sin(), torch.ones_like(phase)], 2) * 50.0
    covariance = design @ design.mT + noise**2 * torch.eye(7, dtype=DOUBLE)
    law = torch.distributions.MultivariateNormal(torch.zeros(7, dtype=DOUBLE), covariance)
    logs = law.log_prob(target.velocities) + Normal(math.log(4.0), 0.7).log_prob(nodes)
    assert float(logs.logsumexp(0) + math.log(8.4 / 60_000)) == pytest.approx(target.log_z, abs=2e-4)
    x = target.sample(5, seeded(1))
    phase = 2 * math.pi * target.times / x[:, :1].exp()
    mean = x[:, 1:2] * phase.cos() + x[:, 2:3] * phase.sin() + x[:, 3:]
    wanted = Normal(mean, noise).log_prob(target.velocities).sum(1) + Normal(0.0, 50.0).log_prob(x[:, 1:]).sum(1)
    torch.testing.assert_close(target.log_density(x), wanted + Normal(math.log(4.0), 0.7).log_prob(x[:, 0]))


def test_radial_velocities_have_the_planet_and_its_aliases() -> None:
    target = targets.radial_velocities()
    found = dict(zip(target.periods.tolist(), target.mode_weights.tolist(), strict=False))
    planet = min(found, key=lambda period: abs(period - 4.2308))
    assert planet == pytest.approx(4.2308, abs=0.006)
    assert found[planet] == pytest.approx(0.274, abs=1e-3)
    assert max(found, key=lambda period: found[period]) == pytest.approx(planet / 2, abs=0.003)


def test_gaussian_process_by_torch_distributions_and_three_dimensional_quadrature() -> None:
    target = targets.gaussian_process()
    y = torch.tensor(TEMPERATURES, dtype=DOUBLE)
    y = (y - y.mean()) / y.std(correction=0)
    t = torch.arange(24, dtype=DOUBLE)
    x = torch.randn(5, 3, generator=seeded(2), dtype=DOUBLE)
    length, v = x[:, 0].exp()[:, None, None], x[:, 2].exp()
    share = (1e-4 + (1 - 1e-4) * x[:, 1].sigmoid())[:, None, None]
    kernel = (1 - share) * torch.exp(-0.5 * ((t[:, None] - t) / length) ** 2) + share * torch.eye(24, dtype=DOUBLE)
    wanted = torch.distributions.MultivariateNormal(torch.zeros(24, dtype=DOUBLE), v[:, None, None] * kernel).log_prob(
        y
    )
    wanted = wanted + Normal(math.log(2.4), 1.5).log_prob(x[:, 0]) + Normal(0.0, 3.0).log_prob(x[:, 1])
    wanted = wanted + torch.distributions.InverseGamma(torch.tensor(2.0, dtype=DOUBLE), 1.0).log_prob(v) + v.log()
    torch.testing.assert_close(target.log_density(x), wanted)
    sides = [torch.linspace(*ends, dtype=DOUBLE) for ends in ((-5.5, 7.5, 91), (-16.0, 16.0, 37), (-3.0, 6.0, 26))]
    grid = torch.cartesian_prod(*sides)
    logs = torch.cat([target.log_density(part) for part in grid.split(4000)])
    cell = math.log(math.prod(float(side[1] - side[0]) for side in sides))
    assert float(logs.logsumexp(0)) + cell == pytest.approx(target.log_z, abs=1e-3)
    long = float((logs.softmax(0) * target.mode_of(grid)).sum())
    assert long == pytest.approx(
        float(target.mode_weights[1]), abs=0.02
    )  # a cell is .2 wide, its share at the edge .03


def test_gaussian_process_prediction_is_that_of_a_dense_solve() -> None:
    target = targets.gaussian_process()
    x, at = torch.tensor([[0.5, -1.0, 0.3]], dtype=DOUBLE), torch.tensor([0.0, 3.3, 22.0], dtype=DOUBLE)
    share, v, t = float(target.noise_share(x)), math.exp(0.3), torch.arange(24, dtype=DOUBLE)
    kernel = lambda a, b: v * (1 - share) * torch.exp(-0.5 * ((a[:, None] - b) / math.exp(0.5)) ** 2)  # noqa: E731
    dense = kernel(t, t) + v * share * torch.eye(24, dtype=DOUBLE)
    mean, sd = target.predict(x, at)
    torch.testing.assert_close(mean[0], kernel(at, t) @ torch.linalg.solve(dense, target.data))
    left = kernel(at, at) - kernel(at, t) @ torch.linalg.solve(dense, kernel(t, at))
    torch.testing.assert_close(sd[0], left.diagonal().sqrt())


def test_star_cluster_by_torch_distributions_and_quadrature() -> None:
    target = targets.star_cluster()
    table = torch.tensor(STARS, dtype=DOUBLE)
    t, y = (table - table.mean(0)).T
    x = torch.randn(6, 4, generator=seeded(3), dtype=DOUBLE)
    line = Normal(x[:, :1] + x[:, 1:2] * t, x[:, 2:3].exp()).log_prob(y) + torch.log1p(-x[:, 3:].sigmoid())
    outlier = Normal(0.0, 1.0).log_prob(y) + x[:, 3:].sigmoid().log()
    wanted = (
        torch.logaddexp(line, outlier).sum(1) + Normal(0.0, 1.0).log_prob(x[:, 0]) + Normal(0.0, 3.0).log_prob(x[:, 1])
    )
    wanted = (
        wanted + Normal(math.log(0.5), 0.5).log_prob(x[:, 2]) + Normal(math.log(0.02 / 0.98), 1.0).log_prob(x[:, 3])
    )
    torch.testing.assert_close(target.log_density(x), wanted)
    torch.testing.assert_close(target.outlier_probability(x), torch.sigmoid(outlier - line))
    ends = ((-0.9, 0.9, 23), (-3.9, 7.3, 57), (math.log(0.2), 0.0, 15), (-8.0, 1.0, 13))
    sides = [torch.linspace(*each, dtype=DOUBLE) for each in ends]
    grid = torch.cartesian_prod(*sides)  # 0 is half way between nodes of the slope
    logs = torch.cat([target.log_density(part) for part in grid.split(16_000)])
    cell = math.log(math.prod(float(side[1] - side[0]) for side in sides))
    assert float(logs.logsumexp(0)) + cell == pytest.approx(target.log_z, abs=2e-3)
    rises = float((logs.softmax(0) * target.mode_of(grid)).sum())
    assert rises == pytest.approx(float(target.mode_weights[1]), abs=3e-3)


def _patterns(
    target: targets.Target, n: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Evidence of each pattern of spikes and slabs, its standard error, and the masses of the modes in it, ``(64, 8)``."""
    design, dim, df = target.signed_design, target.dim, 8
    found = []
    for pattern in itertools.product((0, 1), repeat=dim - 1):
        sd = torch.tensor([2.5, *(target.slab if bit else target.spike for bit in pattern)], dtype=DOUBLE)
        x = torch.zeros(dim, dtype=DOUBLE)
        for step in range(40):
            p = torch.sigmoid(-design @ x)
            hessian = design.T @ (design * (p * (1 - p))[:, None]) + torch.diag(sd**-2)
            x = x + (0.5 if step < 8 else 1.0) * torch.linalg.solve(hessian, design.T @ p - x / sd**2)
        factor = torch.linalg.cholesky(torch.linalg.inv(hessian))
        chi = torch.randn(n, df, generator=generator, dtype=DOUBLE).square().mean(1, keepdim=True).sqrt()
        u = torch.randn(n, dim, generator=generator, dtype=DOUBLE) / chi
        y = x + u @ factor.T
        log_q = math.lgamma((df + dim) / 2) - math.lgamma(df / 2) - 0.5 * dim * math.log(df * math.pi)
        log_q = log_q - factor.diagonal().log().sum() - 0.5 * (df + dim) * torch.log1p(u.square().sum(1) / df)
        likelihood = (
            torch.distributions.Bernoulli(logits=y @ design.T).log_prob(torch.ones(len(design), dtype=DOUBLE)).sum(1)
        )
        prior = sum(math.log(target.inclusion if bit else 1 - target.inclusion) for bit in pattern)
        ratio = torch.exp(likelihood + Normal(0.0, sd).log_prob(y).sum(1) + prior - log_q - target.log_z)
        found.append((*mean_and_mcse(ratio), torch.bincount(target.mode_of(y), ratio, 8) / n))
    evidence, error, masses = (torch.stack(part) for part in zip(*found, strict=True))
    return evidence, error, masses


def test_spike_and_slab_by_its_sixty_four_patterns() -> None:
    target = targets.spike_and_slab()
    evidence, error, masses = _patterns(target, 1500, seeded(6))
    total, mcse = evidence.sum(), error.square().sum().sqrt()
    print(f"spike_and_slab: evidence over stated evidence {total:.4f}, standard error {mcse:.4f}")
    assert float(mcse) < 0.02
    assert_within(total[None], 1.0, mcse[None], what="spike_and_slab: Z / stated Z")
    # the masses' error is bounded by that of all evidence, in proportion
    assert_within(
        masses.sum(0), target.mode_weights, mcse * target.mode_weights.sqrt() + 1e-9, what="spike_and_slab: modes"
    )
    large = torch.tensor(list(itertools.product((0, 1), repeat=6)), dtype=DOUBLE)[:, :3]
    chance = (large * evidence[:, None]).sum(0) / total
    assert_within(chance, torch.tensor([0.279, 0.177, 0.816], dtype=DOUBLE), mcse.expand(3), what="inclusion")


def test_spike_and_slab_threshold_is_where_the_two_are_equal() -> None:
    target = targets.spike_and_slab()
    x = torch.full((1, 7), target.threshold, dtype=DOUBLE)
    torch.testing.assert_close(target.slab_probability(x), torch.full((1, 6), 0.5, dtype=DOUBLE))


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: targets.radial_velocities(noise=0.0), "noise"),
        (lambda: targets.gaussian_process(length=-1.0), "length"),
        (lambda: targets.star_cluster(outliers=1.0), "outliers"),
        (lambda: targets.spike_and_slab(spike=2.0, slab=1.0), "slab"),
    ],
)
def test_bad_arguments_are_named(build: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        build()  # type: ignore[operator]
