"""One batch of a run, from its first stage to its last, in this process or in another."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import torch

import rdmc
from rdmc.archive import pack, unpack
from rdmc.density import Counter, Density
from rdmc.errors import DensityError
from rdmc.journal import Journal, Spent
from rdmc.rng import SHARD_SIZE, Streams
from rdmc.sampler import Block, Plan, Progress, Sampler, Unit

__all__ = ["Done", "Job", "perform", "received", "shipped"]

Watch = Callable[[Progress], None]
"""Told how far a batch is, after every stage."""


def _ignore(progress: Progress) -> None:
    """Show nothing."""


class Done(NamedTuple):
    """What a batch gave.

    Attributes:
        block: The particles of all units, in the order of the job's units.
        complete: False where Ctrl-C ended it early.
    """

    block: Block
    complete: bool


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that a batch depends on; so where and when it runs, and beside what, makes no difference to a bit.

    Attributes:
        engine: The sampler.
        density: The target.
        plan: What the sampler learnt beforehand.
        seed: Of the run.
        draws: Wanted of each population.
        index: Which of the run's batches it is.
        units: The shards in it.
    """

    engine: Sampler[Any]
    density: Density
    plan: Plan
    seed: int
    draws: int
    index: int
    units: tuple[Unit, ...]

    def streams(self) -> Streams:
        """The random streams of its units, at their beginning; chains of one particle share a stream by the shard."""
        shards = [(unit.chain, unit.shard, unit.particles) for unit in self.units]
        if all(unit.particles == 1 for unit in self.units):
            firsts = range(0, len(shards), SHARD_SIZE)
            shards = [(*shards[first][:2], min(SHARD_SIZE, len(shards) - first)) for first in firsts]
        keys, sizes = [shard[:2] for shard in shards], [shard[2] for shard in shards]
        return Streams.seeded(self.seed, sizes, keys, dtype=self.density.dtype, device=self.density.device)

    def run(self, journal: Journal, watch: Watch = _ignore) -> Done:
        """Advance the batch stage by stage: the loop. On Ctrl-C, what is there."""
        name, unfinished = f"batch {self.index}", f"state {self.index}"
        if (kept := journal.recall(name)) is not None:
            return Done(kept[0], True)
        engine, density, plan = self.engine, self.density, self.plan
        begin = journal.now()
        noted = journal.recall(unfinished)
        rng, state = noted if noted is not None else (self.streams(), None)
        try:
            if state is None:
                state = engine.start(density, plan, rng, self.draws)
            while (progress := engine.progress(plan, state)).done < progress.total:
                state = engine.advance(density, plan, state, rng)
                journal.note(unfinished, (rng, state), begin)
                watch(engine.progress(plan, state))
        except KeyboardInterrupt:
            if state is None:
                raise
            return Done(engine.collect(density, plan, state), False)
        block = engine.collect(density, plan, state)
        journal.keep(name, (block,), Spent.since(density.counter, begin), instead_of=[unfinished])
        return Done(block, True)


def shipped(job: Job) -> bytes:
    """The job as bytes for another process, its counter at zero; functions written in a notebook travel too.

    No two parcels are equal, because Dask answers a call that it knows with what it knows, also with the loss of a worker.

    Raises:
        DensityError: If the density, or the sampler, can't be pickled.
    """
    alone = replace(job, density=replace(job.density, counter=Counter()))
    try:
        body = cloudpickle.dumps(alone)
    except Exception as error:
        raise DensityError(
            "`log_density` and `sampler` must be something that cloudpickle can send to the workers of `executor`; it said: "
            f"{type(error).__name__}: {error}"
        ) from error
    return bytes(cloudpickle.dumps((_versions(), torch.get_num_threads(), body, uuid.uuid4())))


def _versions() -> dict[str, str]:
    """What the bits of a batch hang on, beside the job."""
    return {"rdmc": rdmc.__version__, "torch": torch.__version__, "numpy": np.__version__}


def perform(parcel: bytes) -> bytes:
    """Run a shipped job where this is called, with as many threads as where it came from, because sums round by their number.

    Returns:
        An archive of ``(block, spent)``, or ``(error,)`` with the pickled exception: so whatever else a future raises is the loss
        of a worker.
    """
    own = torch.get_num_threads()
    try:
        versions, threads, body, _ = cloudpickle.loads(parcel)
        if versions != _versions():
            raise RuntimeError(f"the workers of `executor` must have the versions {versions}, got {_versions()}")
        if own != threads:
            torch.set_num_threads(threads)
        job = cloudpickle.loads(body)
        done = job.run(Journal(job.density.counter))
        if not done.complete:
            raise KeyboardInterrupt
        return pack((done.block, Spent.since(job.density.counter, Spent(0, 0))))
    except Exception as error:
        return pack((_pickled(error),))
    finally:
        if own != torch.get_num_threads():
            torch.set_num_threads(own)


def _pickled(error: Exception) -> Any:
    """The exception with its traceback as a note, as an array."""
    error.add_note(f"in a worker: {traceback.format_exc()}")
    try:
        data = cloudpickle.dumps(error)
        cloudpickle.loads(data)
    except Exception:
        data = cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return np.frombuffer(data, dtype=np.uint8)


def received(answer: bytes, device: torch.device) -> tuple[Block, Spent]:
    """What :func:`perform` gave.

    Raises:
        Exception: The one that the job raised.
    """
    parts = unpack(answer, device=device)
    if len(parts) == 1:
        raise cloudpickle.loads(parts[0].tobytes())
    block, spent = parts
    return block, spent
