r"""Reverse Diffusion Monte Carlo: the reverse diffusion, driven by an inner MCMC.

At each noise level the inner sampler draws from q_t(x_0 | x_t), the draws give the posterior mean and so the score (Lemma 2), and a
step moves every particle to the next level. With the bridge step the *draw itself* is what the step uses; the pair (x_0, x_t) is
then a Gibbs sampler whose x_0 has law pi at every level, and there is no discretisation error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from rdmc.budget.follow import Followed, last_columns
from rdmc.budget.step_law import StepLaw, law_of
from rdmc.budget.terms import error_terms
from rdmc.budget.transport import Look
from rdmc.capture import Modes
from rdmc.coordinates import Affine, InCoordinates
from rdmc.density import Density
from rdmc.grid import LinearGrid
from rdmc.inner import Chains, GuidedChains, Importance, InnerSampler, Started
from rdmc.inner.base import Draws, Warm
from rdmc.journal import Journal
from rdmc.kernels import ULA
from rdmc.level import Level, level_columns, measure_level, require_finite
from rdmc.locate.pilot import Pilot
from rdmc.locate.survey import Survey, Surveyor
from rdmc.posterior import InnerPosterior
from rdmc.process import OU, ForwardProcess
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit, batches_of_shards, located
from rdmc.schedule import Fitted, Fixed, Schedule
from rdmc.score import ScoreEstimate, ScoreEstimator, SteinControlVariate, Tweedie
from rdmc.start import LangevinStart, MatchedNormal, Start
from rdmc.steps import Bridge, Estimate, Exponential, Memory, Step

__all__ = ["RDMC", "ReverseState"]


@dataclass(frozen=True, eq=False)
class ReverseState:
    """Everything a batch needs between two levels, beside its random streams.

    Attributes:
        x_t: ``(B, d)`` particles, in the process's coordinates.
        x_0: ``(B, d)`` the last posterior draw of each particle.
        level: Index of the present time in the grid.
        warm: Where the inner chains stand.
        memory: What a multistep method carries.
        levels: Diagnostics of the levels passed.
        origin: Mean and covariance of x_T, where its law is not known beforehand.
        followed: Errors so far; None before the first level.
        labels: The mode of each particle's draw, level by level.
    """

    x_t: Tensor
    x_0: Tensor
    level: int
    warm: Warm | None
    memory: Memory | None
    levels: tuple[Level, ...]
    origin: tuple[Tensor, Tensor] | None = None
    followed: Followed | None = None
    labels: tuple[Tensor, ...] = ()


class _Setting(NamedTuple):
    """The plan's detail: where and on which grid the process runs."""

    affine: Affine
    process: ForwardProcess
    times: tuple[float, ...]
    modes: Modes | None = None


