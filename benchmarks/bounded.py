"""The default sampler on densities that are -inf outside a part of space, as under priors between limits and of numbers in order.

    python -m benchmarks.bounded [--seeds N] [--readme] [--smoke] [--out DIR]

4 populations x 250 draws, everything at its default; nothing is said of the bounds. Records go to ``bounded.jsonl`` one by one,
so the run can stop and go on; a run that raises is a record too. ``--seeds 0`` makes the table of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import rdmc
from benchmarks.auto import WRONG_KS, plain, wrong
from benchmarks.bounded_problems import PROBLEMS
from benchmarks.measures import measure
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment
from rdmc.errors import DensityError

Record = dict[str, Any]


def run(name: str, seed: int, draws: int) -> Record:
    """One run, one record."""
    target = PROBLEMS[name]()
    head = {"date": datetime.date.today().isoformat(), "versions": f"rdmc {rdmc.__version__}, {environment()}"}
    head |= {"problem": name, "seed": seed}
    begin = time.perf_counter()
    try:
        result = rdmc.sample(target, draws=draws, seed=seed, progressbar=False)
    except DensityError as error:
        return head | {"error": type(error).__name__, "seconds": time.perf_counter() - begin}
    n = result.chains * result.draws
    costs = {"gradients": result.gradient_evaluations / n, "densities": result.density_evaluations / n}
    found = measure(target, result) | costs | {"support": result.stages[0]["support"]}
    return head | {key: plain(value) for key, value in found.items()}


def line(name: str, records: Sequence[Record]) -> str:
    """A row of the table."""
    done = [r for r in records if "error" not in r]
    if not done:
        return f"| {name} | {len(records)} | " + " | ".join("-" * 6) + f" | {len(records)} |"
    bad = [r for r in done if wrong(r) or r["ks_ratio"] > WRONG_KS]
    ratios = [r["ks_ratio"] for r in done]
    error = math.sqrt(statistics.mean(r["evidence_error"] ** 2 for r in done))
    cells = (
        name,
        len(records),
        f"{statistics.mean(ratios):.2f}, {max(ratios):.2f}",
        f"{error:.3f} ({statistics.mean(r['evidence_mcse'] for r in done):.3f})",
        f"{statistics.median(r['gradients'] for r in done):.0f}",
        f"{statistics.median(r['densities'] for r in done):.0f}",
        f"{len(bad)} ({sum(bool(r['warnings']) for r in bad)})",
        sum(bool(r["warnings"]) for r in done) - sum(bool(r["warnings"]) for r in bad),
        len(records) - len(done),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def report(records: Sequence[Record]) -> str:
    """The table, in Markdown."""
    if not records:
        return "Nothing measured yet."
    rows = [
        "| problem | runs | KS / exact draws: mean, largest | log evidence, rms error (reported se) | gradients a draw "
        "| densities a draw | wrong (of them warned) | right and warned | failed |",
        "|---" * 9 + "|",
    ]
    names = [name for name in PROBLEMS if any(r["problem"] == name for r in records)]
    rows += [line(name, [r for r in records if r["problem"] == name]) for name in names]
    versions = "; ".join(sorted({r["versions"] for r in records}))
    return f"{len(records)} runs, {max(r['date'] for r in records)}. {versions}.\n\n" + "\n".join(rows)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    names, seeds, draws = (list(PROBLEMS)[:1], 1, 40) if a.smoke else (list(PROBLEMS), a.seeds, 250)
    store = Store(None if a.smoke else a.out / "bounded.jsonl")
    clock = time.perf_counter()
    for seed in range(seeds):
        for name in names:
            key = f"{name}/{seed}"
            if key not in store.records:
                record = store.get(key, lambda name=name, seed=seed: run(name, seed, draws))
                shown = {k: record.get(k) for k in ("ks_ratio", "evidence_error", "gradients", "support", "error")}
                print(f"{time.perf_counter() - clock:.0f} s  {key}: {shown}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "bounded", text)


if __name__ == "__main__":
    main()
