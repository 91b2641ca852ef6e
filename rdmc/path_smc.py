"""The reverse diffusion as a sequential Monte Carlo sampler: every path is weighed, so that the evidence is unbiased."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdmc.coordinates import Affine, InCoordinates
from rdmc.density import Density
from rdmc.inner import FromSurrogate, Importance, InnerSampler
from rdmc.inner.base import Draws, Warm, require_count
from rdmc.inner.importance import weigh
from rdmc.journal import Journal
from rdmc.level import require_finite
from rdmc.locate.pilot import Pilot
from rdmc.locate.survey import Surveyor
from rdmc.mixture import GaussianMixture
from rdmc.particles import ancestral_variance, effective_share, evenly, in_batch, log_mean, systematic
from rdmc.path.controlled import Controlled
from rdmc.path.kernels import ReverseKernel
from rdmc.path.level import PathLevel, measure_path_level
from rdmc.path.potential import Marginal, Potential
from rdmc.path.start import NoisedStart, PathStart
from rdmc.path.weights import log_transition, positive, reverse_law, without_nan
from rdmc.posterior import InnerPosterior
from rdmc.process import ForwardProcess
from rdmc.refit import Refit, Refitted
from rdmc.rng import SHARD_SIZE, Streams
from rdmc.sampler import Block, Plan, Progress, Unit, located
from rdmc.schedule import Fitted, Schedule
from rdmc.table import Table

__all__ = ["PathSMC", "PathState"]

_REFIT_KEY = 0xFFFFFFFC  # streams that no (chain, shard) and no pilot can have
_TOGETHER = 1024  # particles of several small populations that share a batch


@dataclass(frozen=True, eq=False)
class PathState:
    """Everything a batch of U populations of N particles each (B = U N) needs between two levels, beside its random streams.

    Attributes:
        x_t: ``(B, d)`` particles, in the process's coordinates.
        x_0: ``(B, d)`` the last inner draw of each; at the end the resampled particles.
        level: Index of the present time in the grid.
        log_weight: ``(B,)`` since the last resampling, with the potentials that the particles carry taken off.
        origin: ``(U, N)`` the first particle of its population that each descends from.
        warm: Where the inner chains stand.
        log_evidence: ``(U,)`` up to the last resampling.
        variance: ``(U,)`` estimated relative variance of the evidence; NaN before the end.
        levels: Diagnostics of the levels passed.
        ess: ``(U,)`` effective share of the particles at each of them, before any resampling.
        resampled: ``(U,)`` whether there was one.
        draws: Draws wanted of each population.
    """

    x_t: Tensor
    x_0: Tensor
    level: int
    log_weight: Tensor
    origin: Tensor
    warm: Warm | None
    log_evidence: Tensor
    variance: Tensor
    levels: tuple[PathLevel, ...]
    ess: tuple[Tensor, ...]
    resampled: tuple[Tensor, ...]
    draws: int


class _Setting(NamedTuple):
    """The plan's detail: coordinates, mixture, process, and decreasing times that end with 0."""

    affine: Affine
    surrogate: GaussianMixture
    process: ForwardProcess
    times: tuple[float, ...]


