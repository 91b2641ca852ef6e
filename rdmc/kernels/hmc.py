"""Hamiltonian Monte Carlo with a fixed number of leapfrogs."""

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

__all__ = ["HMC"]


@dataclass(frozen=True)
class HMC:
    r"""Hamiltonian Monte Carlo, preconditioned, with momentum in whitened coordinates.

    .. math::
        p \sim N(0, I), \quad \bigl[\,
        p \mathrel{+}= \tfrac{e}{2} L^T \nabla \log f(x), \quad x \mathrel{+}= e L p, \quad
        p \mathrel{+}= \tfrac{e}{2} L^T \nabla \log f(x) \,\bigr] \times \text{leapfrogs}, \\
        \log \text{ratio} = \log f(x') - \log f(x) + (|p|^2 - |p'|^2) / 2

    The step e is drawn anew for every chain and transition, uniformly in step_size (1 +- jitter), because with a fixed
    trajectory length a direction of matching period is never left (Neal 2011, section 5.4.2).

    Law: leaves f invariant for every step size, jitter and number of leapfrogs. A trajectory that meets NaN or ``+inf``
    anywhere is refused and counted; its reverse meets the same points, so invariance holds. Error: none from e.
    Cost: ``leapfrogs`` gradient evaluations a step, per chain.
    Tune: acceptance 0.65 is optimal in the limit of high dimension (Beskos et al. 2013), 0.8 is safer.

    Args:
        step_size: Dimensionless e > 0 to start with, in units of the metric's scale.
        leapfrogs: Leapfrog steps a transition, at least 1.
        target_acceptance: In (0, 1); where adaptation steers.
        jitter: Relative half-width of the draw of e, in [0, 1).

    Raises:
        ValueError: If an argument is out of range.
    Source: Duane et al. (1987), Physics Letters B 195(2), 216-222; Neal (2011), Handbook of MCMC, chapter 5.

    Example:
        >>> HMC(step_size=0.3, leapfrogs=5)
        HMC(step_size=0.3, leapfrogs=5, target_acceptance=0.8, jitter=0.2)
    """

    step_size: float = 0.3
    leapfrogs: int = 5
    target_acceptance: float = 0.8
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not self.step_size > 0.0:
            raise ValueError(f"`step_size` must be a positive float, got {self.step_size!r}")
        if isinstance(self.leapfrogs, bool) or not isinstance(self.leapfrogs, int) or self.leapfrogs < 1:
            raise ValueError(f"`leapfrogs` must be an integer of at least 1, got {self.leapfrogs!r}")
        if not 0.0 < self.target_acceptance < 1.0:
            raise ValueError(f"`target_acceptance` must be in (0, 1), got {self.target_acceptance!r}")
        if not 0.0 <= self.jitter < 1.0:
            raise ValueError(f"`jitter` must be in [0, 1), got {self.jitter!r}")

    @property
    def gradients(self) -> int:
        """Gradient evaluations a step."""
        return self.leapfrogs

    def init(self, f: BatchedDensity, x: Tensor) -> State:
        """Evaluate ``(..., B, d)`` starting points."""
        return evaluate(f, x)

    def tuning(self, state: State, rng: Streams) -> Tensor:
        """``(..., B)`` log step sizes, scaled down with dimension as d^(-1/4)."""
        return torch.full_like(state.value, math.log(self.step_size) - math.log(state.x.shape[-1]) / 4.0)

    def step(self, f: BatchedDensity, state: State, rng: Streams, tuning: Tensor, metric: Metric) -> tuple[State, Info]:
        """One transition; ``tuning`` is log e."""
        e = tuning.exp() * (1.0 + self.jitter * (2.0 * rng.uniform(state.value.shape) - 1.0))
        e = e[..., None]
        momentum = rng.normal(state.x.shape)
        half, at = 0.5 * e, state
        p = torch.addcmul(momentum, half, metric.transpose(at.grad))
        wrong = torch.zeros_like(state.value, dtype=torch.bool)
        for last in (*[False] * (self.leapfrogs - 1), True):
            at = evaluate(f, at.x + metric.colour(e * p))
            # where a trajectory goes on, the half step that ends one leapfrog and the one that begins the next are one
            p.addcmul_(half if last else e, metric.transpose(at.grad))
            wrong |= ~(at.value < torch.inf)
        log_ratio = torch.add(at.value - state.value, squared_norm(momentum) - squared_norm(p), alpha=0.5)
        # NaN on the way may hide behind a finite or -inf end, where `metropolis` would not see it; one in a gradient stays in p
        proposal = at._replace(value=at.value.masked_fill(wrong | torch.isnan(p).any(-1), torch.nan))
        return metropolis(state, proposal, log_ratio, rng.log_uniform(state.value.shape))

    def adapt(self, tuning: Tensor, info: Info, gain: float) -> Tensor:
        """Robbins and Monro: raise log e where acceptance is above target, lower it where below."""
        return tuning + gain * (info.acceptance - self.target_acceptance)
