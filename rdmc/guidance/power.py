r"""Guided paths weighted to the product of powers, posterior^(1 + g) / prior^g.

Every step of a guided path is drawn from a Gaussian kernel q of known mean and variance. With any positive functions
:math:`\gamma_t` in between, the weights

.. math::
    \frac{\gamma_T(x_T)}{p_{\text{ref}}(x_T)} \prod_{(t, s)}
    \frac{\gamma_s(x_s)\, N(x_t; r x_s, v I)}{\gamma_t(x_t)\, q(x_s \mid x_t)}, \qquad \gamma_0 = \pi_g

have the product's normalising constant as their mean, whatever q and :math:`\gamma_t` are. Here :math:`\gamma_t` is the product
of powers of the two noised surrogates, so weights are known on the way and particles can be resampled where they grow uneven.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rdmc.coordinates import InCoordinates
from rdmc.density import Density
from rdmc.errors import ImproperDensityError, NonFiniteDensityError
from rdmc.guidance.moves import Power, moved
from rdmc.guidance.noise import Replay
from rdmc.guidance.pair import Pair, Seen
from rdmc.guidance.places import Setting
from rdmc.guidance.sampler import Guidance
from rdmc.inner.base import require_count
from rdmc.journal import Journal
from rdmc.level import NONFINITE_LIMIT, Level, level_columns
from rdmc.locate.approach import require_finite_mass
from rdmc.mixture import GaussianMixture, squared_norm
from rdmc.particles import effective_share, log_mean, systematic
from rdmc.path.kernels import Moments
from rdmc.path.weights import log_transition, noised, reverse_law
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit
from rdmc.start import MatchedNormal

__all__ = ["PowerPosterior", "PowerState", "log_power"]


@dataclass(frozen=True, eq=False)
class PowerState:
    """Everything a batch needs between two levels, beside its random streams.

    Attributes:
        x_t: ``(B, d)`` particles, in the process's coordinates.
        log_weight: ``(B,)`` log weights since the last resampling.
        log_z: ``()`` log of the product of mean weights before it.
        level: Index of the present time in the grid; one more than the last when done.
        warm: Where the inner chains stand.
        levels: Diagnostics of the levels passed.
        ess: Effective share of the particles after each level.
        noise: Where the numbers come from that both inner samplers share.
    """

    x_t: Tensor
    log_weight: Tensor
    log_z: Tensor
    level: int
    warm: Pair
    levels: tuple[Level, ...]
    ess: tuple[float, ...]
    noise: Replay


@dataclass(frozen=True)
class PowerPosterior:
    r"""Draws from posterior^(1 + g) prior^(-g) and its normalising constant, by weighting guided paths.

    Each step draws x_s from a Gaussian: the bridge's, with the guided mean for x_0, widened by the variance of x_0 that the
    surrogates give. The weights of the module's formula are carried along; particles are resampled when the effective share
    falls below ``threshold``, and once at the end. ``path_ess`` in ``result.inner`` is that share, level by level. Two things keep
    weights even: Langevin moves of the particles on gamma_t at each level (:mod:`rdmc.guidance.moves`), and guided means that are
    drawn towards those of gamma_t as far as their own noise explains the difference.

    Use it in few dimensions, where the pilot's mixtures are near the two densities. Guided paths end elsewhere than the product
    (:class:`Guidance` says why), and weights must make up for all of the difference. On curved densities the product is better
    drawn from as what it is, one more unnormalised density: ``rdmc.sample(lambda x: (1 + g) * posterior(x) - g * prior(x), dim)``.

    Law: the product of powers as the number of draws per population grows; the evidence is unbiased for any number, grid, inner
    sampler and surrogate. It is the integral of the product, not of ``log_density``, and belongs to the densities as given:
    constants of both enter with their powers. ``result.log_density`` are values of the posterior.
    Cost: that of ``guidance``, and one density evaluation of each density a draw.

    Args:
        guidance: The prior, a number as strength, and the reverse diffusion; its ``step`` and ``finish`` are not used.
        threshold: Effective share of particles below which they are resampled; 0 resamples only at the end.
        moves: Langevin moves on gamma_t at each level, which ask nothing of the densities; 0 for none.

    Raises:
        ValueError: If ``threshold`` is not in [0, 1], ``moves`` is negative, the strength is a function, there is no pilot, or
            x_T comes from anything but :class:`rdmc.start.MatchedNormal`.
        ImproperDensityError: If the product has no finite mass, as far as lines through it show.
        NonFiniteDensityError: As for :class:`Guidance`.

    Source: Del Moral, Doucet and Jasra (2006) for sequential weights; Skreta et al. (2025), arXiv:2503.02819, for weighting
        guided paths, there in continuous time and by scores alone.

    Example:
        >>> PowerPosterior(Guidance(lambda x: -0.5 * x.square().sum(-1), strength=0.5)).threshold
        0.5
    """

    guidance: Guidance
    threshold: float = 0.5
    moves: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.guidance, Guidance):
            raise ValueError(f"`guidance` must be a Guidance object, got {self.guidance!r}")
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"`threshold` must be a number in [0, 1], got {self.threshold!r}")
        require_count("moves", self.moves, 0)
        if callable(self.guidance.strength):
            raise ValueError(f"`guidance` must have a number as `strength`, got {self.guidance.strength!r}")
        if self.guidance.reverse.pilot is None or not isinstance(self.guidance.reverse.start_at, MatchedNormal):
            raise ValueError(
                "`guidance` must have a pilot and `start_at=MatchedNormal()`, because weights need surrogates and the law of x_T, "
                f"got {self.guidance.reverse!r}"
            )

    @property
    def strength(self) -> float:
        """The power g."""
        assert not callable(self.guidance.strength)
        return float(self.guidance.strength)

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """One particle a draw, one shard a batch: weights are compared within it."""
        return self.guidance.batches(draws, chains)

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """What guidance prepares, and a look whether the product has finite mass."""
        plan = self.guidance.prepare(density, seed, journal)
        setting: Setting = plan.detail
        modes = plan.found.surrogate.mean

        def product(x: Tensor) -> Tensor:
            return log_power(self.strength, journal.taped(density), journal.taped(_prior(setting, density)), x)

        def require() -> None:
            seen = InCoordinates(
                Density(product, density.dim, dtype=density.dtype, device=density.device), setting.affine
            )
            require_finite_mass(seen, modes[seen(modes).argmax()], torch.eye(density.dim).to(modes))

        try:
            journal.step("look at the product", require)
        except ImproperDensityError as error:
            raise ImproperDensityError(
                f"posterior^(1 + g) prior^(-g) must have finite mass, which it does not seem to have at g = {self.strength:g}",
                points=error.points,
            ) from error
        return plan

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> PowerState:
        """Draw x_T and weigh it."""
        setting: Setting = plan.detail
        noise = Replay.of(rng)
        assert setting.start is not None
        horizon = setting.times[0]
        reference = noised(setting.start, setting.process.alpha(horizon), setting.process.sigma(horizon))
        x_t = reference.draw(rng)[0]
        between = self._between(plan, horizon)
        log_weight = between(x_t) - reference.log_prob(x_t)
        x_t = moved(between, x_t, self.moves, rng)
        return PowerState(x_t, log_weight, log_weight.new_zeros(()), 0, Pair(), (), (), noise)

    def advance(self, density: Density, plan: Plan, state: PowerState, rng: Streams) -> PowerState:
        """One noise level: from t to the next time, at the last time to 0, and weigh."""
        setting: Setting = plan.detail
        process, t = setting.process, setting.times[state.level]
        last = state.level + 1 == len(setting.times)
        s = 0.0 if last else setting.times[state.level + 1]
        before = state.levels[-1] if len(state.levels) > 1 else None
        z = rng.normal(state.x_t.shape)
        seen = self.guidance.look(density, plan, state.x_t, t, state.noise, (state.level, 0), state.warm, before)
        moments = Moments(self._mean(plan, state.x_t, t, seen), self._variance(plan, state.x_t, t))
        x_s, log_q = reverse_law(process, moments, state.x_t, t, s).draw(z)
        value = self._value(density, setting, x_s) if last else self._between(plan, s)(x_s)
        gain = value - self._between(plan, t)(state.x_t) + log_transition(process, state.x_t, x_s, t, s) - log_q
        log_weight = (state.log_weight + gain)[None]  # one population
        log_z, warm = state.log_z, seen.warm
        ess = float(effective_share(log_weight))
        if last or ess < self.threshold:
            log_z = log_z + log_mean(log_weight)[0]
            index = systematic(log_weight, rng.uniform(log_weight.shape[1:])[None, :1])[0]
            x_s, log_weight, warm = x_s[index], torch.zeros_like(log_weight), Pair()
        if not last:
            x_s = moved(self._between(plan, s), x_s, self.moves, rng)
        return PowerState(
            x_s,
            log_weight[0],
            log_z,
            state.level + 1,
            warm,
            (*state.levels, seen.level),
            (*state.ess, ess),
            state.noise,
        )

    def progress(self, plan: Plan, state: PowerState) -> Progress:
        """Levels done and expected."""
        label = f"sigma {state.levels[-1].sigma:.3g}" if state.levels else "start"
        return Progress(state.level, len(plan.detail.times), label)

    def collect(self, density: Density, plan: Plan, state: PowerState) -> Block:
        """The particles, resampled to equal weights; of an unfinished batch with the weights left out and no evidence."""
        setting: Setting = plan.detail
        inner = level_columns(state.levels) | {"path_ess": np.array(state.ess, dtype=np.float64)}
        done = state.level == len(setting.times)
        log_z = state.log_z + setting.affine.log_det() if done else torch.full_like(state.log_z, math.nan)
        return Block(setting.affine.to_user(state.x_t)[:, None, :], inner, log_z[None])

    def _value(self, density: Density, setting: Setting, x: Tensor) -> Tensor:
        """``(B,)`` log of the product, ``-inf`` where it is NaN or ``+inf``, if that is not often."""
        value = log_power(self.strength, density, _prior(setting, density), setting.affine.to_user(x))
        wrong = torch.isnan(value) | (value == torch.inf)
        if float(wrong.to(value.dtype).mean()) > NONFINITE_LIMIT:
            raise NonFiniteDensityError(
                f"the product of powers is NaN or +inf at {int(wrong.sum())} of {len(x)} draws (limit {NONFINITE_LIMIT:.0%})",
                points=setting.affine.to_user(x[wrong][:16]),
            )
        return value.masked_fill(wrong, -torch.inf)

    def _between(self, plan: Plan, t: float) -> Power:
        """gamma_t, the product of powers of the noised surrogates."""
        process = plan.detail.process
        return Power(self.strength, *(noised(own, process.alpha(t), process.sigma(t)) for own in _surrogates(plan)))

    def _mean(self, plan: Plan, x_t: Tensor, t: float, seen: Seen) -> Tensor:
        """``(B, d)`` the guided mean, drawn towards that of the surrogates as far as its noise explains the difference."""
        process = plan.detail.process
        alpha, sigma = process.alpha(t), process.sigma(t)
        known = (x_t + sigma**2 * self._between(plan, t).value_and_grad(x_t)[1]) / alpha
        apart = seen.estimate.mean - known
        noise = x_t.shape[1] * seen.level.mcse**2 if math.isfinite(seen.level.mcse) else 0.0
        share = (1.0 - noise / squared_norm(apart).clamp(min=torch.finfo(x_t.dtype).tiny)).clamp(0.0, 1.0)
        return known + share[:, None] * apart

    def _variance(self, plan: Plan, x_t: Tensor, t: float) -> Tensor:
        """``(B, d)`` variance of the combined draw, were the densities their surrogates."""
        process = plan.detail.process
        share = min(1.0, max(0.0, 1.0 + self.strength))
        own, other = (
            _variance(mixture.condition(x_t, process.alpha(t), process.sigma(t))) for mixture in _surrogates(plan)
        )
        return share * own + (1.0 - share) * other


def log_power(g: float, posterior: Density, prior: Density, x: Tensor) -> Tensor:
    """``(...)`` (1 + g) log p(x | c) - g log p(x); ``-inf`` where a density of positive power is 0.

    Cost: one evaluation of each density whose power is not 0.
    """
    parts = [(power, f(x)) for power, f in ((1.0 + g, posterior), (-g, prior)) if power != 0.0]
    total = torch.stack([power * value for power, value in parts]).sum(0)
    for power, value in parts:
        if power > 0.0:
            total = total.masked_fill(value == -torch.inf, -torch.inf)
    return total


def _prior(setting: Setting, density: Density) -> Density:
    return replace(setting.prior, counter=density.counter)


def _surrogates(plan: Plan) -> tuple[GaussianMixture, GaussianMixture]:
    other = plan.detail.prior_survey
    return plan.found.surrogate, other.surrogate


def _variance(mixture: GaussianMixture) -> Tensor:
    """``(B, d)`` variances of the coordinates of a mixture per particle."""
    weight = mixture.log_weight.exp()
    mean = torch.einsum("bk,bki->bi", weight, mixture.mean)
    within = torch.einsum("bk,kij,kj->bi", weight, mixture.basis.square(), mixture.variance)
    return within + torch.einsum("bk,bki->bi", weight, (mixture.mean - mean[:, None]).square())
