"""The contract of a sampler: a plan shared by all populations, then a run in resumable stages for each batch of shards.

Nothing here loops. The one loop is :func:`rdmc.sample`'s: it deals units to batches, advances each batch stage by stage, shows
progress, and can stop between any two stages with what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.locate.survey import Survey, Surveyor
from rdmc.rng import SHARD_SIZE, Streams
from rdmc.supports.support import Support
from rdmc.table import Table

__all__ = ["Block", "Plan", "Progress", "Sampler", "Unit", "batches_of_shards", "joined", "located", "pilot_streams"]

_PILOT_KEY = 0xFFFFFFFF  # a stream that no (chain, shard) can have
_TOGETHER = 2**19  # numbers in the points of a batch that batches are joined up to


class Unit(NamedTuple):
    """A shard: some particles of one population, with random streams of their own.

    Attributes:
        chain: The population.
        shard: Index of the shard within the population.
        particles: Particles in it.
    """

    chain: int
    shard: int
    particles: int


class Progress(NamedTuple):
    """How far a batch is: stages done and expected, and a word on the present one."""

    done: int
    total: int
    label: str


@dataclass(frozen=True, eq=False)
class Plan:
    """What a sampler learnt before any population runs; populations share it and nothing else.

    Attributes:
        survey: What the pilot found, or None without a pilot.
        detail: Whatever else the sampler wants to hand to its own stages.
        stages: What was tried before the populations, one row a stage, for the record of the run.
        particles: As many particles all populations together should have, however few draws are wanted of them.
        support: Of the density, where the survey is of the density seen without its bounds.
    """

    survey: Survey | None = None
    detail: Any = None
    stages: Table = field(default_factory=lambda: Table({}))
    particles: int = 0
    support: Support | None = None

    def unbounded(self, density: Density) -> Density:
        """The density that the survey is of."""
        return density if self.support is None else self.support.seen(density)

    def in_bounds(self, y: Tensor) -> Tensor:
        """``(..., d)`` points of the user's density for points of the one that the survey is of."""
        return y if self.support is None else self.support.forward(y)

    def out_of_bounds(self, x: Tensor) -> Tensor:
        """``(..., d)`` points of the density that the survey is of, for points of the user's."""
        return x if self.support is None else self.support.inverse(x)

    @property
    def found(self) -> Survey:
        """The survey, for samplers that always run a pilot.

        Raises:
            ValueError: If there was none.
        """
        if self.survey is None:
            raise ValueError("this sampler needs a pilot, got a plan without `survey`")
        return self.survey


@dataclass(frozen=True, eq=False)
class Block:
    """What a batch gives.

    Attributes:
        samples: ``(B, n, d)`` n draws from each particle, in the user's coordinates.
        inner: Per-stage diagnostics, each ``(stages,)``, or ``(units, stages)`` where every unit has its own.
        log_evidence: ``(units,)`` estimate of the log of the normalising constant by each unit, NaN where there is none.
        evidence_variance: ``(units,)`` estimated relative variance of each unit's evidence, for samplers that know it.
    """

    samples: Tensor
    inner: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    log_evidence: Tensor | None = None
    evidence_variance: Tensor | None = None


S = TypeVar("S")


class Sampler(Protocol[S]):
    """A way to draw from a density. Frozen and pure: all that changes is the state, the streams and the density's counter."""

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """The units of the run, grouped into batches; it depends on nothing but the numbers, so results don't either.

        Of a sampler with an attribute ``side_by_side = True``, which takes any number of a chain's units as one batch, those that
        follow each other are joined on a GPU (:func:`joined`).
        """
        ...

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Learn what all populations may share; each step of the journal is done once, also by a run that is resumed."""
        ...

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> S:
        """The state of a batch before its first stage; ``draws`` are wanted of each population."""
        ...

    def advance(self, density: Density, plan: Plan, state: S, rng: Streams) -> S:
        """One stage."""
        ...

    def progress(self, plan: Plan, state: S) -> Progress:
        """Stages done and expected; the batch is complete when they are equal."""
        ...

    def collect(self, density: Density, plan: Plan, state: S) -> Block:
        """The draws so far; of an unfinished batch, the best there are."""
        ...


def joined(batches: Sequence[tuple[Unit, ...]], dim: int) -> tuple[tuple[Unit, ...], ...]:
    """Batches of the same chain that follow each other as one, up to 2^19 numbers, as a GPU takes them in the time of one.

    It depends on nothing but the numbers, not on the memory of the GPU at hand, so that results don't either.

    Example:
        >>> joined(((Unit(0, 0, 400),), (Unit(0, 1, 400),), (Unit(1, 0, 400),)), dim=2)
        ((Unit(chain=0, shard=0, particles=400), Unit(chain=0, shard=1, particles=400)), (Unit(chain=1, shard=0, particles=400),))
    """
    out: list[tuple[Unit, ...]] = []
    for batch in batches:
        together = (*out[-1], *batch) if out else batch
        same = len({unit.chain for unit in together}) == 1
        if out and same and dim * sum(unit.particles for unit in together) <= _TOGETHER:
            out[-1] = together
        else:
            out.append(batch)
    return tuple(out)


def batches_of_shards(draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
    """One particle a draw, one shard a batch: the split of samplers whose particles are the draws."""
    sizes = [min(SHARD_SIZE, draws - begin) for begin in range(0, draws, SHARD_SIZE)]
    return tuple((Unit(chain, shard, size),) for chain in range(chains) for shard, size in enumerate(sizes))


def pilot_streams(density: Density, seed: int, starts: int) -> Streams:
    """The streams of the pilot, apart from every population's."""
    return Streams.seeded(seed, [starts], [(_PILOT_KEY,)], dtype=density.dtype, device=density.device)


def located(pilot: Surveyor, density: Density, seed: int, journal: Journal) -> Survey:
    """What the pilot finds, as a step of the journal."""
    return journal.step("locate", lambda: pilot.run(density, pilot_streams(density, seed, pilot.starts)))
