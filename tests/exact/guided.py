r"""Guidance between two isotropic Gaussians, for which everything is known.

Both scores are affine, so the guided process stays Gaussian. With noise level t (:class:`rdmc.process.EDM`), precision
P = (1 + g) / (v_c + t^2) - g / (v + t^2) and h = (1 + g) m_c / (v_c + t^2) - g m / (v + t^2), moments obey, backwards in t,

    dM = 2t (h - P M) dt,   dV = 2t (1 - 2 P V) dt       (reverse equation)
    dM =  t (h - P M) dt,   dV = -2t P V dt              (probability flow)

The product of powers is another Gaussian, of precision P and mean h / P at t = 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from rdmc.density import Density
from rdmc.guidance import Guidance
from rdmc.inner import GuidedChains
from rdmc.locate.pilot import Pilot
from rdmc.mixture import GaussianMixture
from rdmc.process import ForwardProcess
from rdmc.schedule import Fitted

F = torch.float64
SHORT = replace(Guidance.reverse, pilot=Pilot(starts=16, rounds=3, patience=1, scan=1))
FEW_LEVELS = replace(SHORT, schedule=Fitted(end=0.2, ratio=2.0), inner=GuidedChains(rounds=2, steps=1))
"""Where a test is about bits and counts and not about laws."""


@dataclass(frozen=True)
class Moments:
    """Mean of the first coordinate and variance of each."""

    mean: float
    variance: float


@dataclass(frozen=True)
class GuidedPair:
    """A posterior, a prior and a strength."""

    posterior: Moments
    prior: Moments
    strength: float

    def combined(self, posterior: float, prior: float) -> float:
        """The combination of strength g."""
        return (1.0 + self.strength) * posterior - self.strength * prior

    def slope(self, t: float) -> tuple[float, float]:
        """P and h."""
        noised = self.posterior.variance + t**2, self.prior.variance + t**2
        return (
            self.combined(1.0 / noised[0], 1.0 / noised[1]),
            self.combined(self.posterior.mean / noised[0], self.prior.mean / noised[1]),
        )

    @property
    def product(self) -> Moments:
        """The product of powers."""
        precision, shift = self.slope(0.0)
        return Moments(shift / precision, 1.0 / precision)

    @property
    def log_z(self) -> float:
        """Log of the integral of the product of powers, in one dimension of mean 0 and the rest."""
        p = self.product
        at_peak = self.combined(_log_normal(p.mean, self.posterior), _log_normal(p.mean, self.prior))
        return at_peak + 0.5 * math.log(2.0 * math.pi * p.variance)

    def start(self, process: ForwardProcess, horizon: float) -> Moments:
        """The law from which the sampler draws x_T."""
        root = self.combined(math.sqrt(self.posterior.variance), math.sqrt(self.prior.variance))
        alpha, sigma = process.alpha(horizon), process.sigma(horizon)
        mean = self.combined(self.posterior.mean, self.prior.mean)
        return Moments(alpha * mean, alpha**2 * root**2 + sigma**2)

    def continuous(self, begin: Moments, high: float, low: float, *, flow: bool = False, steps: int = 4000) -> Moments:
        """The law in continuous time at noise level ``low``, by Runge-Kutta steps in log t."""
        h = math.log(low / high) / steps
        share, noise = (1.0, 0.0) if flow else (2.0, 2.0)
        mean, variance = begin.mean, begin.variance

        def rate(tau: float, m: float, v: float) -> tuple[float, float]:
            t = math.exp(tau)
            precision, shift = self.slope(t)
            return -(t**2) * share * (shift - precision * m), -(t**2) * (noise - 2.0 * share * precision * v)

        for k in range(steps):
            tau = math.log(high) + k * h
            a = rate(tau, mean, variance)
            b = rate(tau + 0.5 * h, mean + 0.5 * h * a[0], variance + 0.5 * h * a[1])
            c = rate(tau + 0.5 * h, mean + 0.5 * h * b[0], variance + 0.5 * h * b[1])
            d = rate(tau + h, mean + h * c[0], variance + h * c[1])
            mean += h / 6.0 * (a[0] + 2.0 * b[0] + 2.0 * c[0] + d[0])
            variance += h / 6.0 * (a[1] + 2.0 * b[1] + 2.0 * c[1] + d[1])
        return Moments(mean, variance)

    def bridged(self, process: ForwardProcess, times: Sequence[float], begin: Moments) -> Moments:
        """The law after bridge steps with exact means and draws, the last one to 0: an exact recursion."""
        mean, variance = begin.mean, begin.variance
        share = min(1.0, max(0.0, 1.0 + self.strength))
        for t, s in pairwise((*times, 0.0)):
            alpha, sigma = process.alpha(t), process.sigma(t)
            on_x_0, on_x_t, sd = process.bridge(t, s)
            gains, spreads, offsets = [], [], []
            for law in (self.posterior, self.prior):
                noised = alpha**2 * law.variance + sigma**2
                gains.append(alpha * law.variance / noised)
                spreads.append(law.variance * sigma**2 / noised)
                offsets.append(law.mean * sigma**2 / noised)
            slope = on_x_0 * self.combined(*gains) + on_x_t
            spread = share * spreads[0] + (1.0 - share) * spreads[1]
            mean = slope * mean + on_x_0 * self.combined(*offsets)
            variance = slope**2 * variance + on_x_0**2 * spread + sd**2
        return Moments(mean, variance)


def _log_normal(x: float, law: Moments) -> float:
    return -0.5 * (x - law.mean) ** 2 / law.variance - 0.5 * math.log(2.0 * math.pi * law.variance)


def isotropic(*parts: tuple[list[float], float, float]) -> GaussianMixture:
    """From (mean, standard deviation, weight)."""
    mean, sd, weight = (torch.tensor([part[i] for part in parts], dtype=F) for i in range(3))
    return GaussianMixture.isotropic(mean, sd, weight)


def density_of(mixture: GaussianMixture) -> Density:
    return Density(mixture.log_prob, mixture.dim, mixture.value_and_grad)


def two_and_three() -> tuple[GaussianMixture, GaussianMixture]:
    """A prior and a posterior of unequal modes, one of which the posterior hasn't got."""
    prior = isotropic(([-5.0, 1.0], 0.8, 0.5), ([4.0, 2.0], 0.6, 0.3), ([0.0, -6.0], 1.0, 0.2))
    return prior, isotropic(([-5.2, 1.1], 0.6, 0.15), ([4.0, 1.6], 0.5, 0.85))
