"""Guidance: exact laws on Gaussians, the two densities themselves at the ends, and what it is not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import rdmc
import rdmc.journal
from rdmc.coordinates import Affine
from rdmc.density import Density
from rdmc.grid import LogSNRGrid
from rdmc.guidance import Guidance, Interval
from rdmc.guidance.noise import Replay
from rdmc.guidance.pair import Pair, combine, look
from rdmc.inner import GuidedChains
from rdmc.journal import Journal
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.process import EDM
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.sampler import Plan
from rdmc.schedule import Fixed
from rdmc.steps import Ancestral, Bridge, Estimate, EulerMaruyama, Exponential, Heun, Multistep, Step
from tests.exact.guided import SHORT, GuidedPair, Moments, density_of, isotropic, two_and_three
from tests.marks import slow
from tests.stats import assert_moments, assert_within

F = torch.float64
POSTERIOR, PRIOR = Moments(1.5, 0.36), Moments(0.0, 1.0)
STRENGTHS = (-2.0, -1.0, -0.3, 0.0, 0.5, 1.0, 3.0)
STEPS: tuple[Step, ...] = (EulerMaruyama(), Exponential(), Ancestral(), Bridge(), Heun(), Multistep())


def gaussian(law: Moments) -> GaussianMixture:
    return isotropic(([law.mean, 0.0], law.variance**0.5, 1.0))


def guided(
    posterior: GaussianMixture,
    prior: GaussianMixture,
    strength: Any,
    n: int = 2500,
    reverse: RDMC | None = None,
    seed: int = 1,
) -> rdmc.Result:
    sampler = Guidance(density_of(prior), strength)
    if reverse is not None:
        sampler = dataclasses.replace(sampler, reverse=reverse, prior_pilot=Known(prior))
    return rdmc.sample(density_of(posterior), draws=n, chains=1, sampler=sampler, seed=seed, progressbar=False)


def known(posterior: GaussianMixture, step: Step, times: int, end: float, inner: Any = None) -> RDMC:
    """No pilot, a given grid in the user's own coordinates."""
    affine = Affine.identity(posterior.dim)
    schedule = Fixed(EDM(8.0), LogSNRGrid(times, end))
    inner = inner or GuidedChains(rounds=8, steps=1)
    return RDMC(schedule, inner, step, pilot=Known(posterior), coordinates=affine)


def affine_law(step: Step, pair: GuidedPair, times: int, end: float = 1e-3) -> Moments:
    """The exact law of one coordinate after steps of any kind with exact guided estimates: from three runs of an affine map."""
    process = EDM(8.0)
    grid = LogSNRGrid(times, end).times(process)
    begin = pair.start(process, grid[0])
    rows = 2 * len(grid)
    basis = torch.eye(rows, dtype=F)
    x, memory = basis[:, :1], None
    rng = Streams.seeded(0, [rows])
    for k, (t, s) in enumerate(zip(grid, (*grid[1:], None), strict=True)):

        def denoise(x_t: Tensor, at: float, k: int = k) -> Estimate:
            estimates = []
            for law in (pair.posterior, pair.prior):
                noised = law.variance + at**2
                mean = (law.variance * x_t + law.mean * at**2) / noised
                spread = (law.variance * at**2 / noised) ** 0.5
                estimates.append(Estimate(mean, (mean - x_t) / at**2, mean + spread * basis[:, 2 * k + 2 : 2 * k + 3]))
            return combine(pair.strength, *estimates, rng)

        if s is not None:
            x, memory = step(process, denoise, x, t, s, basis[:, 2 * k + 1 : 2 * k + 2], memory)
    offset = x[-1]
    on = x[:-1] - offset
    variance = on[0] ** 2 * begin.variance + on[1:].square().sum()
    return Moments(float(on[0] * begin.mean + offset), float(variance))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("g", [0.5, 1.0, 3.0])
