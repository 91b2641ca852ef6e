"""An affine-invariant ensemble of walkers, by emcee, on the same footing as the other baselines."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.baselines.foreign import require, require_values, words
from rdmc.baselines.snooker import snooker_move
from rdmc.baselines.starts import overdispersed
from rdmc.coordinates import InCoordinates
from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.locate.pilot import Pilot
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit, located

__all__ = ["Ensemble", "EnsembleState", "ensemble_moves"]

_STAGES = 50
_DENSITY = 0.5  # cost of a value relative to that of value and gradient


@dataclass(frozen=True, eq=False)
class EnsembleState:
    """Everything an ensemble needs between two stages.

    Attributes:
        walkers: emcee's state: positions ``(W, d)``, log densities and the generator's state.
        step: Steps done.
        warmup: Steps before the first draw.
        total: Steps in all.
        draws: Wanted.
        kept: ``(W, d)`` walkers at the times that are kept.
        accepted: Proposals accepted after the warm-up, as a fraction of the walkers, summed over steps.
        nonfinite: Points at which the density was NaN or ``+inf``.
    """

    walkers: Any
    step: int
    warmup: int
    total: int
    draws: int
    kept: tuple[Tensor, ...]
    accepted: float
    nonfinite: int


@dataclass(frozen=True)
class Ensemble:
    """Ensembles of walkers with differential evolution and snooker moves, by emcee; each population is one ensemble.

    Moves, chosen at random at each step: 70 % ``DEMove`` at its default stretch 2.38 / sqrt(2 d), 10 % ``DEMove(gamma0=1)``, which
    carries walkers from mode to mode, and 20 % a snooker move of our own, because emcee's (up to 3.1.6) doesn't leave the law
    invariant in more than one dimension (see :mod:`rdmc.baselines.snooker`). The default stretch move is not used: with several
    modes it mixes several times slower.

    Walkers start over-dispersed, in the pilot's coordinates. A population's draws stand walker by walker, so that their
    autocorrelation is seen; walkers of an ensemble are coupled, ensembles are independent.

    Law: pi in the limit of a long run, for a number of walkers well above the dimension; NaN and ``+inf`` are rejected and counted.
    Cost: ``budget`` gradient evaluations a draw, warm-up included, plus the pilot. No gradients are used; a value counts half a
    gradient, so a draw costs ``2 x budget`` values.

    Args:
        budget: Gradient evaluations per draw; a density evaluation counts half.
        warmup: Fraction of the budget spent before the first draw, in [0, 1).
        walkers: At least this many, and at least four a dimension; an even number.
        pilot: How coordinates and starting points are found.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: At the run, if emcee is missing.

    Source: Foreman-Mackey et al. (2013), PASP 125, 306-312; ter Braak (2006), Statistics and Computing 16, 239-249; ter Braak and
    Vrugt (2008), Statistics and Computing 18, 435-446; Nelson, Ford and Payne (2014), ApJS 210, 11.

    Example:
        >>> Ensemble(budget=200).walkers
        64
    """

    budget: float = 100.0
    warmup: float = 0.5
    walkers: int = 64
    pilot: Pilot = Pilot()

    def __post_init__(self) -> None:
        if not self.budget > 0.0:
            raise ValueError(
                f"`budget` must be a positive number of gradient evaluations per draw, got {self.budget!r}"
            )
        if not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"`warmup` must be in [0, 1), got {self.warmup!r}")
        if isinstance(self.walkers, bool) or not isinstance(self.walkers, int) or self.walkers < 8 or self.walkers % 2:
            raise ValueError(f"`walkers` must be an even integer of at least 8, got {self.walkers!r}")

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """An ensemble a batch."""
        return tuple((Unit(chain, 0, 1),) for chain in range(chains))

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Run the pilot."""
        require("emcee", "emcee")
        require_values(density, "emcee")
        return Plan(located(self.pilot, density, seed, journal))

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> EnsembleState:
        """Over-dispersed starting points; nothing is evaluated yet."""
        emcee = require("emcee", "emcee")
        walkers = max(self.walkers, 4 * density.dim)
        points = overdispersed(plan.found, rng, (walkers,))[:, 0].cpu().numpy().astype(np.float64)
        seed = np.random.RandomState(words(rng, 8)[0]).get_state()
        steps = max(math.ceil(draws / walkers), round(self.budget * draws / (_DENSITY * walkers)) - 1)
        state = emcee.State(points, random_state=seed)
        kept_times = math.ceil(draws / walkers)
        warmup = min(round(self.warmup * steps), steps - kept_times)
        return EnsembleState(state, 0, warmup, steps, draws, (), 0.0, 0)

    def advance(self, density: Density, plan: Plan, state: EnsembleState, rng: Streams) -> EnsembleState:
        """A fiftieth of the run."""
        emcee = require("emcee", "emcee")
        values = _Values(density, plan, [0])
        walkers, dim = state.walkers.coords.shape
        sampler = emcee.EnsembleSampler(walkers, dim, values, moves=ensemble_moves(), vectorize=True)
        end = min(state.total, state.step + math.ceil(state.total / _STAGES))
        times = self._times(state)
        kept, accepted, now, before = [], state.accepted, state.walkers, state.walkers.coords
        path = sampler.sample(now, iterations=end - state.step, store=False, skip_initial_state_check=True)
        with np.errstate(
            invalid="ignore"
        ):  # -inf less -inf: a walker outside the support that is offered another such point
            for step, now in enumerate(path, start=state.step + 1):
                if step > state.warmup:
                    accepted += float((now.coords != before).any(1).mean())
                before = now.coords.copy()
                if step in times:
                    kept.append(torch.from_numpy(before).to(dtype=density.dtype, device=density.device))
        return replace(
            state,
            walkers=now,
            step=end,
            kept=(*state.kept, *kept),
            accepted=accepted,
            nonfinite=state.nonfinite + values.nonfinite[0],
        )

    def _times(self, state: EnsembleState) -> set[int]:
        """The steps whose walkers are draws: as few as are enough, at even distances to the end of the run."""
        count = math.ceil(state.draws / state.walkers.coords.shape[0])
        return {state.warmup + math.floor((state.total - state.warmup) * (i + 1) / count) for i in range(count)}

    def progress(self, plan: Plan, state: EnsembleState) -> Progress:
        """Stages done and expected."""
        size = math.ceil(state.total / _STAGES)
        done, total = math.ceil(state.step / size), math.ceil(state.total / size)
        return Progress(done, total, "warm-up" if state.step < state.warmup else "sampling")

    def collect(self, density: Density, plan: Plan, state: EnsembleState) -> Block:
        """The draws so far, walker by walker; before the first, the present walkers."""
        points = torch.from_numpy(state.walkers.coords).to(dtype=density.dtype, device=density.device)
        path = torch.stack(state.kept if state.kept else (points,), 1)  # (W, times, d)
        # walkers beyond the draws wanted are left out evenly, not from the end
        flat = path.flatten(0, 1)
        pick = torch.arange(min(state.draws, len(flat))) * len(flat) // min(state.draws, len(flat))
        steps = max(1, state.step - state.warmup)
        inner = {"acceptance": np.array([state.accepted / steps]), "nonfinite": np.array([float(state.nonfinite)])}
        return Block(plan.found.affine.to_user(flat[pick.to(flat.device)])[None], inner)


def ensemble_moves() -> list[tuple[Any, float]]:
    """The moves with their probabilities.

    Raises:
        ImportError: If emcee is missing, naming the extra.
    """
    moves = require("emcee.moves", "emcee")
    return [(moves.DEMove(), 0.7), (moves.DEMove(gamma0=1.0), 0.1), (snooker_move(), 0.2)]


@dataclass(frozen=True)
class _Values:
    """A density as emcee calls it: ``(n, d)`` array to ``(n,)`` values, NaN and ``+inf`` made ``-inf`` and counted."""

    density: Density
    plan: Plan
    nonfinite: list[int]

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        points = torch.from_numpy(np.array(x)).to(dtype=self.density.dtype, device=self.density.device)
        value = InCoordinates(self.density, self.plan.found.affine)(points).cpu().double().numpy()
        wrong = np.isnan(value) | (value == np.inf)
        self.nonfinite[0] += int(wrong.sum())
        return np.asarray(np.where(wrong, -np.inf, value))
