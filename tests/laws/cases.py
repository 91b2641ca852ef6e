"""The instances that the laws are tested on: a new kernel, metric, inner sampler or estimator adds one line here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.inner import (
    Annealed,
    Chains,
    FromSurrogate,
    GuidedChains,
    Importance,
    InnerSampler,
    Recursive,
    Rejection,
    Shifted,
    Staged,
    Started,
)
from rdmc.kernels import HMC, MALA, ULA, Dense, Diagonal, IndependenceJump, Isotropic, Kernel, Metric, MixtureMALA
from rdmc.mixture import GaussianMixture
from rdmc.posterior import InnerPosterior
from rdmc.score import KnownScale, MinimumVariance, ScoreEstimator, SteinControlVariate, TargetScore, Tweedie

F = torch.float64
SKEWED_MEAN = -0.5772156649015329  # of log Exp(1): minus Euler's constant
SKEWED_VARIANCE = math.pi**2 / 6.0


def generator(seed: int) -> torch.Generator:
    """Randomness of a test's own set-up."""
    return torch.Generator().manual_seed(seed)


def skewed(dim: int) -> Density:
    """Independent logarithms of exponential variables: asymmetric, so that sign errors show."""

    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - x.exp()).sum(-1), 1.0 - x.exp()

    return Density(lambda x: (x - x.exp()).sum(-1), dim, value_and_grad)


def skewed_draws(shape: tuple[int, ...], seed: int) -> Tensor:
    """Exact draws of :func:`skewed`."""
    return torch.empty(shape, dtype=F).exponential_(generator=generator(seed)).log()


def spd(dim: int, seed: int) -> Tensor:
    """A covariance with correlations and unequal scales."""
    root = torch.randn(dim, dim, generator=generator(seed), dtype=F)
    return 0.5 * torch.eye(dim, dtype=F) + 0.5 * root @ root.T / dim


def near_skewed(dim: int, device: str = "cpu") -> GaussianMixture:
    """A mixture of three unequal components with about the mass of :func:`skewed`."""
    mean = -0.6 + 0.8 * torch.randn(3, dim, generator=generator(dim), dtype=F)
    covariance = torch.stack([1.3 * spd(dim, 10 + k) for k in range(3)])
    weight = torch.tensor([0.2, 0.5, 0.3], dtype=F)
    return GaussianMixture.from_covariance(mean.to(device), covariance.to(device), weight.to(device))


@dataclass(frozen=True)
class KernelCase:
    """A kernel with its metric.

    ``allowance`` is its known bias of mean and variance of :func:`skewed`; ``turns_noise`` whether its noise lives in
    space (True) or in the eigenbases of a mixture (False); ``target`` is the acceptance its adaptation steers to.
    """

    name: str
    kernel: Callable[[GaussianMixture], Kernel]
    metric: Callable[[int], Metric] = lambda dim: Isotropic(1.0)
    allowance: tuple[float, float] = (0.0, 0.0)
    turns_noise: bool = True
    target: float | None = None


KERNELS = [
    # ULA: bias O(h); on N(0, 1) the variance is off by h/2, here curvature varies, so h is allowed
    KernelCase("ula", lambda g: ULA(step_size=0.02), allowance=(0.02, 0.02 * SKEWED_VARIANCE)),
    KernelCase("ula-scaled", lambda g: ULA(0.06), lambda dim: Isotropic(0.5), (0.015, 0.015 * SKEWED_VARIANCE)),
    KernelCase("mala", lambda g: MALA(step_size=0.4, target_acceptance=0.65), target=0.65),
    KernelCase("mala-isotropic", lambda g: MALA(0.2), lambda dim: Isotropic(1.7), target=0.574),
    KernelCase("mala-diagonal", lambda g: MALA(0.3), lambda dim: Diagonal(torch.linspace(0.6, 1.4, dim, dtype=F))),
    KernelCase("mala-dense", lambda g: MALA(0.3), lambda dim: Dense(torch.linalg.cholesky(spd(dim, 5)))),
    KernelCase("hmc", lambda g: HMC(step_size=0.7, leapfrogs=3, target_acceptance=0.75, jitter=0.4), target=0.75),
    KernelCase("hmc-one", lambda g: HMC(0.9, leapfrogs=1), target=0.8),
    KernelCase("hmc-dense", lambda g: HMC(0.5, 4, jitter=0.0), lambda dim: Dense(torch.linalg.cholesky(spd(dim, 5)))),
    KernelCase("mixture-mala", lambda g: MixtureMALA(g, 0.6, 0.5), turns_noise=False, target=0.5),
    KernelCase("jump", IndependenceJump, turns_noise=False),
]


