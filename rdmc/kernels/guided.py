"""Kernels guided by a Gaussian mixture near the law: jumps drawn from it, and Langevin moves at its components' scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rdmc.kernels.base import Info, State, evaluate, metropolis
from rdmc.kernels.metric import Metric
from rdmc.look import Look, pick
from rdmc.mixture import squared_norm
from rdmc.particles import sums_by
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Components", "IndependenceJump", "MixtureMALA", "Proposal", "Seen"]


class Proposal(Protocol):
    """A law that can be drawn from and whose density is known."""

    def draw(self, rng: Streams, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """``(*lead, B, d)`` draws, and something about each that is not used here."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """``(...)`` normalised log density at ``(..., d)``."""
        ...

    def look(self, x: Tensor) -> Look:
        """Log density and responsibilities at once."""
        ...


class Components(Protocol):
    """A mixture seen as K regions, each with a scale matrix Sigma_k = L_k L_k^T."""

    @property
    def components(self) -> int:
        """Number K of components."""
        ...

    def look(self, x: Tensor) -> Look:
        """Probability of each region at x, and the log density."""
        ...

    def colour(self, z: Tensor, label: Tensor) -> Tensor:
        """``(..., d)`` L_k z."""
        ...

    def colour_transpose(self, v: Tensor, label: Tensor) -> Tensor:
        """``(..., d)`` L_k^T v, a tensor of its own."""
        ...


class Seen(State):
    """A state that keeps what a mixture has said about its points; every other state made of it forgets.

    So kernels guided by the same mixture look at each point once, in whatever order they follow each other.

    Attributes:
        mixture: Who looked.
        look: What it saw at ``x``.
    """

    mixture: object = None
    look: Look | None = None

    @classmethod
    def after(cls, state: State, mixture: object, here: Look, there: Look, moved: Tensor) -> Seen:
        """The state that a step ended in, with the look at the proposal where that was accepted, ``(..., B)`` moved."""
        seen = cls(*state)
        seen.mixture = mixture
        seen.look = Look(
            torch.where(moved, there.log_prob, here.log_prob), torch.where(moved[..., None], there.share, here.share)
        )
        return seen


def _look(mixture: Proposal | Components, state: State) -> Look:
    """What the mixture says about the points of a state; nothing new where the state knows it."""
    if isinstance(state, Seen) and state.mixture is mixture and state.look is not None:
        return state.look
    return mixture.look(state.x)


def _decide(
    mixture: object, present: tuple[State, Look], proposed: tuple[State, Look], log_ratio: Tensor, rng: Streams
) -> tuple[Seen, Info]:
    """Accept or stay, and keep the look that goes with the point."""
    state, info = metropolis(present[0], proposed[0], log_ratio, rng.log_uniform(log_ratio.shape))
    assert info.moved is not None
    return Seen.after(state, mixture, present[1], proposed[1], info.moved), info


@dataclass(frozen=True, eq=False)
class IndependenceJump:
    r"""Independence Metropolis kernel: propose from a mixture g, whatever the present point.

    .. math:: x' \sim g, \qquad \log \text{ratio} = \log f(x') - \log f(x) - \log g(x') + \log g(x)

    Law: leaves f invariant for every g with wider support. It is the global move: modes that g knows are exchanged with the right
    weights at a rate of at least min f/g, whatever lies between them.
    Cost: one gradient evaluation a step, per chain (the gradient is kept for the move that follows).

    Args:
        mixture: g, a law for all particles or a mixture with one per particle.

    Source: Tierney (1994), Annals of Statistics 22(4), section 2.3.3.
    """

    mixture: Proposal

    @property
    def gradients(self) -> int:
        """Gradient evaluations a step."""
        return 1

    def init(self, f: BatchedDensity, x: Tensor) -> State:
        """Evaluate ``(..., B, d)`` starting points."""
        return evaluate(f, x)

    def tuning(self, state: State, rng: Streams) -> Tensor:
        """Nothing to tune: an empty tensor."""
        return state.value.new_zeros(0)

    def step(self, f: BatchedDensity, state: State, rng: Streams, tuning: Tensor, metric: Metric) -> tuple[State, Info]:
        """One transition; ``tuning`` and ``metric`` are not used."""
        x, _ = self.mixture.draw(rng, tuple(state.x.shape[:-2]))
        proposal = evaluate(f, x)
        here, there = _look(self.mixture, state), self.mixture.look(x)
        log_ratio = proposal.value - state.value - there.log_prob + here.log_prob
        return _decide(self.mixture, (state, here), (proposal, there), log_ratio, rng)

    def adapt(self, tuning: Tensor, info: Info, gain: float) -> Tensor:
        """Nothing to tune."""
        return tuning


@dataclass(frozen=True, eq=False)
class MixtureMALA:
    r"""MALA preconditioned by the covariance of one component, drawn from the responsibilities at the present point.

    With label k ~ r(k | x) as an auxiliary variable, Sigma_k = L_k L_k^T and h_k the component's own step size,

    .. math::
        x' = x + h_k \Sigma_k \nabla \log f(x) + \sqrt{2 h_k}\, L_k z, \qquad
        \text{ratio} = \frac{f(x')}{f(x)} \frac{q_k(x \mid x')}{q_k(x' \mid x)} \frac{r(k \mid x')}{r(k \mid x)}

    Law: leaves f invariant, because (x, k) with law f(x) r(k | x) is left invariant. Each region moves at its own scale, which one
    common metric cannot give to modes of unequal width.
    Cost: one gradient evaluation a step, per chain, and ``O(K d^2)`` a point.
    Adaptation: h_k is common to all particles, so its dependence on any one of them is O(1/B).

    Args:
        mixture: The components; one mixture for all particles or one per particle.
        step_size: Dimensionless h > 0 to start with.
        target_acceptance: In (0, 1); where adaptation steers every h_k.

    Raises:
        ValueError: If an argument is out of range.
    """

    mixture: Components
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
        """``(shards, K)`` log step sizes, one per component and shard of particles."""
        start = math.log(self.step_size) - math.log(state.x.shape[-1]) / 3.0
        return torch.full((len(rng.sizes), self.mixture.components), start, dtype=state.x.dtype, device=state.x.device)

    def step(self, f: BatchedDensity, state: State, rng: Streams, tuning: Tensor, metric: Metric) -> tuple[State, Info]:
        """One transition; ``tuning`` is log h_k, ``metric`` is not used."""
        here = _look(self.mixture, state)
        label = pick(here.share, rng.uniform(state.value.shape))
        index = label[..., None]
        group = rng.shard_of_particle() * self.mixture.components + label
        h = tuning.flatten()[group].exp()
        z = rng.normal(state.x.shape)
        pull = self.mixture.colour_transpose(state.grad, label)
        root = (2.0 * h).sqrt_()[..., None]
        move = self.mixture.colour((h[..., None] * pull).addcmul_(root, z), label)
        proposal = evaluate(f, state.x + move)
        # the noise of the way back but for its sign, as in plain MALA
        b = torch.addcmul(z, pull.add_(self.mixture.colour_transpose(proposal.grad, label)), root, value=0.5)
        there = self.mixture.look(proposal.x)
        log_label = (there.share.gather(-1, index) / here.share.gather(-1, index)).log_()[..., 0]
        log_ratio = torch.add(proposal.value - state.value + log_label, squared_norm(z) - squared_norm(b), alpha=0.5)
        state, info = _decide(self.mixture, (state, here), (proposal, there), log_ratio, rng)
        return state, info._replace(group=group)

    def adapt(self, tuning: Tensor, info: Info, gain: float) -> Tensor:
        """Robbins and Monro on each component's mean acceptance over the particles of a shard that used it."""
        if info.group is None:
            return tuning
        group = info.group.reshape(1, -1).expand(2, -1)
        excess = (info.acceptance - self.target_acceptance).flatten()
        total, count = sums_by(group, torch.stack([excess, torch.ones_like(excess)]), tuning.numel())
        return tuning + gain * (total / count.clamp(min=1.0)).view_as(tuning)
