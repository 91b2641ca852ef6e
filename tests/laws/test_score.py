"""Laws of score estimators: unbiased, with honest errors, and better than the plain average where that is possible."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from rdmc.inner import Chains, Draws, Importance, Rejection, Warm
from rdmc.kernels import MALA
from rdmc.mixture import GaussianMixture
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams
from rdmc.score import KnownScale, MinimumVariance, ScoreEstimator, SteinControlVariate, TargetScore, Tweedie
from tests.laws.cases import BOUND, ESTIMATORS, F, as_target, bimodal, name_of, posterior
from tests.stats import assert_within

ALL = pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)


def exact_mean(pi: GaussianMixture, q: InnerPosterior) -> Tensor:
    """``(B, d)`` posterior mean in closed form."""
    law = pi.condition(q.x_t, q.alpha, q.sigma)
    return torch.einsum("bk,bki->bi", law.log_weight.exp(), law.mean)


def exact_draws(pi: GaussianMixture, q: InnerPosterior, n: int, seed: int) -> Draws:
    """Independent draws of q with their gradients."""
    x = pi.condition(q.x_t, q.alpha, q.sigma).draw(Streams.seeded(seed, [q.particles]), (n,))[0]
    return Draws(x, x[0], q.value_and_grad(x)[1], None, 0, None, None, x.new_zeros(()), Warm(x))


@pytest.mark.parametrize("sigma", [0.2, 0.7])
@ALL
def test_unbiased_with_calibrated_errors(estimator: ScoreEstimator, sigma: float) -> None:
    repeats, n = 600, 200
    q = posterior(2, repeats, sigma=sigma)
    got = estimator(q, exact_draws(bimodal(2), q, n, seed=1))
    truth = exact_mean(bimodal(2), q)
    by_point = got.mean.view(3, repeats, 2)
    # the gains estimated from the draws themselves bias the mean by O(1/n): of the order of mcse^2 over the scale of q
    allowance = (
        0.0 if isinstance(estimator, Tweedie | TargetScore | KnownScale) else float(got.mcse.square().mean() / q.scale)
    )
    assert_within(
        by_point.mean(1), truth.view(3, repeats, 2)[:, 0], by_point.std(1) / repeats**0.5, repeats, 5.0, allowance
    )
    z = (got.mean - truth) / got.mcse
    assert 0.8 < float(z.std()) < 1.2, f"z-scores have sd {float(z.std()):.3f}"
    assert_within(got.score, (q.alpha * got.mean - q.x_t) / q.sigma**2, 1e-9)
    torch.testing.assert_close(got.ess, torch.full_like(got.ess, n))


@ALL
def test_error_falls_as_the_root_of_the_draws(estimator: ScoreEstimator) -> None:
    q = posterior(2, 500, sigma=0.5)
    errors = []
    for n in (50, 800):
        got = estimator(q, exact_draws(bimodal(2), q, n, seed=n))
        errors.append(float((got.mean - exact_mean(bimodal(2), q)).square().mean().sqrt()))
    assert math.log(errors[0] / errors[1]) / math.log(16.0) == pytest.approx(0.5, abs=0.06)


def test_tweedie_is_the_score_of_the_noised_density() -> None:
    pi, q = bimodal(2), posterior(2, 1)
    noised = GaussianMixture(pi.log_weight, q.alpha * pi.mean, pi.basis, q.alpha**2 * pi.variance + q.sigma**2)
    n = 100_000
    got = Tweedie()(q, exact_draws(pi, q, n, seed=0))
    assert_within(got.score, noised.value_and_grad(q.x_t)[1], got.mcse * q.alpha / q.sigma**2, n, label="score")


def test_target_score_is_the_target_score_identity() -> None:
    q = posterior(2, 2)
    draws = exact_draws(bimodal(2), q, 50, seed=0)
    average = q.target.value_and_grad(draws.x_0)[1].mean(0)
    torch.testing.assert_close(q.alpha * TargetScore()(q, draws).score, average, rtol=1e-9, atol=1e-9)


def gaussian(length: float) -> GaussianMixture:
    """N(m, length^2 I) in 3 dimensions."""
    return GaussianMixture.isotropic(
        torch.tensor([[1.0, -2.0, 0.5]], dtype=F), torch.tensor([length], dtype=F), torch.ones(1, dtype=F)
    )


@pytest.mark.parametrize(
    ("estimator", "n"), [(KnownScale(1.7), 1), (KnownScale(1.7), 3), (MinimumVariance(), 2)], ids=repr
)
@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_exact_on_a_gaussian(estimator: ScoreEstimator, n: int, sigma: float) -> None:
    pi = gaussian(1.7)
    q = InnerPosterior(as_target(pi), torch.tensor([[0.3, 1.0, -4.0]], dtype=F), 0.8, sigma)
    got = estimator(q, exact_draws(pi, q, n, seed=3))
    torch.testing.assert_close(got.mean, exact_mean(pi, q), rtol=1e-9, atol=1e-9)


def test_the_estimated_gains_are_the_variance_of_q() -> None:
    pi = gaussian(0.6)
    q = InnerPosterior(as_target(pi), torch.zeros(1, 3, dtype=F), 1.0, 0.8)
    draws = exact_draws(pi, q, 20_000, seed=0)
    shifted = dataclasses.replace(
        draws, x_0=draws.x_0 * 0.0, grad=torch.ones_like(draws.x_0) * draws.grad.square().mean().sqrt()
    )  # type: ignore[union-attr]
    gain = SteinControlVariate()(q, shifted).mean / shifted.grad[0]  # type: ignore[index]
    assert float(gain.mean()) == pytest.approx(1.0 / (1.0 / 0.36 + 1.0 / 0.64), rel=0.02)


@pytest.mark.parametrize("estimator", [SteinControlVariate(), MinimumVariance()], ids=name_of)
def test_gains_stay_between_tweedie_and_target_score(estimator: ScoreEstimator) -> None:
    q = posterior(2, 40, sigma=2.0)
    for n in (2, 3, 4):
        draws = exact_draws(bimodal(2), q, n, seed=n)
        grad = draws.grad
        assert grad is not None
        shift = estimator(q, draws).mean - draws.average(draws.x_0)
        gain = (shift * grad.mean(0)).sum(-1) / grad.mean(0).square().sum(-1)
        assert float(gain.min()) >= -1e-12 and float(gain.max()) <= (q.sigma / q.alpha) ** 2 * (1.0 + 1e-9)


def test_one_draw_leaves_the_error_unknown() -> None:
    q = posterior(2, 2)
    draws = exact_draws(bimodal(2), q, 1, seed=0)
    got = MinimumVariance()(q, draws)
    assert torch.equal(got.mean, draws.x_0[0]) and bool((got.mcse == torch.inf).all())


WIDTH = {"pair": 0.5, "tilted": 0.5, "eight": 0.5}  # a typical standard deviation of the modes


def target(name: str) -> GaussianMixture:
    """Three asymmetric multimodal targets, in 1, 2 and 8 dimensions."""
    if name == "pair":
        return GaussianMixture.isotropic(
            torch.tensor([[-2.0], [1.5]], dtype=F), torch.tensor([0.5, 0.8], dtype=F), torch.tensor([3.0, 7.0], dtype=F)
        )
    if name == "tilted":
        mean = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, -3.0]], dtype=F)
        covariance = torch.tensor(
            [[[1.0, 0.5], [0.5, 0.6]], [[0.4, -0.2], [-0.2, 0.3]], [[0.5, 0.0], [0.0, 1.0]]], dtype=F
        )
        return GaussianMixture.from_covariance(mean, covariance, torch.tensor([2.0, 5.0, 3.0], dtype=F))
    mean = torch.stack([torch.linspace(0.5, 1.5, 8, dtype=F), torch.full((8,), -1.0, dtype=F)])
    return GaussianMixture.isotropic(mean, torch.tensor([0.6, 0.4], dtype=F), torch.tensor([2.0, 1.0], dtype=F))


@pytest.mark.parametrize("estimator", [SteinControlVariate(), MinimumVariance()], ids=name_of)
@pytest.mark.parametrize("source", ["exact", "chains", "importance"])
@pytest.mark.parametrize("name", ["pair", "tilted", "eight"])
def test_a_control_variate_pays(name: str, source: str, estimator: ScoreEstimator) -> None:
    pi, particles, gains = target(name), 400, {}
    for ratio in (0.05, 0.1, 0.2, 0.4, 1.0, 3.0):
        alpha = 1.0 / math.hypot(1.0, ratio)
        sigma, rng = ratio * alpha, Streams.seeded(1, [particles])
        x_0, _ = pi.draw(rng)
        q = InnerPosterior(as_target(pi), alpha * x_0 + sigma * rng.normal(x_0.shape), alpha, sigma)
        if source == "exact":
            draws = exact_draws(pi, q, 32, seed=2)
        elif source == "chains":
            start = pi.condition(q.x_t, alpha, sigma).draw(rng, (4,))[0]
            draws = Chains(MALA(), chains=4, burn_in=8, steps=8).draw(q, rng, Warm(start))
        else:
            draws = Importance(64, gradients=True).draw(q, rng, None)
        truth = exact_mean(pi, q)
        plain, better = ((e(q, draws).mean - truth).square().mean(-1) for e in (Tweedie(), estimator))
        gains[ratio] = float((plain.mean() / better.mean()).sqrt())
        loss = better - plain
        assert float(loss.mean()) <= 3.0 * float(loss.std()) / particles**0.5, (
            f"worse at sigma/alpha = {ratio}: {gains[ratio]:.3f}"
        )
    print(name, source, name_of(estimator), {ratio: round(gain, 2) for ratio, gain in gains.items()})
    assert all(gain >= 3.0 for ratio, gain in gains.items() if ratio < 0.5 * WIDTH[name]), gains


@ALL
def test_errors_of_chains_and_weights_are_sane(estimator: ScoreEstimator) -> None:
    q = posterior(2, 200)
    rng = Streams.seeded(0, [q.particles])
    start = bimodal(2).condition(q.x_t, q.alpha, q.sigma).draw(rng, (8,))[0]
    for draws in (
        Chains(MALA(0.3), chains=8, burn_in=20, steps=20).draw(q, rng, Warm(start)),
        Importance(300, gradients=True).draw(q, rng, None),
    ):
        got = estimator(q, draws)
        # of squares, not of z-scores: chain means are skewed where a mode is seldom visited, and z with them
        squared, stated = (got.mean - exact_mean(bimodal(2), q)).square().mean(), got.mcse.square().mean()
        assert 0.75 < float(squared / stated) < 1.3, float(squared / stated)
        assert bool((got.ess > 4.0).all()) and bool((got.ess <= draws.x_0.shape[0] * (1.0 + 1e-9)).all())


@pytest.mark.parametrize("estimator", ESTIMATORS[1:], ids=name_of)
def test_missing_gradients_are_named(estimator: ScoreEstimator) -> None:
    q = posterior(2, 2)
    draws = Rejection(BOUND).draw(q, Streams.seeded(0, [6]), None)
    with pytest.raises(
        ValueError, match=rf"{type(estimator).__name__} needs the gradients of log q .* got `grad=None`"
    ):
        estimator(q, draws)
    assert bool(torch.isfinite(Tweedie()(q, draws).mean).all())


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"`length` must be a positive float, got 0\.0"):
        KnownScale(0.0)
