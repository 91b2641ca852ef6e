"""Draws of targets that stand for the truth: exact ones, or long chains where the target is log-concave up to symmetry."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

import rdmc
from rdmc.baselines import LongChains
from rdmc.diagnostics import convergence
from rdmc.kernels import HMC
from targets.base import Target

__all__ = ["exact_draws"]

CHAINS, DRAWS = 128, 400
RELABELLED = ("label_switching",)
LONG_RUN = ("logistic_regression", *RELABELLED)


def exact_draws(target: Target, n: int, generator: torch.Generator) -> Tensor | None:
    """``(n, d)`` draws in double precision on the CPU, or None if the target has neither a sampler nor a long run.

    A target without an exact sampler gets n draws without replacement from a long run (:func:`long_run`).

    Args:
        target: Undisguised.
        n: Number of draws.
        generator: Source of all randomness.

    Raises:
        ValueError: If n is more than the long run has.
    """
    if target.can_sample:
        return target.sample(n, generator).cpu().double()
    if target.name not in LONG_RUN:
        return None
    pool = long_run(target)
    if n > len(pool):
        raise ValueError(f"`n` must be at most {len(pool)}, the length of the run of {target.name!r}, got {n}")
    return pool[torch.randperm(len(pool), generator=generator)[:n]]


@lru_cache(maxsize=4)
def long_run(target: Target) -> Tensor:
    """``(CHAINS * DRAWS, d)`` draws of HMC; where the target is one mode and its relabellings, relabelled at random.

    Both targets have one mode up to relabelling, where HMC is sure to converge; R-hat over 128 chains within 1.01 is checked.

    Raises:
        RuntimeError: If R-hat says otherwise.
    """
    sampler = LongChains(HMC(), budget=60.0)
    result = rdmc.sample(target, draws=DRAWS, chains=CHAINS, sampler=sampler, seed=90_001, progressbar=False)
    samples = result.samples
    if target.name in RELABELLED:
        samples = samples.sort(-1).values
    worst = convergence(samples).worst_rhat
    if not worst < 1.01:
        raise RuntimeError(f"the long run of {target.name!r} has not converged: R-hat {worst:.3f}")
    x = samples.flatten(0, 1).cpu().double()
    if target.name in RELABELLED:
        order = torch.rand(x.shape, generator=torch.Generator().manual_seed(90_002)).argsort(1)
        x = x.gather(1, order)
    return x