def bimodal(dim: int) -> GaussianMixture:
    """Two unequal modes near enough to each other for local chains to cross."""
    mean = torch.tensor([[-0.9, 0.3], [0.8, -0.2]], dtype=F)[:, :dim]
    covariance = torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.15, -0.05], [-0.05, 0.25]]], dtype=F)[:, :dim, :dim]
    return GaussianMixture.from_covariance(mean, covariance, torch.tensor([0.3, 0.7], dtype=F))


def as_target(mixture: GaussianMixture) -> Density:
    """A mixture as a counted density in closed form."""
    return Density(
        mixture.log_prob, mixture.dim, mixture.value_and_grad, dtype=mixture.mean.dtype, device=mixture.mean.device
    )


def surrogate(dim: int) -> GaussianMixture:
    """Near :func:`bimodal`, and wrong in every parameter."""
    right = bimodal(dim)
    return GaussianMixture(torch.tensor([0.5, 0.5], dtype=F).log(), right.mean + 0.1, right.basis, 1.4 * right.variance)


def posterior(dim: int, repeats: int, alpha: float = 0.8, sigma: float = 0.7) -> InnerPosterior:
    """q on :func:`bimodal` for three conditioning points, each repeated for as many independent particles."""
    points = torch.tensor([[-0.5, 0.4], [0.1, 0.0], [0.9, -0.7]], dtype=F)[:, :dim]
    return InnerPosterior(as_target(bimodal(dim)), points.repeat_interleave(repeats, 0), alpha, sigma, surrogate(dim))


@dataclass(frozen=True)
class InnerCase:
    """An inner sampler with what it must cost a particle from a cold start, and its known bias on :func:`posterior`."""

    name: str
    sampler: InnerSampler
    gradients: int
    densities: int = 0
    allowance: float = 0.0


BOUND = -0.3  # above the supremum of log density of bimodal(1), -0.3246, and bimodal(2), -0.5183
INNER = [
    InnerCase("importance", Importance(400), 0, 400),
    InnerCase("importance-shifted", Importance(400, Shifted(1.0)), 1, 400),
    InnerCase("importance-surrogate", Importance(200, FromSurrogate()), 0, 200),
    InnerCase("importance-gradients", Importance(300, FromSurrogate(), gradients=True, handed_on=2), 300),
    InnerCase("rejection", Rejection(BOUND, proposals=150, rounds=3, keep=40), 0, 450),
    InnerCase("annealed", Annealed(60, 6, HMC(0.4, 2), length=0.6), 60 * 13),
    InnerCase("annealed-surrogate", Annealed(60, 4, MALA(0.3), FromSurrogate(), power=1.0), 60 * 5),
    InnerCase("chains-mala", Chains(MALA(0.3), chains=2, burn_in=60, steps=10), 142),
    InnerCase("chains-hmc", Chains(HMC(0.3, 4), chains=1, burn_in=30, steps=10), 161),
    # ULA: O(h) bias; h = .02 itself is allowed, the bias was not measured apart
    InnerCase("chains-ula", Chains(ULA(0.02), chains=2, burn_in=100, steps=10), 222, allowance=0.02),
    InnerCase("guided", GuidedChains(rounds=8, steps=2, witnesses=0), 26),
    InnerCase("started", Started(Importance(300), Chains(MALA(0.2), chains=3, burn_in=2, steps=6), chains=3), 27, 300),
    InnerCase("started-annealed", Started(Annealed(50, 5, MALA(0.2)), Chains(MALA(0.2), 2, 0, 4), chains=2), 300 + 10),
    InnerCase("staged", Staged(((-math.inf, Importance(5)), (0.0, Importance(350)), (3.0, Chains()))), 0, 350),
    # ULA on z with a noisy score: O(h) bias; the allowance was chosen, not derived
    InnerCase(
        "recursive", Recursive(Chains(MALA(0.3), 4, 2, 6), 1.0, 2, 25, 6, 0.08), 2 * (4 + 31 * 32), allowance=0.04
    ),
    InnerCase(
        "recursive-twice",
        Recursive(Recursive(Importance(40, FromSurrogate()), 0.7, 2, 4, 4, 0.15), 0.7, 1, 12, 4, 0.15),
        0,
        16 * 2 * 8 * 40,
        allowance=0.06,
    ),
]

ESTIMATORS: list[ScoreEstimator] = [Tweedie(), TargetScore(), KnownScale(0.6), SteinControlVariate(), MinimumVariance()]


def name_of(case: object) -> str:
    """What pytest shows."""
    return str(getattr(case, "name", None) or type(case).__name__)