@dataclass(frozen=True)
class PathSMC:
    r"""Sequential Monte Carlo down the noise levels, with Gaussian reverse kernels and exact path weights.

    At each level inner draws of q_t(x_0 | x_t) give the moments of a Gaussian reverse kernel and a potential; the particles are
    weighed (:mod:`rdmc.path.weights`), resampled (systematic) where their effective share is below ``threshold``, and moved.
    The last kernel goes to t = 0, where the weight is exact. ``threshold=0`` is plain importance sampling of paths.

    Law: pi in the limit of many particles, whatever kernel, grid, start and inner draws; error O(1/N). Draws have equal
    weights: a last systematic resampling of each population, so a draw may stand there more than once.
    Evidence: unbiased on the natural scale for each population, given the pilot and the refit; the mean over populations is
    reported. Randomness of the inner draws is an auxiliary variable drawn from its own law given the past, so noise costs
    variance and no bias, also where inner chains go on along a particle's ancestry or are tuned to the population.
    Cost: levels x the inner sampler's cost, per particle, plus the pilot's and the refit's.

    Args:
        schedule: Process and grid; a last step to t = 0 is added.
        inner: How x_0 is drawn given x_t.
        kernel: How the moments of the reverse kernel are estimated from the draws.
        potential: What particles are resampled by.
        start_at: The law of x_T.
        threshold: Effective share of the particles below which they are resampled, in [0, 1].
        particles: Least particles of a population, however few draws are wanted of it.
        pilot: How modes and coordinates are found (or :class:`rdmc.Known`).
        refit: How the pilot's mixture is improved, or None to keep it.

    Raises:
        ValueError: If an argument is out of range.
        NonFiniteDensityError: If more than a fifth of a level's evaluations give NaN or ``+inf``.

    Source: Wu, Han, Naesseth and Cunningham (2025), arXiv:2508.05926, for SMC with noisy scores; mixture-controlled moments,
    the power mean potential and the refit: this library.

    Example:
        >>> PathSMC(threshold=0.0).kernel
        Controlled(fitted=False)
    """

    schedule: Schedule = Fitted(reach=2.0, end=0.1, ratio=1.2)
    inner: InnerSampler = Importance(16, FromSurrogate(), gradients=True)
    kernel: ReverseKernel = Controlled()
    potential: Potential = Marginal()
    start_at: PathStart = NoisedStart()
    threshold: float = 0.5
    particles: int = 512
    pilot: Surveyor = Pilot()
    refit: Refit | None = Refit()
    side_by_side: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"`threshold` must be in [0, 1], got {self.threshold!r}")
        require_count("particles", self.particles, 2)

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """Shards of equal size, as each stands for the same evidence; one a batch, or several small ones."""
        shards = -(-draws // SHARD_SIZE)
        size = max(self.particles, -(-draws // shards))
        units = [Unit(chain, shard, size) for chain in range(chains) for shard in range(shards)]
        together = max(1, _TOGETHER // size)
        return tuple(tuple(units[begin : begin + together]) for begin in range(0, len(units), together))

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Run the pilot, improve its mixture, and fit the schedule."""
        survey = located(self.pilot, density, seed, journal)
        refitted = Refitted(survey, Table({}))
        if (refit := self.refit) is not None:
            refitted = journal.step("refit", lambda: refit.run(density, survey, seed, _REFIT_KEY))
        own = refitted.survey
        process, times = self.schedule.plan(own)
        return Plan(survey, _Setting(own.affine, own.surrogate, process, (*times, 0.0)), refitted.tried)

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> PathState:
        """Draw x_T."""
        setting: _Setting = plan.detail
        law = self.start_at.law(setting.process, setting.surrogate)
        x_t, _ = law.draw(rng)
        populations = len(rng.sizes)
        origin = torch.arange(rng.particles // populations, device=rng.device).repeat(populations, 1)
        none = x_t.new_zeros(populations)
        return PathState(x_t, x_t, 0, -law.log_prob(x_t), origin, None, none, none + torch.nan, (), (), (), draws)

    def advance(self, density: Density, plan: Plan, state: PathState, rng: Streams) -> PathState:
        """One noise level: draw, weigh, resample, move; at t = 0 weigh and resample for good."""
        setting: _Setting = plan.detail
        target = InCoordinates(density, setting.affine)
        before, clock = _spent(density), time.perf_counter()
        t = setting.times[state.level]
        draws: Draws | None = None
        if t > 0.0:
            process = setting.process
            q = InnerPosterior(target, state.x_t, process.alpha(t), process.sigma(t), setting.surrogate)
            draws = self.inner.draw(q, rng, state.warm)
            nonfinite, gamma = draws.nonfinite, self.potential.log_value(q, draws)
            law = reverse_law(process, self.kernel.moments(q, draws), state.x_t, t, setting.times[state.level + 1])
        else:
            value = target(state.x_t)
            gamma, wrong = weigh(value, value)
            nonfinite = wrong.to(gamma.dtype).mean()
        rows = state.origin.shape
        gamma = gamma.view(rows) if draws is None else positive(gamma.view(rows))
        log_weight = without_nan(state.log_weight.view(rows) + gamma)
        share = effective_share(log_weight)
        due = share < self.threshold if draws is not None else torch.ones_like(share, dtype=torch.bool)
        index = systematic(log_weight, rng.uniform((rng.particles,)).view(rows)[:, :1])
        index = torch.where(due[:, None], index, torch.arange(rows[1], device=index.device))
        log_evidence = state.log_evidence + torch.where(due, log_mean(log_weight), torch.zeros_like(share))
        variance = ancestral_variance(log_weight, state.origin) if draws is None else state.variance
        log_weight = log_weight.masked_fill(due[:, None], 0.0).flatten()
        flat = in_batch(index)
        warm: Warm | None = None
        x_t = x_0 = state.x_t[flat]
        if draws is not None:
            x_s, log_q = law.at(flat).draw(rng.normal(x_t.shape))
            step = log_transition(setting.process, x_t, x_s, t, setting.times[state.level + 1])
            log_weight, x_t, x_0 = log_weight + step - log_q - gamma.flatten()[flat], x_s, draws.draw[flat]
            warm = _carried(draws.warm, flat)
        level = measure_path_level(
            setting.process, t, draws, nonfinite, _spent(density) - before, time.perf_counter() - clock
        )
        require_finite(level, setting.affine.to_user(x_0[:16]))
        return PathState(
            x_t,
            x_0,
            state.level + 1,
            log_weight,
            state.origin.gather(1, index),
            warm,
            log_evidence,
            variance,
            (*state.levels, level),
            (*state.ess, share),
            (*state.resampled, due),
            state.draws,
        )

    def progress(self, plan: Plan, state: PathState) -> Progress:
        """Levels done and expected."""
        label = f"sigma {state.levels[-1].sigma:.3g}" if state.levels else "start"
        return Progress(state.level, len(plan.detail.times), label)

    def collect(self, density: Density, plan: Plan, state: PathState) -> Block:
        """The resampled particles, in the user's coordinates; of an unfinished batch, the last inner draws."""
        setting: _Setting = plan.detail
        populations, particles = state.origin.shape
        order = in_batch(evenly(particles, state.draws, state.x_0.device).expand(populations, -1))
        samples = setting.affine.to_user(state.x_0)[order][:, None, :]
        columns = np.array(state.levels, dtype=np.float64).reshape(len(state.levels), len(PathLevel._fields)).T
        inner = {
            name: np.tile(values, (populations, 1)) for name, values in zip(PathLevel._fields, columns, strict=True)
        }
        for name in ("nonfinite", "evaluations", "seconds"):  # of the batch
            inner[name] = inner[name] / populations
        for name, parts in (("path_ess", state.ess), ("resampled", state.resampled)):
            inner[name] = np.array([part.double().tolist() for part in parts]).reshape(-1, populations).T
        finished = state.level == len(setting.times)
        evidence = state.log_evidence + setting.affine.log_det() if finished else state.log_evidence + torch.nan
        return Block(samples, inner, evidence, state.variance)


def _spent(density: Density) -> int:
    return density.counter.gradients + density.counter.densities


def _carried(warm: Warm, index: Tensor) -> Warm:
    """The inner chains of the particles ``index``; what is tuned for all of them, and witnesses, stay."""

    def taken(part: Tensor | None) -> Tensor | None:
        return None if part is None else part[:, index]

    own = warm.tuning is not None and warm.tuning.shape == warm.x.shape[:-1]
    return warm._replace(
        x=warm.x[:, index],
        value=taken(warm.value),
        grad=taken(warm.grad),
        tuning=taken(warm.tuning) if own else warm.tuning,
    )
