"""One use of the inner sampler on each of two densities, with the same random numbers."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.guidance.noise import Replay
from rdmc.guidance.places import Setting, combined
from rdmc.inner.base import Warm
from rdmc.level import Level, measure_level, require_finite
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.sampler import Plan
from rdmc.steps import Estimate

__all__ = ["Pair", "Seen", "combine", "look"]


class Pair(NamedTuple):
    """Where the inner chains of both densities stand; None for one that was not asked at the last level."""

    posterior: Warm | None = None
    prior: Warm | None = None


class Seen(NamedTuple):
    """What both inner samplers say.

    Attributes:
        estimate: The combination.
        warm: Where the chains stand.
        level: What it was like: sums of costs, else the worse of both; ``mcse`` as if the two errors were independent.
    """

    estimate: Estimate
    warm: Pair
    level: Level


def combine(g: float, posterior: Estimate, prior: Estimate, rng: Streams) -> Estimate:
    """Mean and score of strength g, and a draw that is the posterior's at g = 0 and the prior's at g = -1.

    With D the difference of the means, the draw is x_c + g D, where x_c is the posterior's; for g between -1 and 0 it is that
    with probability 1 + g and else x + (1 + g) D, where x is the prior's. Its mean is the combined mean, and on Gaussians
    between 0 and -1 its variance is (1 + g) V_c - g V, which is what the combined score implies.

    Args:
        g: Strength.
        posterior: What is known of the first density.
        prior: What is known of the second.
        rng: For the choice between the two draws.
    """
    difference = posterior.mean - prior.mean
    draw = posterior.draw + g * difference
    if g < 0.0:
        other = prior.draw + (1.0 + g) * difference
        draw = torch.where(rng.uniform(draw.shape[:1])[:, None] < 1.0 + g, draw, other)
    return Estimate(combined(g, posterior.mean, prior.mean), combined(g, posterior.score, prior.score), draw)


def look(
    reverse: RDMC,
    g: float,
    density: Density,
    plan: Plan,
    x_t: Tensor,
    t: float,
    noise: Replay,
    place: tuple[int, int],
    warm: Pair,
    before: Level | None,
) -> Seen:
    """Draw from both inner posteriors at the same points and combine what they say; from one alone where g is 0 or -1.

    Args:
        reverse: How to draw and estimate.
        g: Strength.
        density: The posterior.
        plan: Whose detail is a :class:`Setting`.
        x_t: ``(B, d)`` particles.
        t: Time.
        noise: Where the shared numbers come from.
        place: Which of them: the level, and the call within it.
        warm: Where the chains stand.
        before: The last level, for how much the chains may remember.
    """
    setting: Setting = plan.detail
    prior = replace(setting.prior, counter=density.counter)
    estimates: list[Estimate] = []
    levels: list[Level] = []
    after: list[Warm | None] = []
    for name, own, start, share in (
        ("log_density", density, warm.posterior, 1.0 + g),
        ("prior", prior, warm.prior, -g),
    ):
        if share == 0.0:
            after.append(None)
            continue
        cost, clock = density.counter.gradients, time.perf_counter()
        guide = Plan(setting.guide, setting)
        estimate, draws, score = reverse.look(own, guide, x_t, t, noise.at(*place, 0), start)
        kept = before.memory if before is not None and draws.continued else 1.0
        cost, clock = density.counter.gradients - cost, time.perf_counter() - clock
        level = measure_level(setting.process, t, draws, score, kept, float(cost), clock)
        require_finite(level, setting.affine.to_user(draws.draw[:16]), name)
        estimates.append(estimate)
        levels.append(level._replace(mcse=abs(share) * level.mcse))
        after.append(draws.warm)
    if len(estimates) == 1:
        return Seen(estimates[0], Pair(*after), levels[0])
    return Seen(combine(g, estimates[0], estimates[1], noise.at(*place, 1)), Pair(*after), _worse(*levels))


def _worse(a: Level, b: Level) -> Level:
    """One row for two densities."""
    return a._replace(
        rhat=_largest(a.rhat, b.rhat),
        memory=_largest(a.memory, b.memory),
        ess=min(a.ess, b.ess),
        mcse=math.hypot(a.mcse, b.mcse),
        acceptance=0.5 * (a.acceptance + b.acceptance),
        jump_acceptance=0.5 * (a.jump_acceptance + b.jump_acceptance),
        nonfinite=a.nonfinite + b.nonfinite,
        evaluations=a.evaluations + b.evaluations,
        seconds=a.seconds + b.seconds,
    )


def _largest(a: float, b: float) -> float:
    """The larger; NaN where either is."""
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)
