"""The default sampler: locate, find a reference, and correct every population from it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rdmc.coordinates import InCoordinates
from rdmc.correct.refine import STAGE_COLUMNS, Refined, Refinement
from rdmc.correct.temper import Population, Stage
from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.locate.folding import Folding
from rdmc.locate.pilot import Pilot
from rdmc.locate.survey import Survey, Surveyor
from rdmc.locate.trail import Trail
from rdmc.particles import evenly
from rdmc.rng import SHARD_SIZE, Streams
from rdmc.sampler import Block, Plan, Progress, Unit, pilot_streams
from rdmc.supports.support import Support
from rdmc.table import Table

__all__ = ["Auto", "AutoState", "Prepared"]

_REFINE_KEY, _SUPPORT_KEY = 0xFFFFFFFD, 0xFFFFFFFC  # streams that no (chain, shard) and no pilot can have
_LISTED = 256  # modes of the table, where symmetries make them innumerable
_FEWEST = 256  # particles of a population, however few draws are wanted of it
_MOST = 1_000_000  # particles that a tolerance may ask for


@dataclass(frozen=True, eq=False)
class AutoState:
    """Populations between two temperatures, one for each shard of the batch.

    Attributes:
        population: The particles.
        rung: Rungs of the ladder that are done.
        log_evidence: ``(U,)`` sums of the increments so far.
        stages: What each rung was like, with its cost.
        draws: Draws wanted of each chain.
    """

    population: Population
    rung: int
    log_evidence: Tensor
    stages: tuple[tuple[Stage, float, float], ...]
    draws: int


@dataclass(frozen=True, eq=False)
class Prepared:
    """The reference, and the folding of the density that it is for."""

    refined: Refined
    folding: Folding


@dataclass(frozen=True)
class Auto:
    r"""Draws, mode weights and evidence from nothing but the density.

    1. *Locate*: ascents from scattered points find the modes (:class:`rdmc.Pilot`).
    2. *Refine*: trial populations are tempered from a reference to the target; the reference is judged from both sides and fitted
       to where they went, until the two agree (:class:`rdmc.correct.Refinement`).
    3. *Correct*: every population goes from the reference to the target with particles and random numbers of its own, by
       sequential Monte Carlo on a ladder that is not adapted any more.

    If the density is -inf outside a box, or a polyhedron that half-lines and simplices make, all three see it without bounds
    (:mod:`rdmc.supports.box`, :mod:`rdmc.supports.polyhedron`), in logarithms and log-ratios.

    If the pilot finds affine maps under which the density is the same, as the renamings of exchangeable labels are, 2 and 3 see the
    density folded to one image of each mode (:class:`rdmc.locate.Folding`), and every draw is moved by a map drawn uniformly.

    Law: pi in the limit of many particles, whatever the first two stages found; they decide the efficiency.
    Evidence: the mean over populations of unbiased estimates.
    Cost: 3 to 40 gradient evaluations a draw to locate, up to 200 where there are dozens of modes, 10 to 250 to refine and 10 to 85
    to correct, at 1000 draws in all; the first two do not grow with the number of draws. To locate also takes 300,000 density
    evaluations, and as many again whenever their scan has found a mode.

    Args:
        pilot: How modes are found.
        refinement: How the reference is found, and how a population is tempered.
        effort: Multiplies the points of the pilot's scan, the particles of the trials, the least particles of a population, and the
            moves; the error that a poor reference leaves falls with it, that of the number of draws does not.

    Raises:
        ValueError: If ``effort`` or ``tolerance`` is not positive.
        DensityError: If the density is finite nowhere near the first points.
        ImproperDensityError: If the mass runs off to infinity.

    Example:
        >>> Auto().refinement.goal
        0.4
    """

    pilot: Surveyor = Pilot()
    refinement: Refinement = Refinement()
    effort: float = 1.0
    tolerance: float | None = None
    side_by_side: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.effort < math.inf:
            raise ValueError(f"`effort` must be a positive float, got {self.effort!r}")
        if self.tolerance is not None and not 0.0 < self.tolerance < math.inf:
            raise ValueError(f"`tolerance` must be None or a positive float, got {self.tolerance!r}")

    def _scaled(self) -> Refinement:
        """The refinement at this effort."""
        if self.effort == 1.0:
            return self.refinement
        tempering = self.refinement.tempering

        def times(count: int, least: int = 1) -> int:
            return max(least, round(count * self.effort))

        low, high = tempering.last
        tempering = replace(tempering, rounds=times(tempering.rounds), last=(times(low), times(high)))
        return replace(self.refinement, tempering=tempering, particles=times(self.refinement.particles, 16))

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """One shard a batch; the shards of a population are of equal size, as each stands for the same evidence."""
        shards = -(-draws // SHARD_SIZE)
        size = max(round(_FEWEST * self.effort), -(-draws // shards))
        return tuple((Unit(chain, shard, size),) for chain in range(chains) for shard in range(shards))

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Locate and refine."""
        pilot = self.pilot.with_effort(self.effort) if isinstance(self.pilot, Pilot) else self.pilot

        def support() -> Support | None:
            if not isinstance(pilot, Pilot):  # what is known is of the user's coordinates
                return None
            key = [(_SUPPORT_KEY,)]
            rng = Streams.seeded(seed, [pilot.starts], key, dtype=density.dtype, device=density.device)
            return pilot.support(density, rng)

        bounds = journal.step("support", support)
        target = density if bounds is None else bounds.seen(density)

        def locate() -> tuple[Survey, tuple[Tensor, Tensor]]:
            trail, rng = Trail(target), pilot_streams(density, seed, pilot.starts)
            if isinstance(pilot, Pilot):
                crowd = bounds.scattered if bounds is not None and bounds.bounded else None
                survey = pilot.search(trail, rng, crowd)
            else:
                survey = pilot.run(trail, rng)
            if not trail:  # what is known already took no ascent
                trail.value_and_grad(survey.modes)
            trodden = trail.trodden()
            if Folding.of(survey).holds(target, *trodden, rng):
                return survey, trodden
            return replace(survey.all_images(_LISTED), symmetry=None), trodden

        survey, trodden = journal.step("locate", locate)
        folding = Folding.of(survey)
        target = folding.folded(target)
        trail = Trail(target, folding.at_home(*trodden))
        refined = self._scaled().run(target, survey.one_of_each(), trail, seed, _REFINE_KEY, journal)
        folding = Folding.of(survey, refined.survey.affine)
        stages = Table(
            {name: refined.stages[name] for name in STAGE_COLUMNS}
            | {"symmetries": [folding.order] * len(refined.stages)}
            | {"support": ["all" if bounds is None else bounds.kind] * len(refined.stages)}
        )
        needed = 0.0 if self.tolerance is None else refined.trial.variance / self.tolerance**2
        found = folding.all_images(refined.survey, _LISTED)
        return Plan(found, Prepared(refined, folding), stages, min(_MOST, math.ceil(needed)), bounds)

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> AutoState:
        """Draws of the reference."""
        refined, folding = plan.detail.refined, plan.detail.folding
        target = InCoordinates(folding.folded(plan.unbounded(density)), refined.survey.affine)
        population = self._scaled().tempering.begin(target, refined.reference.law, rng)
        log_evidence = refined.survey.affine.log_det().expand(len(rng.sizes))
        return AutoState(population, 0, log_evidence, (), draws)

    def advance(self, density: Density, plan: Plan, state: AutoState, rng: Streams) -> AutoState:
        """One temperature of the ladder."""
        refined, folding = plan.detail.refined, plan.detail.folding
        before, clock = density.counter.gradients, time.perf_counter()
        rungs = refined.trial.ladder.rungs
        beta = rungs[state.rung - 1].beta if state.rung else 0.0
        unbounded = plan.unbounded(density)
        target = InCoordinates(folding.folded(unbounded), refined.survey.affine)
        population, _, stage = self._scaled().tempering.step(
            target, refined.reference, state.population, beta, rungs[state.rung], rng
        )
        if state.rung + 1 == len(rungs):
            population = population._replace(x=folding.anywhere(unbounded, population.x, population.value, rng))
        first = 0 if state.rung else len(population.x)  # the draws of the reference were evaluated too
        cost = float(density.counter.gradients - before + first), time.perf_counter() - clock
        return replace(
            state,
            population=population,
            rung=state.rung + 1,
            log_evidence=state.log_evidence + stage.increment,
            stages=(*state.stages, (stage, *cost)),
        )

    def progress(self, plan: Plan, state: AutoState) -> Progress:
        """Temperatures done and expected."""
        rungs = plan.detail.refined.trial.ladder.rungs
        label = f"beta {rungs[state.rung - 1].beta:.2g}" if state.rung else "reference"
        return Progress(state.rung, len(rungs), label)

    def collect(self, density: Density, plan: Plan, state: AutoState) -> Block:
        """The draws, in the order of their ancestors; of an unfinished population, the particles at their present temperature."""
        refined: Refined = plan.detail.refined
        rungs = refined.trial.ladder.rungs
        x = plan.in_bounds(refined.survey.affine.to_user(state.population.x))
        populations = len(state.log_evidence)
        numbers = [torch.stack([part.double() for part in stage]).cpu().numpy() for stage, *_ in state.stages]
        columns = np.array(numbers).reshape(-1, len(Stage._fields), populations).transpose(1, 2, 0)
        inner = dict(zip(Stage._fields, columns, strict=True))
        inner["beta"] = np.array([rung.beta for rung in rungs[: state.rung]])
        inner["evaluations"] = np.array([cost for _, cost, _ in state.stages])
        inner["seconds"] = np.array([seconds for *_, seconds in state.stages])
        finished = state.rung == len(rungs)
        evidence = state.log_evidence if finished else torch.full_like(state.log_evidence, math.nan)
        spread = state.stages[-1][0].spread if finished else torch.full_like(evidence, math.nan)
        order = evenly(len(x) // populations, state.draws, x.device)
        samples = x.view(populations, -1, 1, x.shape[-1])[:, order].flatten(0, 1)
        return Block(samples, inner, evidence, spread)
