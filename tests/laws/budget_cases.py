"""Gaussian targets with everything known, exact inner draws, and known errors: what the laws of the error budget are tested on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import rdmc
from rdmc.budget.step_law import law_of
from rdmc.coordinates import Affine
from rdmc.density import Density
from rdmc.grid import LogSNRGrid
from rdmc.inner import Draws, FromSurrogate, Importance, Warm
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.posterior import InnerPosterior, score_from_mean
from rdmc.process import OU, ForwardProcess
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.schedule import Fixed
from rdmc.score import ScoreEstimate, ScoreEstimator, Tweedie
from rdmc.start import MatchedNormal, Start
from rdmc.steps import Estimate, Memory, Step
from tests.exact.gaussian import Gaussian, push

F = torch.float64
FACTOR = 3.0  # within which an estimate must be of the measured divergence


def target_of(d: int) -> Gaussian:
    """A Gaussian off the origin with unequal scales and correlations, in the user's own coordinates."""
    root = torch.randn(d, d, generator=torch.Generator().manual_seed(d), dtype=F)
    return Gaussian(
        torch.linspace(-0.5, 1.0, d, dtype=F), torch.diag(torch.linspace(0.1, 1.5, d, dtype=F)) + 0.1 * root @ root.T
    )


def mixture_of(target: Gaussian) -> GaussianMixture:
    return GaussianMixture.from_covariance(target.mean[None], target.cov[None], torch.ones(1, dtype=F))


def divergence(p: Gaussian, q: Gaussian) -> float:
    """KL(p || q)."""
    ratio, gap = torch.linalg.solve(q.cov, p.cov), p.mean - q.mean
    constant = float(torch.trace(ratio) - len(p.mean) - torch.linalg.slogdet(ratio)[1])
    return 0.5 * (constant + float(gap @ torch.linalg.solve(q.cov, gap)))


def between_paths(step: Step, process: ForwardProcess, times: Sequence[float], target: Gaussian) -> float:
    """The exact sum over levels of E KL(exact reverse kernel || step)."""
    total, eye = 0.0, torch.eye(len(target.mean), dtype=F)
    for t, s in pairwise(times):
        law, bridge, alpha, p_t = law_of(step, process, t, s), process.bridge(t, s), process.alpha(t), None
        assert law is not None
        p_t = target.marginal(process, t)
        gain = alpha * target.cov @ torch.linalg.inv(p_t.cov)  # E[x_0 | x_t] = mean + gain (x_t - alpha mean)
        ratio = (bridge.sd**2 * eye + bridge.on_x_0**2 * (target.cov - alpha * gain @ target.cov)) / law.sd**2
        on_x_t, on_mean = bridge.on_x_t - law.on_x_t, bridge.on_x_0 - law.on_mean
        slope, middle = on_x_t * eye + on_mean * gain, on_x_t * p_t.mean + on_mean * target.mean
        drift = float(middle @ middle + torch.trace(slope @ p_t.cov @ slope.T)) / law.sd**2
        total += 0.5 * (float(torch.trace(ratio) - len(eye) - torch.linalg.slogdet(ratio)[1]) + drift)
    return total


def close(estimate: float, measured: float, factor: float, label: str) -> None:
    print(
        f"{label}: estimate {estimate:.4g}, measured {measured:.4g}, factor {estimate / measured:.3f}, at most {factor:g}"
    )
    assert measured / factor < estimate < measured * factor, label


@dataclass(frozen=True)
class Exact:
    """n exact draws from q_t, for a sampler without a pilot."""

    mixture: GaussianMixture
    n: int = 64

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        return Importance(self.n, FromSurrogate()).draw(dataclasses.replace(q, surrogate=self.mixture), rng, None)


@dataclass(frozen=True)
class Noisy:
    """The exact mean, with noise of a known size that is new at every call, and says so."""

    mixture: GaussianMixture
    sd: float
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(3))

    def __call__(self, q: InnerPosterior, draws: Draws) -> ScoreEstimate:
        exact = self.mixture.condition(q.x_t, q.alpha, q.sigma)
        mean = (exact.log_weight.exp()[..., None] * exact.mean).sum(1)
        mean = mean + self.sd * torch.randn(mean.shape, generator=self.generator, dtype=F)
        return ScoreEstimate(mean, q.score(mean), torch.full_like(mean, self.sd), draws.ess)


@dataclass(frozen=True)
class Off:
    """A start that is too wide and in the wrong place, of a law that nobody states."""

    wide: float = 1.3
    shift: float = 0.4

    def draw(self, process: Any, surrogate: Any, dim: int, denoise: Any, rng: Streams) -> Tensor:
        return self.shift + self.wide * MatchedNormal().draw(process, surrogate, dim, denoise, rng)


def run(
    mixture: GaussianMixture,
    step: Step,
    levels: int,
    horizon: float = 2.0,
    estimator: ScoreEstimator | None = None,
    start: Start | None = None,
    pilot: bool = True,
    draws: int = 1000,
    **options: Any,
) -> tuple[rdmc.Result, ForwardProcess, tuple[float, ...]]:
    schedule = Fixed(OU(horizon), LogSNRGrid(levels, 0.02))
    sampler = RDMC(
        schedule,
        Exact(mixture),
        step,
        estimator or Tweedie(),
        start or MatchedNormal(),
        pilot=Known(mixture) if pilot else None,
        coordinates=Affine.identity(mixture.dim),
        finish="state",
        **options,
    )
    density = Density(mixture.log_prob, mixture.dim, mixture.value_and_grad)
    result = rdmc.sample(density, draws=draws, chains=2, sampler=sampler, progressbar=False)
    return result, *schedule.plan(None)


def widened(step: Step, process: ForwardProcess, times: Sequence[float], target: Gaussian, sd: float) -> Gaussian:
    """The law at the end when the exact mean has noise of this size, new at every level."""
    laws = [law_of(step, process, t, s) for t, s in pairwise(times)]
    law = push(step, process, times, target)
    added = torch.zeros_like(target.cov)
    for (t, _), own in zip(pairwise(times), laws, strict=True):
        assert own is not None
        gain = process.alpha(t) * target.cov @ torch.linalg.inv(target.marginal(process, t).cov)
        slope = own.on_x_t * torch.eye(len(gain), dtype=F) + own.on_mean * gain
        added = slope @ added @ slope.T + (own.on_mean * sd) ** 2 * torch.eye(len(gain), dtype=F)
    return Gaussian(law.mean, law.cov + added)


def noisy_flow(step: Step, process: ForwardProcess, times: Sequence[float], target: Gaussian, sd: float) -> Tensor:
    """``(d, d)`` covariance at the end that noise of every mean asked for adds, by the affine map from all noises."""
    d = len(target.mean)
    calls = step.estimates * (len(times) - 1)
    basis = torch.eye(d * calls + 1, dtype=F)
    exact, used = target.denoiser(process), 0

    def denoise(x_t: Tensor, t: float) -> Estimate:
        nonlocal used
        mean = exact(x_t, t).mean + sd * basis[:, used * d : (used + 1) * d]
        used += 1
        return Estimate(mean, score_from_mean(mean, x_t, process.alpha(t), process.sigma(t)), mean)

    x = torch.zeros(len(basis), d, dtype=F)
    memory: Memory | None = None
    for t, s in pairwise(times):
        x, memory = step(process, denoise, x, t, s, torch.zeros_like(x), memory)
    assert used == calls
    return (x[:-1] - x[-1]).T @ (x[:-1] - x[-1])
