"""Non-reversible parallel tempering from a broad Gaussian, its ladder adapted to equal rejection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.baselines.ladder import barrier, even_ladder, geometric_ladder
from rdmc.baselines.reference import Reference
from rdmc.baselines.replicas import Ensemble, Tally, begin, regrid, scan
from rdmc.baselines.starts import overdispersed
from rdmc.coordinates import InCoordinates
from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.kernels import MALA, Kernel
from rdmc.locate.pilot import Pilot
from rdmc.locate.survey import Survey
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit, located

__all__ = ["ParallelTempering", "TemperingState"]

_STAGES = 50
_TUNING_KEY = (0xFFFFFFFF, 1)  # a stream that no (chain, shard) can have, and not the pilot's either
_TUNING_ENSEMBLES = 8
_TUNING_ROUNDS = (16, 32, 64)
_FIRST_REPLICAS = 12
_SMALLEST_BETA = 1e-4


class _Setting(NamedTuple):
    """The plan's detail: the reference, the ladder ``(R,)`` and step sizes ``(R - 1,)`` that the populations begin with."""

    reference: Reference
    beta: Tensor
    tuning: Tensor
    spent: float


class _Length(NamedTuple):
    """Scans of the warm-up, between two draws, and in all."""

    warmup: int
    thinning: int
    total: int


@dataclass(frozen=True, eq=False)
class TemperingState:
    """Everything the ensembles need between two stages.

    Attributes:
        ensemble: The replicas.
        tally: What their scans added up to on the present ladder.
        scans: Scans done.
        kept: ``(B, n, d)`` draws so far, in the reference's coordinates.
        length: Of the run.
    """

    ensemble: Ensemble
    tally: Tally
    scans: int
    kept: tuple[Tensor, ...]
    length: _Length


