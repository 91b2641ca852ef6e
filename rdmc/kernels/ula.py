"""The unadjusted Langevin algorithm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.kernels.base import Info, State, evaluate, metropolis
from rdmc.kernels.metric import Metric
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["ULA"]


@dataclass(frozen=True)
class ULA:
    r"""Unadjusted Langevin kernel, preconditioned: the inner kernel of RDMC as published.

    .. math:: x' = x + h L L^T \nabla \log f(x) + \sqrt{2h}\, L z, \qquad z \sim N(0, I)

    Law: leaves f invariant only as h goes to 0; the bias is O(h). On N(0, I) with L = I the stationary variance is
    exactly 1 / (1 - h / 2), and there is none for h >= 2. A proposal outside the support, or where the density or its
    gradient is not finite, is not taken: the chain stays.
    Cost: one gradient evaluation a step, per chain.
    Not to be confused with :class:`MALA`, whose accept step removes the bias.

    Args:
        step_size: Dimensionless h > 0, in units of the metric's squared scale. It is not adapted, for nothing steers
            it: every proposal is taken.

    Raises:
        ValueError: If ``step_size`` is not positive.
    Source: Roberts and Tweedie (1996), Bernoulli 2(4), 341-363; Huang et al. (ICLR 2024, arXiv:2307.02037), algorithm
    1.

    Example:
        >>> ULA(step_size=0.1)
        ULA(step_size=0.1)
    """

    step_size: float = 0.1

    def __post_init__(self) -> None:
        if not self.step_size > 0.0:
            raise ValueError(f"`step_size` must be a positive float, got {self.step_size!r}")

    @property
    def gradients(self) -> int:
        """Gradient evaluations a step."""
        return 1

    def init(self, f: BatchedDensity, x: Tensor) -> State:
        """Evaluate ``(..., B, d)`` starting points."""
        return evaluate(f, x)

    def tuning(self, state: State, rng: Streams) -> Tensor:
        """``(..., B)`` log step sizes, not scaled with dimension: stability asks for the curvature alone."""
        return torch.full_like(state.value, math.log(self.step_size))

    def step(self, f: BatchedDensity, state: State, rng: Streams, tuning: Tensor, metric: Metric) -> tuple[State, Info]:
        """One transition; ``tuning`` is log h."""
        h = tuning.exp()[..., None]
        z = rng.normal(state.x.shape)
        proposal = evaluate(f, state.x + metric.colour(h * metric.transpose(state.grad) + (2.0 * h).sqrt() * z))
        certain = torch.zeros_like(state.value)
        log_ratio = certain.masked_fill(proposal.value == -torch.inf, -torch.inf)
        log_ratio = log_ratio.masked_fill(~torch.isfinite(proposal.grad).all(-1), torch.nan)
        return metropolis(state, proposal, log_ratio, certain - 1.0)

    def adapt(self, tuning: Tensor, info: Info, gain: float) -> Tensor:
        """Nothing to steer by: the tuning unchanged."""
        return tuning
