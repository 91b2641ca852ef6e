"""Markov chains on the inner posterior: the inner MCMC of reverse diffusion Monte Carlo."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.inner.base import Draws, Warm, require_count
from rdmc.inner.mixing import endpoint_rhat
from rdmc.kernels.base import Info, Kernel, State
from rdmc.kernels.mala import MALA
from rdmc.kernels.metric import Isotropic
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams

__all__ = ["Chains", "Record", "begin"]


def begin(kernel: Kernel, q: InnerPosterior, rng: Streams, start: Warm | None, chains: int) -> State:
    """The chains' state on q: from the warm start's cached target values where it has them, by evaluation where not."""
    if start is None:
        return kernel.init(q, q.from_likelihood(rng, chains))
    if start.value is None or start.grad is None:
        return kernel.init(q, start.x)
    return State(start.x, *q.from_target_part(start.x, start.value, start.grad))


@dataclass(frozen=True)
class Chains:
    """Chains of any kernel on q, run side by side for every particle.

    Step sizes are relative to the length scale of q, so one value serves all noise levels; each chain adapts its own
    during burn-in and keeps it frozen over the kept steps, which therefore leave q invariant.

    Law: q in the limit of many steps (ULA: up to its own bias). With a warm start from the previous level, the first
    chain begins in equilibrium after an exact bridge.
    Cost: ``chains x (burn_in + steps) x kernel.gradients`` gradient evaluations a particle, plus ``chains`` for a cold
    start.

    Args:
        kernel: The kernel.
        chains: Chains per particle, at least 1; inner R-hat and standard errors are sharper with 2 or more.
        burn_in: Steps discarded, during which step sizes adapt.
        steps: Steps kept, at least 1.
        gain: Robbins-Monro gain of the adaptation.

    Raises:
        ValueError: If a count is out of range.
    """

    kernel: Kernel = MALA()
    chains: int = 4
    burn_in: int = 8
    steps: int = 8
    gain: float = 0.5

    def __post_init__(self) -> None:
        require_count("chains", self.chains, 1)
        require_count("burn_in", self.burn_in, 0)
        require_count("steps", self.steps, 1)

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """Run the chains from ``start``, or from draws of the likelihood alone."""
        start = None if start is None else start.for_chains(self.chains)
        state = begin(self.kernel, q, rng, start, self.chains)
        tuning = start.tuning if start is not None and start.tuning is not None else self.kernel.tuning(state, rng)
        metric = Isotropic(q.scale)
        record = Record(state.x)
        for _ in range(self.burn_in):
            state, info = self.kernel.step(q, state, rng, tuning, metric)
            tuning = self.kernel.adapt(tuning, info, self.gain)
            record.watch(info)
        for _ in range(self.steps):
            state, info = self.kernel.step(q, state, rng, tuning, metric)
            record.keep(state)
            record.watch(info)
        return record.draws(q, state, tuning, self.chains, continued=start is not None)


class Record:
    """What a run of chains leaves behind, gathered on the device."""

    def __init__(self, begin: Tensor) -> None:
        self.begin = begin
        self.states: list[State] = []
        self.acceptance: list[Tensor] = []
        self.jump_acceptance: list[Tensor] = []
        self.nonfinite: list[Tensor] = []

    def keep(self, state: State) -> None:
        """Keep a step's points and gradients as draws."""
        self.states.append(state)

    def watch(self, info: Info, *, jump: bool = False) -> None:
        """Remember how a step went."""
        (self.jump_acceptance if jump else self.acceptance).append(info.acceptance.mean(0))
        self.nonfinite.append(info.nonfinite.to(info.acceptance.dtype).mean())

    def draws(self, q: InnerPosterior, state: State, tuning: Tensor, chains: int, *, continued: bool) -> Draws:
        """What was kept, as draws from q."""
        x_0 = torch.stack([kept.x for kept in self.states], 1)  # (C, kept, B, d)
        grad = torch.stack([kept.grad for kept in self.states], 1)
        return Draws(
            x_0=x_0.flatten(0, 1),
            draw=state.x[0],
            grad=grad.flatten(0, 1),
            log_weight=None,
            chains=chains,
            acceptance=torch.stack(self.acceptance).mean(0) if self.acceptance else None,
            jump_acceptance=torch.stack(self.jump_acceptance).mean(0) if self.jump_acceptance else None,
            nonfinite=torch.stack(self.nonfinite).mean(),
            warm=Warm(state.x, *q.target_part(state.x, state.value, state.grad), tuning),
            rhat=endpoint_rhat(self.begin, state.x),
            continued=continued,
        )