@dataclass(frozen=True)
class ParallelTempering:
    r"""Parallel tempering with deterministic even-odd swaps; each population is an ensemble of its own.

    The replicas follow :math:`g^{1-\beta_i} \pi^{\beta_i}`, from g, the Gaussian with the pilot's moments, to pi. A
    scan explores every replica above g with the kernel, whose step sizes adapt per replica during the warm-up; g itself
    is drawn afresh. Then all even or all odd neighbours try to swap, in turn, so that points travel along the ladder
    instead of diffusing.

    A trial run shared by all populations finds the communication barrier Lambda and with it the number of replicas,
    :math:`2\Lambda + 1`, where the round trip rate per evaluation is best. During the warm-up each population refits
    its ladder to equal rejection at 1/8, 1/4, 1/2 and 3/4 of it; then ladder and step sizes are frozen.

    Law: pi in the limit of many scans. Modes of unequal width are exchanged as fast as points make round trips, which
    the result's trace counts (``round_trips``); a ladder without round trips has said nothing about mode weights. A
    mode that the reference doesn't cover is found late or never.
    Evidence: of each population, by stepping stones over the scans after the warm-up (:meth:`Tally.log_evidence`).
    Trace: a row for each replica: ``beta``, ``acceptance`` of the kernel, ``rejection`` of the swap with the next, the
    cumulative ``barrier``, ``round_trips`` of the whole ensemble.
    Cost: ``budget`` gradient evaluations a draw, warm-up and trial included, plus the pilot; a scan costs ``explore``
    evaluations a replica.

    Args:
        kernel: How replicas explore.
        budget: Gradient evaluations per draw; at least 6, for three replicas.
        warmup: Fraction of the budget spent before the first draw, in [0, 1).
        explore: Kernel steps between two swaps, at least 1.
        replicas: At least and at most this many.
        inflation: Standard deviation of g relative to the pilot's mixture, >= 1: what the pilot has missed is often
            farther out.
        pilot: How coordinates, g and starting points are found.

    Raises:
        ValueError: If an argument is out of range.

    Source: Syed, Bouchard-Cote, Deligiannidis and Doucet (2022), JRSS B 84(2), 321-350, algorithms 1 to 4.

    Example:
        >>> ParallelTempering(budget=500).replicas
        (3, 32)
    """

    kernel: Kernel = MALA()
    budget: float = 100.0
    warmup: float = 0.5
    explore: int = 1
    replicas: tuple[int, int] = (3, 32)
    inflation: float = 1.5
    pilot: Pilot = Pilot()

    def __post_init__(self) -> None:
        if not self.budget >= 6.0:
            raise ValueError(f"`budget` must be at least 6 gradient evaluations per draw, got {self.budget!r}")
        if not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"`warmup` must be in [0, 1), got {self.warmup!r}")
        if isinstance(self.explore, bool) or not isinstance(self.explore, int) or self.explore < 1:
            raise ValueError(f"`explore` must be an integer of at least 1, got {self.explore!r}")
        least, most = self.replicas
        if not 3 <= least <= most:
            raise ValueError(
                f"`replicas` must be two integers in increasing order, the first at least 3, got {self.replicas!r}"
            )
        if not self.inflation >= 1.0:
            raise ValueError(f"`inflation` must be at least 1, got {self.inflation!r}")

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """All ensembles side by side in one batch, each with its own streams."""
        return (tuple(Unit(chain, 0, 1) for chain in range(chains)),)

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Run the pilot, and a trial that finds the number of replicas and a ladder."""
        survey = located(self.pilot, density, seed, journal)
        before = density.counter.gradients
        rng = Streams.seeded(seed, [_TUNING_ENSEMBLES], [_TUNING_KEY], dtype=density.dtype, device=density.device)
        beta, tuning = self._trial(density, survey, Reference.of(survey, self.inflation), rng)
        spent = float(density.counter.gradients - before)
        return Plan(survey, _Setting(Reference.of(survey, self.inflation), beta, tuning, spent))

    def _trial(self, density: Density, survey: Survey, reference: Reference, rng: Streams) -> tuple[Tensor, Tensor]:
        """A ladder ``(R,)`` of equal rejection and log step sizes ``(R - 1,)``, from a few short rounds."""
        target = InCoordinates(density, reference.affine)
        rungs = self._within(_FIRST_REPLICAS)
        beta = geometric_ladder(rungs, _SMALLEST_BETA, reference.local)[:, None].expand(-1, rng.particles)
        ensemble = begin(target, _starts(survey, reference, rng, rungs), beta, self.kernel, reference, rng)
        for scans in _TUNING_ROUNDS:
            tally = Tally.empty(ensemble.beta)
            for k in range(scans):
                ensemble, tally = scan(
                    target, reference, self.kernel, self.explore, ensemble, tally, rng, (k + 1.0) ** -0.5
                )
            rejection = tally.rejection().mean(1, keepdim=True).expand_as(tally.swap)
            if reference.local.device.type != "meta":  # a shape can't follow from values that don't exist
                rungs = self._within(math.ceil(2.0 * float(rejection[:, 0].sum())) + 1)
            ensemble = regrid(ensemble, even_ladder(ensemble.beta, rejection, rungs))
        return ensemble.beta[:, 0], ensemble.tuning.mean(1)

    def _within(self, rungs: int) -> int:
        """The number of replicas within the limits, one of which is that a scan may not cost more than the share of a draw."""
        affordable = int((1.0 - self.warmup) * self.budget / (self.explore * self.kernel.gradients))
        least, most = self.replicas
        return max(least, min(most, rungs, affordable))

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> TemperingState:
        """Evaluate over-dispersed starting points at every rung."""
        setting: _Setting = plan.detail
        reference = setting.reference
        beta = setting.beta[:, None].expand(-1, rng.particles)
        u = _starts(plan.found, reference, rng, beta.shape[0])
        ensemble = begin(InCoordinates(density, reference.affine), u, beta, self.kernel, reference, rng)
        ensemble = ensemble._replace(tuning=setting.tuning[:, None].expand_as(ensemble.tuning))
        # a fresh draw of the reference in every second scan
        cost = self.explore * self.kernel.gradients * (beta.shape[0] - 1) + 0.5
        scans = max(draws, int((self.budget * draws - setting.spent / rng.particles) / cost))
        warmup = round(self.warmup * scans)
        thinning = max(1, (scans - warmup) // draws)
        length = _Length(scans - thinning * draws, thinning, scans)
        return TemperingState(ensemble, Tally.empty(beta), 0, (), length)

    def advance(self, density: Density, plan: Plan, state: TemperingState, rng: Streams) -> TemperingState:
        """A fiftieth of the run."""
        reference = plan.detail.reference
        target = InCoordinates(density, reference.affine)
        length, ensemble, tally = state.length, state.ensemble, state.tally
        kept = []
        end = min(length.total, state.scans + max(1, math.ceil(length.total / _STAGES)))
        for k in range(state.scans, end):
            gain = max(0.02, (k + 1.0) ** -0.6) if k < length.warmup else 0.0
            ensemble, tally = scan(target, reference, self.kernel, self.explore, ensemble, tally, rng, gain)
            if k + 1 == length.warmup:
                tally = Tally.empty(ensemble.beta)
            elif _closes_round(k + 1, length.warmup):
                ensemble = ensemble._replace(beta=even_ladder(ensemble.beta, tally.rejection(), ensemble.beta.shape[0]))
                tally = Tally.empty(ensemble.beta)
            elif k >= length.warmup and (k + 1 - length.warmup) % length.thinning == 0:
                kept.append(ensemble.u[-1])
        block = (torch.stack(kept, 1),) if kept else ()
        return TemperingState(ensemble, tally, end, (*state.kept, *block), length)

    def progress(self, plan: Plan, state: TemperingState) -> Progress:
        """Stages done and expected."""
        size = max(1, math.ceil(state.length.total / _STAGES))
        done, total = math.ceil(state.scans / size), math.ceil(state.length.total / size)
        return Progress(done, total, "warm-up" if state.scans < state.length.warmup else "sampling")

    def collect(self, density: Density, plan: Plan, state: TemperingState) -> Block:
        """The draws so far (before the first, the present points), evidence and diagnostics of each ensemble."""
        affine = plan.detail.reference.affine
        draws = torch.cat(state.kept, 1) if state.kept else state.ensemble.u[-1][:, None, :]
        evidence = state.tally.log_evidence() + affine.log_det()
        return Block(affine.to_user(draws), _diagnostics(state), log_evidence=evidence)


def _starts(survey: Survey, reference: Reference, rng: Streams, rungs: int) -> Tensor:
    """``(R, B, d)`` over-dispersed points in the reference's coordinates."""
    return reference.affine.to_white(survey.affine.to_user(overdispersed(survey, rng, (rungs,))))


def _closes_round(scans: int, warmup: int) -> bool:
    """Whether the ladder is refitted here; the last quarter of the warm-up settles the step sizes."""
    return scans in {warmup // 8, warmup // 4, warmup // 2, 3 * warmup // 4} and scans >= 32


def _diagnostics(state: TemperingState) -> dict[str, NDArray[np.float64]]:
    """``(B, R)`` figures of every replica."""
    tally, beta = state.tally, state.ensemble.beta
    unknown = torch.full_like(beta[:1], math.nan)
    scans = sum(tally.scans)
    rejection = tally.rejection()
    table = {
        "beta": beta,
        "acceptance": torch.cat([unknown, tally.local / max(1, scans)]),
        "rejection": torch.cat([rejection, unknown]),
        "barrier": barrier(rejection),
        "round_trips": tally.trips.expand_as(beta),
        "nonfinite": torch.cat([unknown, tally.nonfinite]),
    }
    if beta.device.type == "meta":
        return {}
    return {name: value.T.cpu().double().numpy() for name, value in table.items()}
