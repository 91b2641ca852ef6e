"""The contract of a Markov kernel: what is carried (``State``) and what is only worth knowing (``Info``)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rdmc.kernels.metric import Metric
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Info", "Kernel", "State", "evaluate", "metropolis"]

_SHORT = 8


class State(NamedTuple):
    """Where the chains are. ``value`` and ``grad`` are cached, so a step never evaluates the same point twice.

    Shapes: ``x`` and ``grad`` are ``(..., B, d)``, ``value`` is ``(..., B)``; B runs over the particles of the random streams.
    """

    x: Tensor
    value: Tensor
    grad: Tensor


class Info(NamedTuple):
    """What one transition was like. Shapes ``(..., B)``.

    Attributes:
        acceptance: Probability with which the proposal was accepted.
        nonfinite: Whether the density was NaN or ``+inf`` (or its gradient NaN inside the support) at the proposal.
        group: Which entry of a pooled tuning each chain used; None where every chain has its own.
        moved: Whether the proposal was accepted; None for kernels that don't ask.
    """

    acceptance: Tensor
    nonfinite: Tensor
    group: Tensor | None = None
    moved: Tensor | None = None


class Kernel(Protocol):
    """A Markov kernel on any batched log density, pure apart from advancing ``rng``.

    The step size is dimensionless, relative to the metric. What a kernel can adapt is one tensor of logarithms, its *tuning*:
    the caller decides when to adapt and when to freeze it.
    """

    @property
    def gradients(self) -> int:
        """Gradient evaluations a step, per chain."""
        ...

    def init(self, f: BatchedDensity, x: Tensor) -> State:
        """Evaluate ``(..., B, d)`` starting points."""
        ...

    def tuning(self, state: State, rng: Streams) -> Tensor:
        """The tuning to begin with: log step sizes, by default one per chain ``(..., B)``."""
        ...

    def step(self, f: BatchedDensity, state: State, rng: Streams, tuning: Tensor, metric: Metric) -> tuple[State, Info]:
        """One transition of every chain."""
        ...

    def adapt(self, tuning: Tensor, info: Info, gain: float) -> Tensor:
        """Move the tuning towards the target acceptance, on the device."""
        ...


def evaluate(f: BatchedDensity, x: Tensor) -> State:
    """The state at ``(..., B, d)`` points. Cost: one gradient evaluation a point."""
    value, grad = f.value_and_grad(x)
    return State(x, value, grad)


def metropolis(state: State, proposal: State, log_ratio: Tensor, log_u: Tensor) -> tuple[State, Info]:
    """Accept or stay: the proposal where ``log_u < log_ratio``, by Metropolis and Hastings.

    A NaN ratio or a ``+inf`` density is a rejection and is reported; ``-inf`` is a rejection and legal.

    Args:
        state: Where the chains are.
        proposal: Where they would go.
        log_ratio: ``(..., B)`` log of the acceptance ratio, not yet capped at 0.
        log_u: ``(..., B)`` logs of uniform draws.
    """
    value = proposal.value
    # outside the support the ratio is 0 whatever came of the rest of it; NaN, which no comparison accepts, marks what is wrong
    ratio = torch.where(value == -torch.inf, value, log_ratio).masked_fill_(~(value < torch.inf), torch.nan)
    wrong = torch.isnan(ratio)
    accept = log_u < ratio
    moved = _rows(accept, state.x.shape)
    new = State(
        torch.where(moved, proposal.x, state.x),
        torch.where(accept, value, state.value),
        torch.where(moved, proposal.grad, state.grad),
    )
    return new, Info(ratio.clamp_(max=0.0).exp_().masked_fill_(wrong, 0.0), wrong, moved=accept)


def _rows(accept: Tensor, shape: torch.Size) -> Tensor:
    """The choice for every coordinate, in few of them as a mask of its own: a broadcast one is slow where rows are short."""
    moved = accept[..., None]
    return moved.expand(shape).contiguous() if shape[-1] <= _SHORT else moved
