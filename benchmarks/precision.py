"""What `Auto(tolerance=)` and `Auto(effort=)` buy: the error of the log evidence, what is reported of it, and the cost.

    python -m benchmarks.precision [--seeds N] [--readme] [--smoke] [--out DIR]

4 populations x 250 draws. Records go to ``precision.jsonl`` one by one, so the run can stop and go on; ``--seeds 0`` makes the
table of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import rdmc
import targets
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment, mean_and_error
from targets.base import Target

TARGETS: dict[str, Callable[[], Target]] = {
    "two modes, d = 8": partial(targets.two_modes, 8),
    "rings": targets.rings,
    "banana": targets.banana,
    "Student mixture, d = 5": partial(targets.student_mixture, 5),
    "funnel, d = 10": targets.funnel,
}
SETTINGS: dict[str, dict[str, float]] = {
    "default": {},
    "tolerance .02": {"tolerance": 0.02},
    "tolerance .01": {"tolerance": 0.01},
    "tolerance .005": {"tolerance": 0.005},
    "effort .5": {"effort": 0.5},
    "effort 2": {"effort": 2.0},
    "effort 4": {"effort": 4.0},
}


def run(target: Target, options: dict[str, float], seed: int, draws: int) -> dict[str, Any]:
    """One run as a record."""
    result = rdmc.sample(target, draws=draws, seed=seed, sampler=rdmc.Auto(**options), progressbar=False)
    assert result.log_evidence is not None and result.log_evidence_mcse is not None and target.log_z is not None
    return {
        "date": datetime.date.today().isoformat(),
        "versions": f"rdmc {rdmc.__version__}, {environment()}",
        "error": result.log_evidence - target.log_z,
        "mcse": result.log_evidence_mcse,
        "gradients": result.gradient_evaluations / (draws * 4),
    }


def report(records: dict[str, dict[str, Any]]) -> str:
    """The table, in Markdown."""
    if not records:
        return "Nothing measured yet."
    seeds = {int(key.rsplit("/", 1)[1]) for key in records}
    versions = "; ".join(sorted({str(r["versions"]) for r in records.values()}))
    dates = sorted({str(r["date"]) for r in records.values()})
    rows = [
        "| target | setting | runs | error of log evidence, rms | reported, mean | gradients a draw |",
        "|---" * 6 + "|",
    ]
    for name in TARGETS:
        for setting in SETTINGS:
            own = [r for key, r in records.items() if key.startswith(f"{name}/{setting}/")]
            if own:
                square, error = mean_and_error([r["error"] ** 2 for r in own])
                rms = math.sqrt(square)
                rows.append(
                    f"| {name} | {setting} | {len(own)} | {rms:.4f} ± {error / (2.0 * rms):.4f} | "
                    f"{statistics.fmean(r['mcse'] for r in own):.4f} | {statistics.fmean(r['gradients'] for r in own):.0f} |"
                )
    return f"{len(seeds)} seeds, {dates[-1]}. {versions}.\n\n" + "\n".join(rows)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    names, settings, draws = list(TARGETS), list(SETTINGS), 250
    if a.smoke:
        names, settings, draws, a.seeds = names[:1], ["tolerance .02", "effort .5"], 40, 2
    store = Store(None if a.smoke else a.out / "precision.jsonl")
    clock = time.perf_counter()
    for seed in range(a.seeds):
        for name in names:
            for setting in settings:
                key = f"{name}/{setting}/{seed}"
                if key not in store.records:
                    record = store.get(key, partial(run, TARGETS[name](), SETTINGS[setting], seed, draws))
                    print(f"{time.perf_counter() - clock:.0f} s  {key}: {record['error']:.4f}", flush=True)
    text = report(store.records)
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "precision", text)


if __name__ == "__main__":
    main()
