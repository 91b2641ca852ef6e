"""Annealed Langevin dynamics: one particle a draw, led by unadjusted Langevin steps down a ladder of tempered targets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rdmc.baselines.starts import overdispersed
from rdmc.capture import Modes
from rdmc.coordinates import InCoordinates
from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.kernels import ULA, Isotropic, State
from rdmc.locate.pilot import Pilot
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit, batches_of_shards, located
from rdmc.typing import BatchedDensity

__all__ = ["AnnealedLangevin", "AnnealingState"]


@dataclass(frozen=True, eq=False)
class AnnealingState:
    """Everything a batch needs between two temperatures.

    Attributes:
        state: Where the particles are on pi itself, ``(B, d)`` in whitened coordinates.
        level: Temperatures passed.
        labels: The mode of each particle after each of them.
    """

    state: State
    level: int
    labels: tuple[Tensor, ...] = ()


class _Ladder(NamedTuple):
    """The plan's detail: inverse temperatures, and what tells modes apart."""

    betas: tuple[float, ...]
    modes: Modes | None


@dataclass(frozen=True, eq=False)
class _Tempered:
    """pi^beta."""

    target: BatchedDensity
    beta: float

    @property
    def dim(self) -> int:
        return self.target.dim

    def __call__(self, x: Tensor) -> Tensor:
        return self.beta * self.target(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = self.target.value_and_grad(x)
        return self.beta * value, self.beta * grad


@dataclass(frozen=True)
class AnnealedLangevin:
    r"""Song and Ermon's annealed Langevin dynamics with exact *tempered* scores in place of learnt smoothed ones.

    .. math::
        x' = x + h_k\, \beta_k \nabla \log \pi(x) + \sqrt{2 h_k}\, z, \qquad h_k = \text{step\_size} / \beta_k,
        \qquad \beta_k = \beta_1^{(L - k)/(L - 1)}, \quad k = 1 \dots L

    Their scores of the target smoothed by sigma_k are unknown here (estimating them is what RDMC does); the score of
    pi^beta is known exactly and free. A temperature 1/beta widens a mode as noise of variance 1/beta would, so the
    ladder is geometric like theirs and the step grows with 1/beta like their sigma^2. beta_1 is spread^-2, at which a
    mode is as wide as the pilot's whole mixture. Smoothing keeps the weights of modes, tempering doesn't: a wide mode
    wins over a narrow one of equal mass while it is hot.

    Law: none. Steps are neither corrected (the bias at the end is that of :class:`ULA`, O(step_size)) nor weighted (it
    isn't Neal's annealed importance sampling), so mode weights are those of the temperature at which particles stopped
    crossing. Draws are independent, one particle each: R-hat and ESS look perfect whatever the weights are.
    Cost: ``budget`` gradient evaluations a draw, plus the pilot.

    Args:
        budget: Gradient evaluations per draw, at least 2.
        levels: Temperatures L, at least 2; fewer if the budget has less than a step for each.
        step_size: Dimensionless h > 0, in units of the squared width of an average mode.
        pilot: How coordinates and starting points are found.

    Raises:
        ValueError: If an argument is out of range.

    Source: Song and Ermon (NeurIPS 2019), arXiv:1907.05600, algorithm 1, with tempered in place of smoothed scores.

    Example:
        >>> AnnealedLangevin(budget=200).levels
        20
    """

    budget: float = 100.0
    levels: int = 20
    step_size: float = 0.05
    pilot: Pilot = Pilot()
    side_by_side: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.budget >= 2.0:
            raise ValueError(f"`budget` must be at least 2 gradient evaluations per draw, got {self.budget!r}")
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or self.levels < 2:
            raise ValueError(f"`levels` must be an integer of at least 2, got {self.levels!r}")
        if not self.step_size > 0.0:
            raise ValueError(f"`step_size` must be a positive float, got {self.step_size!r}")

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """One particle a draw, one shard a batch."""
        return batches_of_shards(draws, chains)

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Run the pilot and lay the ladder."""
        survey = located(self.pilot, density, seed, journal)
        levels = self._levels
        spread = max(1.0, survey.spread) if density.device.type != "meta" else 1.0
        betas = [spread ** (-2.0 * (levels - 1 - k) / max(1, levels - 1)) for k in range(levels)]
        modes = Modes.of(survey) if density.device.type != "meta" else None
        return Plan(survey, _Ladder(tuple(betas), modes))

    @property
    def _levels(self) -> int:
        """Temperatures that the budget has a step for; one evaluation is spent on the starting point."""
        return max(1, min(self.levels, int(self.budget) - 1))

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> AnnealingState:
        """Evaluate over-dispersed starting points."""
        x = overdispersed(plan.found, rng)
        return AnnealingState(State(x, *InCoordinates(density, plan.found.affine).value_and_grad(x)), 0)

    def advance(self, density: Density, plan: Plan, state: AnnealingState, rng: Streams) -> AnnealingState:
        """All steps of one temperature; the steps that the levels don't share evenly go to the last."""
        ladder: _Ladder = plan.detail
        beta = ladder.betas[state.level]
        steps, rest = divmod(int(self.budget) - 1, self._levels)
        steps += rest if state.level + 1 == self._levels else 0
        f = _Tempered(InCoordinates(density, plan.found.affine), beta)
        kernel = ULA(self.step_size)
        chains = State(state.state.x, beta * state.state.value, beta * state.state.grad)
        tuning, metric = kernel.tuning(chains, rng), Isotropic(1.0 / math.sqrt(beta))
        for _ in range(steps):
            chains, _ = kernel.step(f, chains, rng, tuning, metric)
        labels = state.labels if ladder.modes is None else (*state.labels, ladder.modes.label(chains.x))
        return AnnealingState(State(chains.x, chains.value / beta, chains.grad / beta), state.level + 1, labels)

    def progress(self, plan: Plan, state: AnnealingState) -> Progress:
        """Temperatures passed and expected."""
        betas = plan.detail.betas
        return Progress(state.level, len(betas), f"beta {betas[max(0, state.level - 1)]:.2g}")

    def collect(self, density: Density, plan: Plan, state: AnnealingState) -> Block:
        """The particles, in the user's coordinates, and their modes temperature by temperature.

        A temperature 1/beta stands for the noise that widens a mode of unit width as much: sigma^2 = 1/beta - 1.
        """
        ladder: _Ladder = plan.detail
        inner: dict[str, NDArray[np.float64]] = {}
        if ladder.modes is not None and state.labels:
            beta = np.array(ladder.betas[: state.level])
            with np.errstate(divide="ignore"):
                inner = {"beta": beta, "sigma": np.sqrt(1.0 / beta - 1.0), "log_snr": -np.log(1.0 / beta - 1.0)}
            inner |= ladder.modes.columns(state.labels, ladder.modes.label(state.state.x))
        return Block(plan.found.affine.to_user(state.state.x)[:, None, :], inner)
