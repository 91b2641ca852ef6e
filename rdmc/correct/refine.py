"""Find a reference that covers the target: try, judge, fit to where the particles went, and again."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from rdmc.coordinates import InCoordinates
from rdmc.correct.candidates import SUPPORT
from rdmc.correct.first import First, first_reference
from rdmc.correct.improve import improved
from rdmc.correct.judge import Judgement, reverse_efficiency
from rdmc.correct.reference import Reference
from rdmc.correct.temper import Tempering, Trial
from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.locate.pilot import extended
from rdmc.locate.survey import Survey
from rdmc.locate.trail import Trail
from rdmc.rng import Streams
from rdmc.table import Table

__all__ = ["STAGE_COLUMNS", "Refined", "Refinement"]

STAGE_COLUMNS = (
    "stage",
    "reference",
    "components",
    "unseen",
    "overlooked",
    "overlooked_narrow",
    "unlike",
    "temperatures",
    "forward",
    "reverse",
    "jump",
    "log_evidence",
    "gradients",
    "densities",
    "seconds",
)
"""Columns of the stage table: what was tried, how near it was, what it cost."""

_GAIN = 1.1  # factor by which a round must better the best merit to count as progress
_SETTLED = 0.2  # nats by which the evidence may still rise
_PATIENCE = 2
_CLIMBERS = 64  # particles of a trial that look for modes where the population is
_HOPEFUL = 0.02  # promised score below which, or ...
_LOST = 0.1  # ... merit below which, while the evidence rises, the next trial need only look ahead, ...
_SCOUTS = 0.4  # ... with this share of the particles
_COVERED = 0.05  # reverse share below which populations make all local moves, however many jumps are accepted
_PROMISE = 0.5  # of the best score so far, below which a fitted reference is not worth a trial ...
_SERVES = 0.1  # ... if the best serves already
_COMPLETE = 0.05  # Good-Turing probability of a new mode below which the list of modes counts as complete


_UNJUDGED = Judgement(math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Refined:
    """The reference to use, and how it was found.

    Attributes:
        survey: The pilot's findings in the coordinates of the reference.
        reference: The best reference.
        trial: Its trial.
        stages: One row per trial (:data:`STAGE_COLUMNS`).
    """

    survey: Survey
    reference: Reference
    trial: Trial
    stages: Table


@dataclass
class _Log:
    """Rows of the stage table, with costs measured from row to row, the first from the start of the run."""

    density: Density
    clock: float
    spent: tuple[int, int] = (0, 0)
    rows: list[dict[str, object]] = field(default_factory=list)

    def add(
        self, stage: str, reference: str, components: int, survey: Survey, trial: Trial | None, shift: float
    ) -> None:
        judgement = trial.judgement if trial is not None else _UNJUDGED
        now, clock = (self.density.counter.gradients, self.density.counter.densities), time.perf_counter()
        self.rows.append(
            {
                "stage": stage,
                "reference": reference,
                "components": components,
                "unseen": survey.unseen if trial is None else math.nan,
                "overlooked": survey.overlooked.half if trial is None else math.nan,
                "overlooked_narrow": survey.overlooked.tenth if trial is None else math.nan,
                "unlike": survey.unlike if trial is None else math.nan,
                "temperatures": len(trial.ladder.rungs) if trial is not None else 0,
                **judgement._asdict(),
                "log_evidence": trial.log_evidence + shift if trial is not None else math.nan,
                "gradients": now[0] - self.spent[0],
                "densities": now[1] - self.spent[1],
                "seconds": clock - self.clock,
            }
        )
        self.spent, self.clock = now, clock

    def table(self, judgements: Sequence[Judgement]) -> Table:
        """The rows, with what all populations together say of each trial's reference."""
        trials = (row for row in self.rows if row["stage"] == "temper")
        for row, judgement in zip(trials, judgements, strict=True):
            row.update(judgement._asdict())
        return Table.from_rows(self.rows, STAGE_COLUMNS)


class _Tried(NamedTuple):
    """A reference with its trial."""

    reference: Reference
    trial: Trial

    @property
    def merit(self) -> float:
        return self.trial.judgement.merit


def _judged_by_all(before: Sequence[_Tried], now: _Tried) -> list[_Tried]:
    """Every reference as seen from the population that likes it least, at no evaluation; those before have been judged so already.

    A population hardly leaves what its own reference covers, so it finds that reference good; a later one has been elsewhere.
    """

    def seen(one: _Tried, others: Sequence[_Tried]) -> _Tried:
        least = one.trial.judgement.reverse
        for other in others:
            x, value, *_ = other.trial.population
            evidence = max(one.trial.log_evidence, other.trial.log_evidence)  # who missed mass may be either
            log_weight = value - one.reference.law.log_prob(x)
            least = min(least, float(reverse_efficiency(log_weight, value.new_tensor(evidence))))
        return _Tried(one.reference, replace(one.trial, judgement=one.trial.judgement._replace(reverse=least)))

    return [*(seen(one, [now]) for one in before), seen(now, before)]