def test_steps_converge_to_the_guided_process_and_not_to_the_product(step: Step, g: float) -> None:
    """Exactly, without Monte Carlo. Deterministic steps converge to the probability flow, which is a third law."""
    pair = GuidedPair(POSTERIOR, PRIOR, g)
    begin = pair.start(EDM(8.0), 8.0)
    truth = pair.continuous(begin, 8.0, 1e-3, flow=isinstance(step, (Heun, Multistep)))
    other = pair.continuous(begin, 8.0, 1e-3, flow=not isinstance(step, (Heun, Multistep)))
    coarse, fine = (affine_law(step, pair, levels) for levels in (400, 800))
    errors = [abs(law.mean - truth.mean) + abs(law.variance - truth.variance) for law in (coarse, fine)]
    assert errors[1] < 0.02, (fine, truth)
    assert errors[0] / errors[1] > (3.0 if isinstance(step, (Heun, Multistep)) else 1.7), errors
    for wrong in (pair.product, other):
        assert abs(fine.mean - wrong.mean) > 5.0 * errors[1], (fine, wrong)


@pytest.mark.parametrize("g", STRENGTHS)
def test_guided_draws_of_a_gaussian_pair_have_the_law_of_the_recursion(g: float) -> None:
    posterior, prior = gaussian(POSTERIOR), gaussian(PRIOR)
    pair = GuidedPair(POSTERIOR, PRIOR, g)
    process, grid = EDM(8.0), LogSNRGrid(7, 0.1)  # coarse: what is wrong shows
    law = pair.bridged(process, grid.times(process), pair.start(process, 8.0))
    x = guided(posterior, prior, g, reverse=known(posterior, Bridge(), 7, 0.1)).samples.flatten(0, 1)
    print(f"recursion {law}, product {pair.product}")
    assert_moments(x[:, :1], law.mean, law.variance, label="first coordinate")
    centred = GuidedPair(Moments(0.0, POSTERIOR.variance), PRIOR, g)
    still = centred.bridged(process, grid.times(process), centred.start(process, 8.0))
    assert_moments(x[:, 1:], 0.0, still.variance, label="second coordinate")
    if g in (-1.0, 0.0):  # no error of the grid at all, but for what a start at a finite horizon forgets
        end = PRIOR if g == -1.0 else POSTERIOR
        assert abs(law.mean - end.mean) < 1e-3 and abs(law.variance - end.variance) < 1e-3
    else:
        product = pair.product
        assert abs(float(x[:, 0].mean()) - product.mean) > 5.0 * (law.variance / len(x)) ** 0.5


def test_the_bridge_has_a_small_part_of_the_error_of_the_other_first_order_steps() -> None:
    """The factors of Guidance's docstring: error of the variance at 24 levels, each against the better of the other two."""
    process = EDM(8.0)
    for g, factor in ((0.5, 10.0), (1.0, 6.0), (3.0, 2.0)):
        pair = GuidedPair(POSTERIOR, PRIOR, g)
        truth = pair.continuous(pair.start(process, 8.0), 8.0, 0.02)
        bridge, exponential, ancestral = (
            abs(affine_law(step, pair, 24, 0.02).variance - truth.variance)
            for step in (Bridge(), Exponential(), Ancestral())
        )
        print(f"g = {g}: bridge {bridge:.4f}, exponential {exponential:.4f}, ancestral {ancestral:.4f}")
        assert factor * bridge < min(exponential, ancestral)


@pytest.mark.parametrize("g", [-1.0, *slow(0.0)])
def test_the_ends_are_the_two_densities(g: float) -> None:
    """From the callables alone: pilots on both, a mode that one of them lacks, unequal weights."""
    prior, posterior = two_and_three()
    truth = prior if g == -1.0 else posterior
    sampler = Guidance(density_of(prior), g)
    result = rdmc.sample(density_of(posterior), draws=750, sampler=sampler, seed=1, progressbar=False)
    x = result.samples.flatten(0, 1)
    share = truth.log_responsibilities(x).exp().mean(0)
    weight = truth.log_weight.exp()
    assert_within(share, weight, (weight * (1.0 - weight) / len(x)).sqrt(), label="mode weights")
    mean, covariance = truth.moments()
    assert_within(x.mean(0), mean, (torch.diagonal(covariance) / len(x)).sqrt(), label="mean")
    assert result.check() == []


