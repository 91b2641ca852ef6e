"""How near a run is to the time of its gradients alone, and what a user waits for.

    python -m benchmarks.speed [--parts overhead,quality,scale,start] [--again] [--repeats N] [--device cuda] [--readme] [--smoke]

1. overhead: the time of a run over that of the same batches of gradients, in interleaved pairs.
2. quality: wall time of ``auto`` and of the baselines at a few budgets, and whether the mode weights are right.
3. scale: cost per draw from 1e3 to 1e6 draws, and peak memory, each run in a process of its own.
4. start: seconds until an import, the help text and a first result are there.

Records go to ``speed.jsonl`` one by one, so the run can stop and go on; ``--parts none`` makes the tables of what is there, and
``--again`` forgets the parts named first (leave it out to go on).
"""

from __future__ import annotations

import argparse
import datetime
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import targets
from benchmarks import quality
from benchmarks.quality_report import insert
from benchmarks.speed_overhead import CHAINS, DRAWS, SAMPLERS, TARGETS, measure
from benchmarks.speed_process import large_run, startup
from benchmarks.store import Store, environment
from targets.base import Target

QUALITY: dict[str, Callable[[], Target]] = {
    "two_modes": targets.two_modes,
    "eight_gaussians-unequal": partial(targets.eight_gaussians, 0.0, "unequal"),
    "gmm40": targets.gmm40,
    "four_modes": targets.four_modes,
    "random_mixture": targets.random_mixture,
    "entropic_pair": targets.entropic_pair,
}
BASELINES = ("mala", "hmc", "annealed-langevin", "parallel-tempering", "emcee", "tempered-smc")
BUDGETS = (30.0, 300.0)
WITHIN = 0.02  # of the total variation of independent draws
SCALE = (1_000, 10_000, 100_000, 1_000_000)
STEPS = 100  # gradient evaluations a chain of the kernels, their default
PARTS = ("overhead", "quality", "scale", "start")

Record = dict[str, Any]
Work = tuple[str, Callable[[], Record]]


def overhead(repeats: int, device: str) -> Iterator[Work]:
    """Every sampler on every target."""
    for name, build in TARGETS.items():
        target = build()
        for sampler in SAMPLERS:
            task = partial(measure, target, sampler, repeats, STEPS, device)
            yield f"overhead/{name}/{sampler}/{device}", lambda name=name, task=task: {"target": name} | task()


def quality_runs(seeds: int) -> Iterator[Work]:
    """``auto`` at its own cost, and the baselines at every budget."""
    for name, build in QUALITY.items():
        target = build()
        for sampler, budget in [("auto", 0.0), *((s, b) for b in BUDGETS for s in BASELINES)]:
            for seed in range(seeds):
                settings = quality.Settings(budget=budget or 300.0, limit=60.0)
                cell = quality.Cell(name, None, sampler, seed)
                task = partial(quality.run, target, cell, settings)
                yield f"quality/{cell.key(settings)}", lambda task=task, budget=budget: {"budget": budget} | task()


def scale(counts: Sequence[int], device: str) -> Iterator[Work]:
    """Large runs."""
    for sampler in ("auto", "rdmc", "mala"):
        for draws in counts:
            yield f"scale/{sampler}/{draws}/{device}", partial(large_run, sampler, draws, device)


def start(repeats: int) -> Iterator[Work]:
    """All commands, as one record."""
    yield f"start/{repeats}", partial(startup, repeats)


def of(records: Sequence[Record], part: str) -> list[Record]:
    """The records of a part."""
    return [r for r in records if r["key"].startswith(f"{part}/")]


def on_gpu(record: Record) -> bool:
    """Whether it was measured on a GPU."""
    return "/cuda" in record["key"]


