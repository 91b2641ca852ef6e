"""One run with its arguments checked: prepare, run every batch, put the draws together."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rdmc.assembly import Batch, joined_draws, joined_evidence, joined_inner, measured_units
from rdmc.capture import mode_columns, places
from rdmc.compiling import Fused
from rdmc.density import Density
from rdmc.diagnostics.modes import MODE_COLUMNS, mode_table
from rdmc.job import Done, Job
from rdmc.journal import Journal
from rdmc.progress import Progress
from rdmc.result import Result, library_versions
from rdmc.rng import SHARD_SIZE
from rdmc.sampler import Plan, Sampler, joined
from rdmc.sampler import Progress as Stage
from rdmc.spread import Source, spread
from rdmc.table import Table

__all__ = ["Run"]


@dataclass(frozen=True, eq=False)
class Run:
    """The arguments of a run, checked."""

    engine: Sampler[Any]
    density: Density
    draws: int
    chains: int
    seed: int
    name: str
    names: Sequence[str] | None
    clock: float

    def identity(self, values: Tensor) -> dict[str, object]:
        """What makes a run the same run; the density is known by its values at a few points."""
        return {
            "sampler": repr(self.engine),
            "density": hashlib.blake2b(repr(values.tolist()).encode(), digest_size=16).hexdigest(),
            "dim": self.density.dim,
            "draws": self.draws,
            "chains": self.chains,
            "seed": self.seed,
            "dtype": str(self.density.dtype),
            "device": str(self.density.device),
            "rows": self.density.rows,
            "compiled": isinstance(self.density.log_density, Fused),
            **library_versions(),
        }

    def go(self, journal: Journal, bar: Progress, executor: Source | None) -> Result:
        """Prepare, run every batch, and put their draws together; on Ctrl-C, what is there."""
        plan = self.engine.prepare(journal.taped(self.density), self.seed, journal)
        batches = self.engine.batches(max(self.draws, -(-plan.particles // self.chains)), self.chains)
        if self.density.device.type == "cuda" and getattr(self.engine, "side_by_side", False):
            batches = joined(batches, self.density.dim)
        jobs = [
            Job(self.engine, self.density, plan, self.seed, self.draws, i, units) for i, units in enumerate(batches)
        ]
        finished: list[Batch] = []
        partial = False
        try:
            for job, done in self._done(jobs, journal, bar, executor):
                finished.append((job.units, done.block))
                partial = partial or not done.complete
                if partial:
                    break
        except KeyboardInterrupt:
            if not finished:
                raise
            partial = True
        except Exception as error:
            if finished:
                error.partial = self._result(plan, finished, partial=True)  # type: ignore[attr-defined]
                parts = sum(len(units) for units, _ in finished)
                error.add_note(f"what was done before is in `.partial`: {parts} of {sum(map(len, batches))} parts")
            raise
        return self._result(plan, finished, partial)

    def _done(
        self, jobs: Sequence[Job], journal: Journal, bar: Progress, executor: Source | None
    ) -> Iterator[tuple[Job, Done]]:
        counter = self.density.counter
        if executor is not None:
            for index, (job, done) in enumerate(spread(jobs, executor, journal), 1):
                bar.update(index, counter.gradients, total=len(jobs))
                yield job, done
            return
        for job in jobs:

            def watch(stage: Stage, index: int = job.index) -> None:
                bar.update(index * stage.total + stage.done, counter.gradients, total=stage.total * len(jobs))

            yield job, job.run(journal, watch)

    def _values(self, x: Tensor, partial: bool) -> Tensor:
        """The log density at the draws; NaN where a run ended because it can't be had any more, or by Ctrl-C just here."""
        try:
            return torch.cat([self.density(part) for part in x.split(SHARD_SIZE)])
        except KeyboardInterrupt:
            return x.new_full((len(x),), torch.nan)
        except Exception:
            if not partial:
                raise
            return x.new_full((len(x),), torch.nan)

    def _result(self, plan: Plan, finished: list[Batch], partial: bool) -> Result:
        samples = joined_draws(finished, self.draws)
        parts = measured_units(finished)
        values = self._values(samples.flatten(0, 1), partial)
        log_evidence, log_evidence_mcse = joined_evidence(parts, partial)
        inner = joined_inner(parts)
        captured = plan.survey is not None and mode_columns(inner)
        return Result(
            samples=samples,
            log_density=values.view(samples.shape[:-1]),
            log_evidence=log_evidence,
            log_evidence_mcse=log_evidence_mcse,
            gradient_evaluations=self.density.counter.gradients,
            density_evaluations=self.density.counter.densities,
            seconds=time.perf_counter() - self.clock,
            modes=_modes(plan, samples, values.view(samples.shape[:-1])),
            stages=plan.stages,
            places=places(plan.found) if captured else Table({}),
            inner=inner,
            sampler=self.name,
            config=repr(self.engine),
            seed=self.seed,
            partial=partial,
            names=tuple(self.names) if self.names is not None else None,
        )


def _modes(plan: Plan, samples: Tensor, values: Tensor) -> Table:
    """The mode table, in the pilot's terms."""
    if plan.survey is None:
        return Table({column: [] for column in MODE_COLUMNS})
    affine = plan.survey.affine
    z = affine.to_white(plan.out_of_bounds(samples))
    table = mode_table(z, values, plan.survey.surrogate, plan.survey.groups())
    where = torch.tensor(table["location"], dtype=samples.dtype, device=samples.device)
    return table.replaced("location", plan.in_bounds(affine.to_user(where)).tolist())
