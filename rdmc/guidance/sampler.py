r"""Guidance: the reverse diffusion along a combination of two scores.

.. math:: \nabla \log \tilde p_t(x) = (1 + g) \nabla \log p_t(x \mid c) - g \nabla \log p_t(x)

Each score is estimated by inner chains, both with the same random numbers, so that the difference of the two has little noise.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rdmc.capture import Modes
from rdmc.coordinates import Affine
from rdmc.density import Density
from rdmc.guidance.noise import Replay
from rdmc.guidance.pair import Pair, Seen, look
from rdmc.guidance.places import Setting, between, common, guide, start_law
from rdmc.guidance.prior import Prior, checked_prior, named, ready
from rdmc.guidance.strength import Interval, Strength, checked_strength, strength_at
from rdmc.inner import GuidedChains
from rdmc.journal import Journal
from rdmc.level import Level, level_columns
from rdmc.locate.survey import Survey, Surveyor
from rdmc.process import ForwardProcess
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit, located, pilot_streams
from rdmc.schedule import Fitted
from rdmc.steps import Estimate, Memory

__all__ = ["Guidance", "GuidedState"]

_NOISES = tuple(10.0**k for k in range(-2, 3))  # where a strength is told from another


@dataclass(frozen=True, eq=False)
class GuidedState:
    """Everything a batch needs between two levels, beside its random streams.

    Attributes:
        x_t: ``(B, d)`` particles, in the process's coordinates.
        x_0: ``(B, d)`` what would be returned now.
        level: Index of the present time in the grid.
        warm: Where the inner chains stand.
        memory: What a multistep method carries.
        levels: Diagnostics of the levels passed.
        noise: Where the numbers come from that both inner samplers share.
        labels: The posterior's mode of each particle's draw, level by level.
    """

    x_t: Tensor
    x_0: Tensor
    level: int
    warm: Pair
    memory: Memory | None
    levels: tuple[Level, ...]
    noise: Replay
    labels: tuple[Tensor, ...] = ()


@dataclass(frozen=True, repr=False)
class Guidance:
    r"""Draws guided by two densities, a posterior and a prior, or any two of the same dimension.

    .. math:: \nabla \log \tilde p_t = (1 + g) \nabla \log p_t(\cdot \mid c) - g \nabla \log p_t

    g = -1 follows the prior, 0 the posterior; between them lies a path from one to the other, beyond 0 what tells the posterior
    from the prior is exaggerated, beyond -1 what tells the prior from the posterior.

    What it is: the law that the reverse diffusion with these scores ends in. What it is not: the posterior to the power 1 + g
    over the prior to the power g. At each t the combined score is that of a product of powers of the two noised densities; but
    these products are not noised versions of one law, so the process does not pass through them and does not end in the product.
    For two Gaussians the result is a Gaussian of another mean and variance than the product's; modes of mixtures get other
    weights. A deterministic step (:class:`rdmc.steps.Heun`, :class:`rdmc.steps.Multistep`) gives yet another law, because the
    equivalence of the reverse equation and the probability flow rests on scores that belong together. For the product itself
    draw from ``(1 + g) * posterior - g * prior`` directly, or see :class:`PowerPosterior`.

    Both means are estimated at the same point by the same inner sampler, on the modes of both densities, with the same random
    numbers. All of an estimate is combined: mean, score, and draw. The draw, which :class:`rdmc.steps.Bridge` uses, is a draw of
    the posterior moved by g times the difference of the means (for g between -1 and 0 in part a draw of the prior, moved by
    1 + g times it). So the bridge is exact at g = 0 and g = -1. Elsewhere it is of order 1 in the grid; between two Gaussians,
    at 24 levels, its error in the variance was a tenth of that of :class:`rdmc.steps.Exponential` and
    :class:`rdmc.steps.Ancestral` at g = 0.5, a sixth at 1 and under a half at 3.

    ``result.log_density`` are values of the posterior, the first argument of :func:`rdmc.sample`. There is no evidence.

    Cost: that of ``reverse`` twice; once at levels where g is 0 or -1. Evaluations of both densities are counted together.

    Args:
        prior: The second density: what :func:`rdmc.sample` takes as its first argument.
        strength: g, or a function of sigma / alpha such as :class:`Interval`.
        reverse: Schedule, inner sampler, step, estimator, start, coordinates and finish. Coordinates and schedule are fitted to
            the modes of both densities.
        prior_pilot: How the modes of the prior are found; None for what ``reverse.pilot`` is.

    Raises:
        ValueError: If ``prior`` is no density or has another dimension, or ``strength`` is not finite.
        DensityError: If ``prior`` does not keep the contract of a density.
        NonFiniteDensityError: If more than a fifth of a level's evaluations of either density give NaN or ``+inf``.
        CheckpointError: If a run is resumed with another prior or strength.

    Source: Ho and Salimans (2022), arXiv:2207.12598, for the combination; Bradley and Nakkiran (2024), arXiv:2408.09000, for
    what its law is not; shared noise, the moved draw and the estimates without training: this library.

    Example:
        >>> Guidance(lambda x: -0.5 * x.square().sum(-1), strength=0.5).strength
        0.5
    """

    prior: Prior
    strength: Strength = 1.0
    reverse: RDMC = RDMC(schedule=Fitted(end=0.2, ratio=1.25), inner=GuidedChains(rounds=8, steps=1))
    prior_pilot: Surveyor | None = None
    side_by_side: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked_prior(self.prior)
        checked_strength(self.strength)
        if not isinstance(self.reverse, RDMC):
            raise ValueError(f"`reverse` must be an RDMC object, got {self.reverse!r}")

    def __repr__(self) -> str:
        plain = isinstance(self.strength, Interval) or not callable(self.strength)
        strength = repr(self.strength) if plain else named(self.strength)
        return (
            f"Guidance(prior={named(self.prior)}, strength={strength}, reverse={self.reverse!r}, "
            f"prior_pilot={self.prior_pilot!r})"
        )

    def at(self, process: ForwardProcess, t: float) -> float:
        """Strength g at time t."""
        return strength_at(self.strength, process.sigma(t) / process.alpha(t))

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """One particle a draw, one shard a batch."""
        return self.reverse.batches(draws, chains)

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Check the prior, run a pilot on each density, and fit coordinates and schedule to both."""
        reverse = self.reverse
        strengths = [strength_at(self.strength, noise) for noise in _NOISES]
        prior = ready(self.prior, density, seed, journal, strengths)
        if reverse.pilot is None:
            affine = reverse.coordinates or Affine.identity(density.dim, dtype=density.dtype, device=density.device)
            return Plan(None, Setting(affine, *reverse.schedule.plan(None), prior, None, None, None))
        posterior = located(reverse.pilot, density, seed, journal)
        other = self._locate_prior(prior, reverse.pilot, seed, journal)
        affine = reverse.coordinates or between(posterior, other)
        posterior, other = posterior.seen_in(affine), other.seen_in(affine)
        process, times = reverse.schedule.plan(common(posterior, other))
        start = start_law(self.at(process, times[0]), posterior, other)
        modes = Modes.of(posterior) if density.device.type != "meta" else None
        return Plan(posterior, Setting(affine, process, times, prior, other, guide(posterior, other), start, modes))

    def _locate_prior(self, prior: Density, pilot: Surveyor, seed: int, journal: Journal) -> Survey:
        own = self.prior_pilot or pilot
        try:
            return journal.step(
                "locate prior", lambda: own.run(journal.taped(prior), pilot_streams(prior, seed, own.starts))
            )
        except Exception as error:
            error.add_note("it is `prior` whose modes were looked for")
            raise

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> GuidedState:
        """Draw x_T."""
        setting: Setting = plan.detail
        noise, end, calls = Replay.of(rng), len(setting.times), itertools.count()

        def denoise(x: Tensor, at: float) -> Estimate:
            return self.look(density, plan, x, at, noise, (end, next(calls)), Pair(), None).estimate

        x_t = self.reverse.start_at.draw(setting.process, setting.start, density.dim, denoise, rng)
        return GuidedState(x_t, x_t, 0, Pair(), None, (), noise)

    def look(
        self,
        density: Density,
        plan: Plan,
        x_t: Tensor,
        t: float,
        noise: Replay,
        place: tuple[int, int],
        warm: Pair,
        before: Level | None,
    ) -> Seen:
        """One use of the inner sampler on both densities (:func:`rdmc.guidance.pair.look`)."""
        g = self.at(plan.detail.process, t)
        return look(self.reverse, g, density, plan, x_t, t, noise, place, warm, before)

    def advance(self, density: Density, plan: Plan, state: GuidedState, rng: Streams) -> GuidedState:
        """One noise level: from t to the next time, or at the last time what is returned."""
        setting: Setting = plan.detail
        t = setting.times[state.level]
        before = state.levels[-1] if len(state.levels) > 1 else None
        seen: list[Seen] = []

        def denoise(x: Tensor, at: float) -> Estimate:
            warm = seen[-1].warm if seen else state.warm
            seen.append(self.look(density, plan, x, at, state.noise, (state.level, len(seen)), warm, before))
            return seen[-1].estimate

        x_t, memory = state.x_t, None
        if state.level + 1 < len(setting.times):
            s = setting.times[state.level + 1]
            noise = rng.normal(x_t.shape)
            x_t, memory = self.reverse.step(setting.process, denoise, x_t, t, s, noise, state.memory)
            x_0 = seen[-1].estimate.draw
        elif self.reverse.finish == "state":
            x_0 = x_t
        else:
            last = denoise(x_t, t)
            x_0 = last.draw if self.reverse.finish == "draw" else last.mean
        levels = (*state.levels, *(own.level for own in seen[:1]))
        warm = seen[-1].warm if seen else state.warm
        labels = state.labels
        if seen and setting.modes is not None:
            labels = (*labels, setting.modes.label(x_0))
        return GuidedState(x_t, x_0, state.level + 1, warm, memory, levels, state.noise, labels)

    def progress(self, plan: Plan, state: GuidedState) -> Progress:
        """Levels done and expected."""
        label = f"sigma {state.levels[-1].sigma:.3g}" if state.levels else "start"
        return Progress(state.level, len(plan.detail.times), label)

    def collect(self, density: Density, plan: Plan, state: GuidedState) -> Block:
        """The last draws, in the user's coordinates, and the levels' diagnostics."""
        setting: Setting = plan.detail
        inner = level_columns(state.levels)
        if setting.modes is not None:
            inner |= setting.modes.columns(state.labels, setting.modes.label(state.x_0))
        return Block(setting.affine.to_user(state.x_0)[:, None, :], inner)
