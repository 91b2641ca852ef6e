"""The Metropolis-adjusted Langevin algorithm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.kernels.base import Info, State, evaluate, metropolis
from rdmc.kernels.metric import Metric
from rdmc.mixture import squared_norm
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["MALA"]


@dataclass(frozen=True)
class MALA:
    r"""Metropolis-adjusted Langevin kernel, preconditioned.

    .. math:: x' = x + h L L^T \nabla \log f(x) + \sqrt{2h}\, L z, \qquad z \sim N(0, I)

    The way back takes the noise -b with b = z + sqrt(h / 2) L^T (grad log f(x) + grad log f(x')), so the log acceptance ratio is
    log f(x') - log f(x) + (|z|^2 - |b|^2) / 2; no inverse of L is needed.

    Law: leaves f invariant for every step size. Error: none from h.
    Cost: one gradient evaluation a step, per chain.
    Tune: acceptance near 0.574 is optimal in high dimension (Roberts and Rosenthal, 1998).
    Not to be confused with :class:`ULA`, which has no accept step and is biased.

    Args:
        step_size: Dimensionless h > 0 to start with: h is this, in units of the metric's squared scale.
        target_acceptance: In (0, 1); where adaptation steers.

    Raises:
        ValueError: If an argument is out of range.
    Source: Roberts and Tweedie (1996), Bernoulli 2(4), 341-363.

    Example:
        >>> MALA(step_size=0.4)
        MALA(step_size=0.4, target_acceptance=0.574)
    """

    step_size: float = 0.5
    target_acceptance: float = 0.574

    def __post_init__(self) -> None:
        if not self.step_size > 0.0:
            raise ValueError(f"`step_size` must be a positive float, got {self.step_size!r}")
        if not 0.0 < self.target_acceptance < 1.0:
            raise ValueError(f"`target_acceptance` must be in (0, 1), got {self.target_acceptance!r}")

    @property
    def gradients(self) -> int:
        """Gradient evaluations a step."""
        return 1

    def init(self, f: BatchedDensity, x: Tensor) -> State:
        """Evaluate ``(..., B, d)`` starting points."""
        return evaluate(f, x)

    def tuning(self, state: State, rng: Streams) -> Tensor:
        """``(..., B)`` log step sizes, scaled down with dimension as d^(-1/3)."""
        return torch.full_like(state.value, math.log(self.step_size) - math.log(state.x.shape[-1]) / 3.0)

    def step(self, f: BatchedDensity, state: State, rng: Streams, tuning: Tensor, metric: Metric) -> tuple[State, Info]:
        """One transition; ``tuning`` is log h."""
        h = tuning.exp()[..., None]
        root = (2.0 * h).sqrt_()
        z = rng.normal(state.x.shape)
        pull = metric.transpose(state.grad)
        move = metric.colour((h * pull).addcmul_(root, z))
        proposal = evaluate(f, state.x + move)
        b = torch.addcmul(z, pull + metric.transpose(proposal.grad), root, value=0.5)
        log_ratio = torch.add(proposal.value - state.value, squared_norm(z) - squared_norm(b), alpha=0.5)
        return metropolis(state, proposal, log_ratio, rng.log_uniform(state.value.shape))

    def adapt(self, tuning: Tensor, info: Info, gain: float) -> Tensor:
        """Robbins and Monro: raise log h where acceptance is above target, lower it where below."""
        return tuning + gain * (info.acceptance - self.target_acceptance)