@dataclass(frozen=True)
class RDMC:
    """Reverse Diffusion Monte Carlo.

    ``RDMC()`` is our composition: whitened coordinates from a short pilot, a variance-exploding process fitted to the spread of the
    modes, persistent chains guided by the pilot's mixture, and the bridge step. ``RDMC.published()`` is the algorithm of
    Huang et al. (2024). Every choice is a field.

    Law: pi, in the limit of many inner steps; with the bridge for any grid, with other steps as the grid is refined too. With the
    bridge the error is that of the inner chains alone, which the trace reports by level.
    Cost: levels x the inner sampler's cost, per draw, plus the pilot.

    Args:
        schedule: Process and grid.
        inner: How x_0 is drawn given x_t.
        step: How x_t moves.
        estimator: How the posterior mean is estimated from the draws.
        start_at: How x_T is drawn.
        pilot: How modes and coordinates are found (or :class:`rdmc.Known`); None for the user's own coordinates.
        coordinates: Coordinates to use in place of the pilot's.
        finish: What is returned: ``"draw"`` (a posterior draw at the last level), ``"mean"`` or ``"state"`` (x_t itself).

    Raises:
        ValueError: If ``finish`` is unknown, or a part needs a pilot and there is none.
        NonFiniteDensityError: If more than a fifth of a level's evaluations give NaN or ``+inf``.

    Source: Huang, Dong, Hao, Ma and Zhang (ICLR 2024), arXiv:2307.02037; bridge step and guided chains: this library.

    Example:
        >>> RDMC().step
        Bridge()
    """

    schedule: Schedule = Fitted()
    inner: InnerSampler = GuidedChains()
    step: Step = Bridge()
    estimator: ScoreEstimator = SteinControlVariate()
    start_at: Start = MatchedNormal()
    pilot: Surveyor | None = Pilot()
    coordinates: Affine | None = None
    finish: str = "draw"
    side_by_side: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.finish not in ("draw", "mean", "state"):
            raise ValueError(f'`finish` must be "draw", "mean" or "state", got {self.finish!r}')

    @classmethod
    def published(
        cls,
        *,
        horizon: float = 1.0,
        levels: int = 100,
        end: float = 0.005,
        importance: int = 128,
        chains: int = 16,
        steps: int = 32,
        step_size: float = 0.05,
        start_steps: int = 16,
    ) -> RDMC:
        """The published algorithm: OU in the user's coordinates, equal steps in t, exponential integrator, ULA inside.

        Each score is the plain average over unadjusted Langevin chains, started by importance resampling; x_T comes from Langevin
        steps on p_T with estimated scores.

        Cost: about ``(levels + start_steps) x chains x steps`` gradient and ``x importance`` density evaluations a draw.

        Args:
            horizon: T of the OU process.
            levels: Outer steps K.
            end: Last time, at which x_t is returned.
            importance: Proposals of the warm start.
            chains: Inner chains n.
            steps: Inner steps of each chain; the first half is discarded.
            step_size: Inner ULA step in units of sigma^2 / (alpha^2 + sigma^2).
            start_steps: Langevin steps of the start.
        """
        ula = Chains(ULA(step_size), chains=chains, burn_in=steps // 2, steps=steps - steps // 2)
        return cls(
            schedule=Fixed(OU(horizon), LinearGrid(levels, end)),
            inner=Started(Importance(importance), ula, chains),
            step=Exponential(),
            estimator=Tweedie(),
            start_at=LangevinStart(start_steps),
            pilot=None,
            finish="state",
        )

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """One particle a draw, one shard a batch."""
        return batches_of_shards(draws, chains)

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Run the pilot and fit the schedule."""
        survey: Survey | None = None
        if self.pilot is not None:
            survey = located(self.pilot, density, seed, journal)
            if self.coordinates is not None:
                survey = survey.seen_in(self.coordinates)
        identity = Affine.identity(density.dim, dtype=density.dtype, device=density.device)
        affine = survey.affine if survey is not None else self.coordinates or identity
        modes = Modes.of(survey) if survey is not None and density.device.type != "meta" else None
        return Plan(survey, _Setting(affine, *self.schedule.plan(survey), modes))

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> ReverseState:
        """Draw x_T."""
        setting: _Setting = plan.detail
        surrogate = plan.survey.surrogate if plan.survey is not None else None

        def denoise(x_t: Tensor, t: float) -> Estimate:
            return self.look(density, plan, x_t, t, rng, None)[0]

        x_t = self.start_at.draw(setting.process, surrogate, density.dim, denoise, rng)
        known = isinstance(self.start_at, MatchedNormal) or len(x_t) == 1
        origin = None if known else (x_t.mean(0), torch.cov(x_t.T).reshape(density.dim, density.dim))
        return ReverseState(x_t, x_t, 0, None, None, (), origin)

    def look(
        self, density: Density, plan: Plan, x_t: Tensor, t: float, rng: Streams, warm: Warm | None
    ) -> tuple[Estimate, Draws, ScoreEstimate]:
        """Draw from q_t(. | x_t) and estimate its mean: one use of the inner sampler."""
        setting: _Setting = plan.detail
        surrogate = plan.survey.surrogate if plan.survey is not None else None
        target = InCoordinates(density, setting.affine)
        q = InnerPosterior(target, x_t, setting.process.alpha(t), setting.process.sigma(t), surrogate)
        draws = self.inner.draw(q, rng, warm)
        estimate = self.estimator(q, draws)
        return Estimate(estimate.mean, estimate.score, draws.draw), draws, estimate

    def advance(self, density: Density, plan: Plan, state: ReverseState, rng: Streams) -> ReverseState:
        """One noise level: from t to the next time, or at the last time the final draw."""
        setting: _Setting = plan.detail
        before, clock = density.counter.gradients, time.perf_counter()
        t = setting.times[state.level]
        warm = state.warm
        seen: list[tuple[Draws, ScoreEstimate]] = []

        def denoise(x: Tensor, at: float) -> Estimate:
            nonlocal warm
            estimate, draws, score = self.look(density, plan, x, at, rng, warm)
            warm = draws.warm
            seen.append((draws, score))
            return estimate

        if state.level + 1 < len(setting.times):
            s = setting.times[state.level + 1]
            noise = rng.normal(state.x_t.shape)
            x_t, memory = self.step(setting.process, denoise, state.x_t, t, s, noise, state.memory)
            x_0 = seen[-1][0].draw
        elif self.finish == "state":
            x_t, memory, x_0 = state.x_t, None, state.x_t
        else:
            last = denoise(state.x_t, t)
            x_t, memory, x_0 = state.x_t, None, last.draw if self.finish == "draw" else last.mean
        levels, labels, followed = state.levels, state.labels, state.followed
        if seen:
            cost = density.counter.gradients - before
            kept = levels[-1].memory if seen[0][0].continued and len(levels) > 1 else 1.0
            spent = time.perf_counter() - clock
            law, s = self._law(setting, state.level)
            errors = error_terms(setting.process, law, t, s, state.x_t, *seen[0])
            end = setting.times[-1] if self.finish == "state" else 0.0
            look = Look(t, state.x_t, *seen[0])
            here = (setting.process, law, s, end, look, setting.modes)
            followed = (followed or Followed.begin(*here)).step(*here)
            levels = (*levels, measure_level(setting.process, t, *seen[0], kept, float(cost), spent, errors))
            require_finite(levels[-1], setting.affine.to_user(x_0[:16]))
        if seen and setting.modes is not None:
            labels = (*labels, setting.modes.label(x_0))
        return ReverseState(x_t, x_0, state.level + 1, warm, memory, levels, state.origin, followed, labels)

    def _law(self, setting: _Setting, level: int) -> tuple[StepLaw, float]:
        """The step away from a level as its coefficients, and where to; the last draw or mean is a step to 0."""
        t = setting.times[level]
        if level + 1 == len(setting.times):
            mean = float(self.finish == "mean")
            return StepLaw(0.0, mean, float(self.finish == "draw"), 0.0, mean), 0.0
        s = setting.times[level + 1]
        return law_of(self.step, setting.process, t, s), s

    def progress(self, plan: Plan, state: ReverseState) -> Progress:
        """Levels done and expected."""
        total = len(plan.detail.times)
        label = f"sigma {state.levels[-1].sigma:.3g}" if state.levels else "start"
        return Progress(state.level, total, label)

    def collect(self, density: Density, plan: Plan, state: ReverseState) -> Block:
        """The last draws, in the user's coordinates, and the levels' diagnostics."""
        setting: _Setting = plan.detail
        samples = setting.affine.to_user(state.x_0)[:, None, :]
        inner = level_columns(state.levels)
        if setting.modes is not None:
            inner |= setting.modes.columns(state.labels, setting.modes.label(state.x_0))
        if state.levels and state.followed is not None:
            surrogate = plan.survey.surrogate if plan.survey is not None else None
            start = (self.start_at, setting.process, surrogate, state.x_0, state.origin)
            inner |= last_columns(len(state.levels), start, state.followed, setting.modes)
        return Block(samples, inner)
