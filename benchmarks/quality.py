"""Every sampler on every target with a ground truth: how far its draws are from exact ones, at what cost, and whether it says so.

    python -m benchmarks.quality [--targets a,b] [--samplers x,y] [--seeds N] [--disguises N] [--published] [--smoke] [--out DIR]

4 populations x 250 draws. Baselines get 300 gradient evaluations a draw, held as ``rdmc.compare`` holds them; ``auto`` and ``rdmc``
run at their defaults and their own cost. Records go to ``quality.jsonl`` one by one, so the run can stop and go on; a run that
raises, or takes longer than ``--limit`` seconds, is a record too. Tables go to ``quality.md`` and a figure to ``quality.png``;
``--report`` measures nothing and makes them of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import rdmc
import targets
from benchmarks import quality_report
from benchmarks.measures import measure
from benchmarks.references import LONG_RUN
from benchmarks.store import Store, environment
from rdmc.comparing import with_budget
from rdmc.registry import SAMPLERS, sampler_named
from targets.base import Target

OWN_COST = ("auto", "rdmc")
DIGITS = 5
README = Path("benchmarks/README.md")


@dataclass(frozen=True)
class Settings:
    """What every cell of the table shares.

    Attributes:
        chains: Populations.
        draws: Draws of each.
        budget: Gradient evaluations per draw, for the samplers that have one.
        limit: Seconds after which a run is given up.
    """

    chains: int = 4
    draws: int = 250
    budget: float = 300.0
    limit: float = 300.0


@dataclass(frozen=True)
class Cell:
    """One run: a target's name, its disguise or None, a sampler's name, a seed."""

    target: str
    disguise: int | None
    sampler: str
    seed: int

    @property
    def label(self) -> str:
        """The target as the table calls it."""
        return self.target if self.disguise is None else f"{self.target}, disguise {self.disguise}"

    def key(self, settings: Settings) -> str:
        """Of the record."""
        cost = "default" if self.sampler in OWN_COST else f"{settings.budget:g}"
        return f"{self.label}/{self.sampler}/{self.seed}/{settings.chains}x{settings.draws}/{cost}"


class OutOfTimeError(BaseException):
    """The time limit; not an ``Exception``, so that no sampler takes it for a failure of its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`OutOfTimeError` in the main thread after that many seconds."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def run(base: Target, cell: Cell, settings: Settings) -> dict[str, Any]:
    """One record: what was measured, or why nothing was."""
    target = base if cell.disguise is None else targets.disguise(base, cell.disguise)
    record: dict[str, Any] = {
        "target": cell.label,
        "sampler": cell.sampler,
        "seed": cell.seed,
        "date": datetime.date.today().isoformat(),
        "versions": f"rdmc {rdmc.__version__}, torch {torch.__version__}",
    }
    clock = time.perf_counter()
    try:
        engine = sampler_named(cell.sampler)
        if cell.sampler not in OWN_COST:
            engine = with_budget(engine, settings.budget, settings.draws)
        with time_limit(settings.limit):
            result = rdmc.sample(target, None, settings.draws, settings.chains, engine, cell.seed, progressbar=False)
    except OutOfTimeError:
        return record | {"failed": f"time: over {settings.limit:g} s"}
    except Exception as error:  # whatever a sampler raises is a finding
        late = time.perf_counter() - clock > settings.limit
        return record | {
            "failed": f"time: over {settings.limit:g} s" if late else f"{type(error).__name__}: {error}"[:160]
        }
    measured = measure(target, replace(result, sampler=cell.sampler))
    problems = measured.pop("warnings")
    record |= {name: round(v, DIGITS) if isinstance(v, float) else v for name, v in measured.items()}
    return record | {"problems": len(problems), "first": problems[0][:60] if problems else None}


def cells(names: list[str], samplers: list[str], seeds: int, disguises: int) -> Iterator[Cell]:
    """In the order of the run: a whole table for the first seed, then for the next, so that it can stop at any time."""
    for seed in range(seeds):
        for disguise in (None, *range(disguises)):
            for target in names:
                for sampler in samplers:
                    yield Cell(target, disguise, sampler, seed)


def has_truth(target: Target) -> bool:
    """Whether anything about the target is known that draws can be held against."""
    return target.can_sample or target.has_modes or target.name in LONG_RUN


def main() -> None:
    """Measure what is missing, print the tables, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", help="names, with commas; all by default")
    parser.add_argument("--samplers", help="names, with commas; all but rdmc-published by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--disguises", type=int, default=0, help="random affine maps of each target, measured besides")
    parser.add_argument("--published", action="store_true", help="the published algorithm too")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a run")
    parser.add_argument("--report", action="store_true", help="only tables and figure of the records there are")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)  # the tensors are small: a second thread would wait more than work
    names = a.targets.split(",") if a.targets else list(targets.ALL)
    samplers = a.samplers.split(",") if a.samplers else [s for s in SAMPLERS if s != "rdmc-published" or a.published]
    settings, store = Settings(limit=a.limit), Store(None if a.smoke else a.out / "quality.jsonl")
    if a.smoke:
        names, samplers, a.seeds = ["four_modes", "two_modes"], ["rdmc", "mala", "parallel-tempering"], 1
        settings = Settings(chains=2, draws=20, budget=20.0, limit=60.0)
    for given, known in ((names, targets.ALL), (samplers, SAMPLERS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    bases = {name: targets.ALL[name]() for name in names}  # one object a target: its exact draws are kept by object
    planned = cells([n for n in names if has_truth(bases[n])], samplers, 0 if a.report else a.seeds, a.disguises)
    todo = [cell for cell in planned if cell.key(settings) not in store.records]
    clock = time.perf_counter()
    for number, cell in enumerate(todo, 1):
        record = store.get(cell.key(settings), lambda cell=cell: run(bases[cell.target], cell, settings))
        shown = "KS {ks_ratio}, TV {tv} ({tv_iid}), {evaluations} evaluations, {seconds} s".format_map
        what = record.get("failed") or shown(record)
        print(f"{number}/{len(todo)} {time.perf_counter() - clock:.0f} s  {cell.key(settings)}: {what}", flush=True)
    records = list(store.records.values())
    head = f"{settings.chains} populations x {settings.draws} draws. {environment()}"
    short, full = quality_report.compact(records), quality_report.full_table(records)
    print("", head, short, full, sep="\n\n")
    if not a.smoke:
        (a.out / "quality.md").write_text(f"{head}\n\n{short}\n\n{full}\n")
        quality_report.figure(records, a.out / "quality.png")
        print(f"\nwrote quality.md and quality.png into {a.out}")
    if a.readme:
        quality_report.insert(README, "quality", short)


if __name__ == "__main__":
    main()
