"""The default sampler on problems drawn at random, of which nothing was known when it was made.

    python -m benchmarks.unlike [--seeds N] [--first N] [--readme] [--smoke] [--out DIR]

``targets.unlike_mixture(seed)``: 1 to 20 dimensions, 1 to 8 components of unlike width, skewness, bend and tails. 4 populations x
250 draws, everything at its default. Records go to ``unlike.jsonl`` one by one, so the run can stop and go on; ``--seeds 0`` makes
the table of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import rdmc
import targets
from benchmarks.auto import plain, wrong
from benchmarks.measures import measure
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment

DIMENSIONS = ((1, 3), (5, 5), (8, 8), (12, 12), (20, 20))

Record = dict[str, Any]


def run(seed: int, draws: int) -> Record:
    """One problem, one run, one record."""
    target = targets.unlike_mixture(seed)
    result = rdmc.sample(target, draws=draws, seed=seed, progressbar=False)
    n = result.chains * result.draws
    costs = {"gradients": result.gradient_evaluations / n, "densities": result.density_evaluations / n}
    found = measure(target, result) | costs | {"overlooked": result.stages[0]["overlooked"]}
    about = {"dim": target.dim, "components": len(target.weights), "heavy": int(target.df.isfinite().sum())}
    head = {"date": datetime.date.today().isoformat(), "versions": f"rdmc {rdmc.__version__}, {environment()}"}
    return head | about | {name: plain(value) for name, value in found.items()}


def median(records: Sequence[Record], name: str, digits: int) -> str:
    """Of the runs that have it."""
    values = [r[name] for r in records if r[name] is not None]
    return f"{statistics.median(values):.{digits}f}" if values else "-"


def line(label: str, records: Sequence[Record]) -> str:
    """A row of the table."""
    bad = [r for r in records if wrong(r)]
    good = [r for r in records if not wrong(r)]
    warned = [sum(bool(r["warnings"]) for r in own) for own in (good, bad)]
    within = sum(abs(r["evidence_error"]) <= max(0.1, 3.0 * r["evidence_mcse"]) for r in good)
    cells = (
        label,
        len(records),
        f"{len(good)} ({warned[0]} warned)",
        f"{within} / {len(good)}",
        median(good, "ks_ratio", 2),
        f"{len(bad)} ({warned[1]} warned)",
        f"{median(good, 'overlooked', 2)}, {median(bad, 'overlooked', 2)}",
        median(records, "gradients", 0),
        median(records, "densities", 0),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def report(records: Sequence[Record]) -> str:
    """The table, in Markdown."""
    if not records:
        return "Nothing measured yet."
    rows = [
        "| d | problems | right | their evidence within max(.1, 3 se) | their KS, exact draws = 1 | wrong "
        "| overlooked: right, wrong | gradients a draw | densities a draw |",
        "|---" * 9 + "|",
    ]
    for low, high in DIMENSIONS:
        own = [r for r in records if low <= r["dim"] <= high]
        if own:
            rows.append(line(str(low) if low == high else f"{low} to {high}", own))
    rows.append(line("all", records))
    versions = "; ".join(sorted({r["versions"] for r in records}))
    return f"{len(records)} problems, {max(r['date'] for r in records)}. {versions}.\n\n" + "\n".join(rows)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    seeds, draws = (range(1, 2), 40) if a.smoke else (range(a.first, a.first + a.seeds), 250)
    store = Store(None if a.smoke else a.out / "unlike.jsonl")
    clock = time.perf_counter()
    for seed in seeds:
        if str(seed) not in store.records:
            record = store.get(str(seed), lambda seed=seed: run(seed, draws))
            verdict = "wrong" if wrong(record) else "right"
            shown = {name: record[name] for name in ("dim", "tv", "evidence_error", "overlooked")}
            print(f"{time.perf_counter() - clock:.0f} s  {seed}: {verdict} {shown}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "unlike", text)


if __name__ == "__main__":
    main()