@dataclass(frozen=True)
class Refinement:
    """Rounds of trial and fit, until the reference and the target agree from both sides.

    The first reference is the pilot's mixture of Gaussians at the modes, or where that is poor, what is found where the mass may be
    (:func:`rdmc.correct.first.first_reference`). Each round tempers a population from the reference and judges it; if it does not
    reach ``goal``, several references are fitted to the population and the best of them is tried next. Rounds end when the goal is
    reached, or when neither the score nor the evidence moves any more. While a reference promises next to nothing, or the evidence
    still rises and hardly a jump is accepted, trials take four tenths of the particles.

    Law: none; the reference decides the efficiency of what follows and not its law.
    Cost: per round about 10 to 50 gradient evaluations a particle.

    Args:
        tempering: How a population is brought to the target.
        particles: Particles of a trial.
        rounds: At most this many trials.
        goal: Score (see :class:`rdmc.correct.Judgement`) at which a reference is good enough, in (0, 1).

    Raises:
        ValueError: If an argument is out of range.
    """

    tempering: Tempering = Tempering()
    particles: int = 1000
    rounds: int = 8
    goal: float = 0.4

    def __post_init__(self) -> None:
        if self.particles < 16 or self.rounds < 1:
            raise ValueError(
                f"`particles` and `rounds` must be at least 16 and 1, got {self.particles!r} and {self.rounds!r}"
            )
        if not 0.0 < self.goal < 1.0:
            raise ValueError(f"`goal` must be in (0, 1), got {self.goal!r}")

    def run(self, density: Density, survey: Survey, trail: Trail, seed: int, key: int, journal: Journal) -> Refined:
        """Find the reference.

        Args:
            density: The target, in the user's coordinates.
            survey: What the pilot found.
            trail: Where its ascents passed.
            seed: Of the run.
            key: First word of the keys of the random streams; the second is the round.
            journal: Of the run; every trial and every fit is a step.

        Raises:
            DensityError: If the density is finite at none of the draws of the first reference.
        """
        log = _Log(density, journal.began)
        log.add("locate", "modes", survey.surrogate.components, survey, None, 0.0)

        def streams(round_: int, scouts: bool = False) -> Streams:
            few = max(16, round(_SCOUTS * self.particles), SUPPORT * density.dim)
            particles = min(few, self.particles) if scouts else self.particles
            return Streams.seeded(seed, [particles], [(key, round_)], dtype=density.dtype, device=density.device)

        def first() -> First:
            return first_reference(density, survey, trail, streams(0), streams(2 * self.rounds + 1))

        survey, reference, promise = journal.step("first reference", first)
        target = InCoordinates(density, survey.affine)
        shift = float(survey.affine.log_det())
        tried: list[_Tried] = []
        quiet, evidence, highest, lost = 0, math.nan, -math.inf, False
        for round_ in range(1, self.rounds + 1):
            rng = streams(round_, scouts=lost or promise.score < _HOPEFUL)
            trial = journal.step(f"temper {round_}", partial(self.tempering.learn, target, reference, rng))
            log.add("temper", reference.name, reference.guide.components, survey, trial, shift)
            *before, now = tried = _judged_by_all(tried, _Tried(reference, trial))
            score = now.trial.judgement.score
            progress = now.merit > _GAIN * max((one.merit for one in before), default=0.0)
            rising = round_ > 1 and trial.log_evidence > highest + _SETTLED
            lost = rising and now.merit < _LOST
            quiet = 0 if progress or rising else quiet + 1
            best = max(tried, key=lambda one: one.merit)
            # a reference of incomplete modes can look perfect: another one, fitted to where the particles went, must confirm it
            confirmed = survey.unseen <= _COMPLETE or abs(trial.log_evidence - evidence) < _SETTLED
            evidence, highest = trial.log_evidence, max(highest, trial.log_evidence)
            if (score >= self.goal and confirmed) or quiet >= _PATIENCE or round_ == self.rounds:
                break
            survey, reference, promise = journal.step(
                f"fit {round_}",
                partial(self._fit, target, survey, best.reference, trial, streams(self.rounds + round_)),
            )
            serves = confirmed and not rising and best.trial.judgement.score >= _SERVES
            if promise.score <= 0.0 or (serves and promise.score < _PROMISE * best.trial.judgement.score):
                break
        table = log.table([one.trial.judgement for one in tried])
        if best.trial.judgement.reverse >= _COVERED:
            return Refined(survey, *best, table)
        # jumps may be accepted on average and never where the reference leaves something out
        ladder = best.trial.ladder.moving(self.tempering.local)
        return Refined(survey, best.reference, replace(best.trial, ladder=ladder), table)

    def _fit(
        self, target: InCoordinates, survey: Survey, former: Reference, trial: Trial, rng: Streams
    ) -> tuple[Survey, Reference, Judgement]:
        """The next reference, and what is promised of it, after a look for modes where the population is."""
        if survey.unseen <= _COMPLETE:
            survey = extended(target, survey, trial.population.x[:: -(-self.particles // _CLIMBERS)])
        return survey, *improved(target, survey, former, trial, rng)