def test_a_level_of_strength_zero_does_not_ask_the_prior() -> None:
    prior, posterior = two_and_three()

    def evaluations(strength: Any) -> tuple[int, rdmc.Result]:
        calls = []

        def counting(x: Tensor) -> tuple[Tensor, Tensor]:
            calls.append(len(x))
            return prior.value_and_grad(x)

        sampler = Guidance(Density(prior.log_prob, 2, counting), strength, SHORT, Known(prior))
        result = rdmc.sample(density_of(posterior), draws=50, chains=1, sampler=sampler, progressbar=False)
        return sum(calls), result

    (never, plain), (inside, part), (always, full) = (
        evaluations(g) for g in (0.0, Interval(1.0, above=0.5, below=4.0), 1.0)
    )
    assert never < 100 < inside < 0.7 * always, (never, inside, always)
    assert plain.gradient_evaluations < part.gradient_evaluations < full.gradient_evaluations
    assert always < full.gradient_evaluations
    nothing = evaluations(Interval(1.0, above=1e6))[1]
    assert torch.equal(nothing.samples, plain.samples)


def test_common_numbers_take_noise_out_of_the_difference() -> None:
    """Difference of the two posterior means at the same points, over repeats: shared numbers against numbers of their own."""
    prior = isotropic(([-3.0, 0.0], 0.7, 0.5), ([3.0, 1.0], 0.5, 0.5))
    tilted = Density(lambda x: prior.log_prob(x) - 0.5 * (x[..., 0] - 2.0).square() / 9.0, 2)
    sampler = Guidance(density_of(prior), reverse=SHORT)
    plan = sampler.prepare(tilted, 0, Journal(tilted.counter))
    setting = plan.detail
    rng = Streams.seeded(3, [200])
    source = Replay.of(rng)
    guide = Plan(setting.guide, setting)
    for t in (4.0, 0.5):
        x_t = setting.prior_survey.surrogate.draw(rng)[0] + t * rng.normal((200, 2))
        pair = Pair()
        alone: list[Any] = [None, None]
        shared, own = [], []
        for repeat in range(16):
            seen = [look(sampler.reverse, g, tilted, plan, x_t, t, source, (repeat, 0), pair, None) for g in (1.0, 0.0)]
            pair = seen[0].warm
            shared.append(seen[0].estimate.mean - seen[1].estimate.mean)
            mean = []
            for which, density in enumerate((tilted, setting.prior)):
                numbers = source.at(repeat, 0, 2 + which)
                estimate, draws, _ = sampler.reverse.look(density, guide, x_t, t, numbers, alone[which])
                alone[which] = draws.warm
                mean.append(estimate.mean)
            own.append(mean[0] - mean[1])
        less, more = (float(torch.stack(part[4:]).var(0).sum(-1).mean()) for part in (shared, own))
        print(f"t = {t}: variance {less:.4g} with shared numbers, {more:.4g} with own")
        assert less < (0.7 if t == 4.0 else 0.3) * more


def test_published_composition_without_a_pilot() -> None:
    """Other parts of the composition: OU, unadjusted chains, an exponential step and a start by Langevin steps."""
    posterior, prior = gaussian(Moments(0.5, 0.5)), gaussian(PRIOR)
    reverse = RDMC.published(levels=40, importance=32, chains=4, steps=8, start_steps=4)
    x = guided(posterior, prior, 1.0, n=600, reverse=reverse).samples.flatten(0, 1)
    pair = GuidedPair(Moments(0.5, 0.5), PRIOR, 1.0)
    law = pair.continuous(pair.start(EDM(8.0), 8.0), 8.0, 0.07)
    # a horizon of 1, 40 steps of first order and unadjusted chains: the allowance tells it from the posterior's 0.5 all the same
    assert_within(x[:, 0].mean(), law.mean, x[:, 0].std() / 600**0.5, allowance=0.1, label="mean")
    assert law.mean > 0.65
