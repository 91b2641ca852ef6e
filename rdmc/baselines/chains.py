"""ULA, MALA and HMC as they are used: a few long chains, over-dispersed starts, a warm-up that adapts, thinning to the draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.baselines.starts import overdispersed
from rdmc.coordinates import InCoordinates
from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.kernels import HMC, Diagonal, Kernel, State
from rdmc.locate.pilot import Pilot
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit, located

__all__ = ["ChainsState", "LongChains"]

_STAGES = 50


class _Length(NamedTuple):
    """Steps of a run: of the warm-up, between two draws, and in all."""

    warmup: int
    thinning: int
    total: int


@dataclass(frozen=True, eq=False)
class ChainsState:
    """Everything the chains need between two stages.

    Attributes:
        state: Where the chains are, ``(B, d)`` in whitened coordinates.
        tuning: The kernel's tuning.
        scale: ``(B, d)`` diagonal metric, one per chain.
        count: ``()`` points behind ``mean`` and ``square``, the running moments of the present adaptation window.
        mean: ``(B, d)``.
        square: ``(B, d)`` sum of squared deviations.
        step: Steps taken.
        kept: ``(B, n, d)`` draws so far.
        length: Of the run.
    """

    state: State
    tuning: Tensor
    scale: Tensor
    count: int
    mean: Tensor
    square: Tensor
    step: int
    kept: tuple[Tensor, ...]
    length: _Length


@dataclass(frozen=True)
class LongChains:
    """One long chain of a kernel per population.

    All chains run in the pilot's coordinates, so the kernel starts with a good metric, and from over-dispersed points: a component
    of the pilot's mixture chosen at random, at twice its width. During the warm-up the step size follows the acceptance rate and a
    diagonal metric is learnt in doubling windows, both per chain; then they are frozen.

    Law: pi in the limit of a long chain (ULA: up to its bias). Between separated modes that limit is out of reach, which is what
    this baseline shows.
    Cost: ``budget`` gradient evaluations a draw, warm-up included, plus the pilot.

    Args:
        kernel: The kernel.
        budget: Gradient evaluations per draw.
        warmup: Fraction of the budget spent before the first draw, in [0, 1).
        pilot: How coordinates and starting points are found.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> LongChains(HMC(), budget=200).warmup
        0.5
    """

    kernel: Kernel = HMC()
    budget: float = 100.0
    warmup: float = 0.5
    pilot: Pilot = Pilot()

    def __post_init__(self) -> None:
        if not self.budget > 0.0:
            raise ValueError(
                f"`budget` must be a positive number of gradient evaluations per draw, got {self.budget!r}"
            )
        if not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"`warmup` must be in [0, 1), got {self.warmup!r}")

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """All chains side by side in one batch, each with its own streams."""
        return (tuple(Unit(chain, 0, 1) for chain in range(chains)),)

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Run the pilot."""
        return Plan(located(self.pilot, density, seed, journal))

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> ChainsState:
        """Evaluate over-dispersed starting points."""
        survey = plan.found
        state = self.kernel.init(InCoordinates(density, survey.affine), overdispersed(survey, rng))
        steps = max(draws, round(self.budget * draws / self.kernel.gradients))
        warmup = round(self.warmup * steps)
        thinning = max(1, (steps - warmup) // draws)
        zero = torch.zeros_like(state.x)
        length = _Length(warmup, thinning, warmup + thinning * draws)
        return ChainsState(
            state, self.kernel.tuning(state, rng), torch.ones_like(state.x), 0, zero, zero, 0, (), length
        )

    def advance(self, density: Density, plan: Plan, state: ChainsState, rng: Streams) -> ChainsState:
        """A fiftieth of the run."""
        f = InCoordinates(density, plan.found.affine)
        length, chains, tuning, scale = state.length, state.state, state.tuning, state.scale
        count, mean, square = state.count, state.mean, state.square
        kept = []
        end = min(length.total, state.step + max(1, math.ceil(length.total / _STAGES)))
        for step in range(state.step, end):
            chains, info = self.kernel.step(f, chains, rng, tuning, Diagonal(scale))
            if step < length.warmup:
                tuning = self.kernel.adapt(tuning, info, max(0.02, (step + 1.0) ** -0.6))
                count += 1
                delta = chains.x - mean
                mean = torch.add(mean, delta, alpha=1.0 / count)
                square = torch.addcmul(square, delta, chains.x - mean)
                if _closes_window(step + 1, length.warmup):
                    # shrunk towards what is known, as few correlated points say little (Stan's rule)
                    variance = (square / (count + 5.0)) + scale.square() * 5.0 / (count + 5.0)
                    scale = variance.clamp(min=1e-12).sqrt()
                    count, mean, square = 0, torch.zeros_like(mean), torch.zeros_like(square)
            elif (step + 1 - length.warmup) % length.thinning == 0:
                kept.append(chains.x)
        block = (torch.stack(kept, 1),) if kept else ()
        return ChainsState(chains, tuning, scale, count, mean, square, end, (*state.kept, *block), length)

    def progress(self, plan: Plan, state: ChainsState) -> Progress:
        """Stages done and expected."""
        size = max(1, math.ceil(state.length.total / _STAGES))
        done, total = math.ceil(state.step / size), math.ceil(state.length.total / size)
        return Progress(done, total, "warm-up" if state.step < state.length.warmup else "sampling")

    def collect(self, density: Density, plan: Plan, state: ChainsState) -> Block:
        """The draws so far; before the first, the present points."""
        draws = torch.cat(state.kept, 1) if state.kept else state.state.x[:, None, :]
        return Block(plan.found.affine.to_user(draws))


def _closes_window(step: int, warmup: int) -> bool:
    """Whether a metric window ends here: after 1/16, 1/8, 1/4, 1/2 and 3/4 of the warm-up; the last quarter settles the step."""
    return step in {warmup // 16, warmup // 8, warmup // 4, warmup // 2, 3 * warmup // 4} and step >= 20