def rows(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [" | ".join(map(str, line)) for line in (head, ["---"] * len(head), *body)]
    return "\n".join(f"| {line} |" for line in lines)


def overhead_table(records: Sequence[Record]) -> str:
    """One row a target and sampler."""
    head = ("target", "sampler", "largest batch", "run, s", "its gradients, s", "run / gradients", "stages", "least")
    body = [
        (
            r["target"],
            f"`{r['sampler']}`",
            f"{r['batch']:,}",
            f"{r['seconds']:.2f}",
            f"{r['alone']:.2f}",
            f"{r['whole_over_gradients']:.2f}",
            f"{r['stages_over_gradients']:.2f}",
            f"{r['least']:.2f}" if r.get("least") else "",
            f"{r['pilot_seconds']:.2f}",
            f"{r['with_pilot']:.2f}",
        )
        for r in of(records, "overhead")
    ]
    return rows((*head, "pilot, s", "with the pilot"), body)


def reached(runs: Sequence[Record]) -> bool:
    """Whether the mean total variation is within :data:`WITHIN` of that of independent draws."""
    good = [r for r in runs if r.get("tv") is not None]
    return len(good) == len(runs) > 0 and statistics.fmean(r["tv"] - r["tv_iid"] for r in good) <= WITHIN


def quality_table(records: Sequence[Record]) -> str:
    """One row a target: ``auto``, and the fastest baseline that is right."""
    own = of(records, "quality")
    body = []
    for name in dict.fromkeys(r["target"] for r in own):
        best, text = math.inf, "none"
        for sampler, budget in [(s, b) for s in BASELINES for b in BUDGETS]:
            runs = [r for r in own if (r["target"], r["sampler"], r["budget"]) == (name, sampler, budget)]
            if reached(runs) and (seconds := statistics.fmean(r["seconds"] for r in runs)) < best:
                best, text = seconds, f"`{sampler}` at {budget:g}"
        auto = [r for r in own if (r["target"], r["sampler"]) == (name, "auto")]
        took = statistics.fmean(r["seconds"] for r in auto if "seconds" in r) if reached(auto) else math.inf
        ratio = best / took if math.isfinite(took) else math.nan
        body.append((name, f"{took:.2f}", text, f"{best:.2f}", f"{ratio:.1f}"))
    return rows(("target", "`auto`, s", "fastest baseline that is right", "s", "ratio"), body)


def scale_table(records: Sequence[Record]) -> str:
    """One row a sampler and number of draws."""
    head = ("sampler", "draws", "microseconds a draw", "gradients a draw", "pilot, s", "peak memory, MiB", "draws, MiB")
    keys = ("microseconds_per_draw", "gradients_per_draw", "pilot_seconds", "peak_mib", "result_mib")
    return rows(head, [(f"`{r['sampler']}`", f"{r['draws']:,}", *(r[k] for k in keys)) for r in of(records, "scale")])


def start_table(records: Sequence[Record]) -> str:
    """One row a command."""
    notes = ("key", "date", "versions")
    return rows(
        ("command", "seconds"),
        [(f"`{name}`", f"{s:.2f}") for r in of(records, "start") for name, s in r.items() if name not in notes],
    )


def report(records: Sequence[Record]) -> str:
    """Everything, in Markdown."""
    if not records:
        return "Nothing measured yet."
    dates = sorted({r["date"] for r in records})
    parts = [f"{' to '.join(sorted({dates[0], dates[-1]}))}, {'; '.join(sorted({r['versions'] for r in records}))}."]
    texts = {
        "overhead": (
            f"Median of the pairs' ratios, process time. `mala` and `hmc` run {CHAINS:,} chains of {STEPS} gradients, `auto` and "
            f"`rdmc` {DRAWS:,} draws of one population, one batch. Stages are the run without what it does once: streams, checks, "
            "the result. Least: the gradients, their noise and accept or stay, and nothing else, over the gradients.",
            overhead_table,
        ),
        "quality": (
            f"4 populations x 250 draws, whole runs. Right means a total variation of the mode weights within {WITHIN:g} of that "
            f"of independent draws; baselines at {' and '.join(f'{b:g}' for b in BUDGETS)} gradient evaluations a draw.",
            quality_table,
        ),
        "scale": ("Two modes, d = 10. Per draw without the pilot; memory beyond that of the imports.", scale_table),
        "start": ("Each in a new process.", start_table),
    }
    for part, (text, table) in texts.items():
        own = of(records, part)
        here, there = ([r for r in own if on_gpu(r) == gpu] for gpu in (False, True))
        if here:
            parts += [text, table(here)]
        if there:
            parts += [f"The same on a GPU, wall time, memory of the GPU ({there[0]['gpu']}):", table(there)]
    return "\n\n".join(parts)


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=1, help="of the runs to a quality")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--again", action="store_true", help="forget the records of these parts first")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    store = Store(None if a.smoke else a.out / "speed.jsonl")
    if a.again:
        store.forget(tuple(f"{part}/" for part in a.parts.split(",")))
    plans = {
        "overhead": lambda: overhead(a.repeats, a.device),
        "quality": lambda: quality_runs(a.seeds),
        "scale": lambda: scale(SCALE, a.device),
        "start": lambda: start(a.repeats),
    }
    if a.smoke:
        pair = targets.two_modes(3)
        plans = {
            "overhead": lambda: iter(
                [("overhead/", lambda: {"target": "pair"} | measure(pair, "auto", 1, 2, a.device))]
            ),
            "scale": lambda: islice(scale((100,), a.device), 1),
            "start": lambda: start(1),
        }
    note = {"date": datetime.date.today().isoformat(), "versions": environment()}
    if a.device != "cpu":
        note["gpu"] = torch.cuda.get_device_name(a.device)
    clock = time.perf_counter()
    for part in a.parts.split(","):
        for key, task in plans.get(part, lambda: iter(()))():
            known = key in store.records
            record = store.get(key, lambda task=task: note | task())
            if not known:
                print(f"{time.perf_counter() - clock:.0f} s  {key}: {record}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(quality.README, "speed", text)


if __name__ == "__main__":
    main()
