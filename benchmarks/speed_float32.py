"""What single precision costs in accuracy and saves in time: the same runs of ``auto`` in float32 and in float64.

    python -m benchmarks.speed_float32 [--seeds N] [--readme] [--smoke] [--out DIR]

4 populations x 1,000 draws on four targets whose evidence, mode weights and exact draws are known. Records go to
``speed_float32.jsonl`` one by one, so the run can stop and go on; ``--seeds 0`` makes the table of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import rdmc
import targets
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment, mean_and_error
from rdmc.diagnostics.quality import ks_projected, mode_weight_tv
from targets.base import Target

TARGETS: dict[str, Callable[[], Target]] = {
    "GMM-40, d = 2": targets.gmm40,
    "two modes, d = 8": partial(targets.two_modes, 8),
    "10 Gaussians, d = 50": partial(targets.random_mixture, 50, 10),
    "funnel, d = 10": targets.funnel,
}
DTYPES = {"float64": torch.float64, "float32": torch.float32}
CHAINS, DRAWS, EXACT, PROJECTIONS = 4, 1000, 20_000, 50

Record = dict[str, Any]


def measure(target: Target, dtype: torch.dtype, seed: int, draws: int) -> Record:
    """One run: errors of the log evidence and of the mode weights, KS distance to exact draws, time."""
    clock = time.process_time()
    try:
        result = rdmc.sample(target, None, draws, CHAINS, "auto", seed, dtype=dtype, progressbar=False)
    except Exception as error:  # whatever a run raises is a finding
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
    seconds = time.process_time() - clock
    x = result.samples.flatten(0, 1).double()
    g = torch.Generator().manual_seed(seed)
    record = {
        "seconds": round(seconds, 3),
        "gradients": result.gradient_evaluations,
        "log_evidence_error": float(result.log_evidence or 0.0) - float(target.log_z or 0.0),
        "ks": float(ks_projected(x, target.sample(EXACT, g), PROJECTIONS, g)),
        "ks_exact": float(ks_projected(target.sample(len(x), g), target.sample(EXACT, g), PROJECTIONS, g)),
        "problems": len(result.check()),
    }
    if target.has_modes and target.mode_weights is not None:
        record["tv"] = float(mode_weight_tv(target.mode_of(x), target.mode_weights))
    return record


def table(records: Sequence[Record]) -> str:
    """A row a target and precision."""
    lines = [
        "| target | precision | runs | log evidence: mean error, rms | KS, of exact draws | TV of weights | gradients a draw | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r["target"] for r in records):
        for precision in DTYPES:
            own = [r for r in records if (r["target"], r["precision"]) == (name, precision)]
            done = [r for r in own if "failed" not in r]
            if not done:
                lines += [f"| {name} | {precision} | 0 of {len(own)} |" + " |" * 5] if own else []
                continue
            errors = [r["log_evidence_error"] for r in done]
            mean, error = mean_and_error(errors)
            rms = statistics.fmean(e * e for e in errors) ** 0.5
            ks, exact, seconds, gradients = (
                statistics.fmean(r[key] for r in done) for key in ("ks", "ks_exact", "seconds", "gradients")
            )
            tv = f"{statistics.fmean(r['tv'] for r in done):.4f}" if "tv" in done[0] else ""
            lines.append(
                f"| {name} | {precision} | {len(done)} of {len(own)} | {mean:.4f} ± {error:.4f}, {rms:.4f} | "
                f"{ks:.4f}, {exact:.4f} | {tv} | {gradients / (CHAINS * DRAWS):.0f} | {seconds:.2f} |"
            )
    return "\n".join(lines)


def report(records: Sequence[Record]) -> str:
    """Everything, in Markdown."""
    if not records:
        return "Nothing measured yet."
    when = ", ".join(sorted({r["date"] for r in records}))
    which = "; ".join(sorted({r["versions"] for r in records}))
    told = sorted({f"{r['target']}, {r['precision']}: {r['failed']}" for r in records if "failed" in r})
    failed = "".join(f"\n- Failed: {text}" for text in told)
    head = f"{when}, {which}. `auto`, {CHAINS} populations x {DRAWS:,} draws; process time, pilot and all."
    return f"{head}\n\n{table(records)}" + (f"\n{failed}" if failed else "")


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    store = Store(None if a.smoke else a.out / "speed_float32.jsonl")
    names, seeds, draws = list(TARGETS), a.seeds, DRAWS
    if a.smoke:
        names, seeds, draws = names[1:2], 1, 20
    for seed in range(seeds):
        for name in names:
            target = TARGETS[name]()
            for precision, dtype in DTYPES.items():
                about = {"target": name, "precision": precision, "date": datetime.date.today().isoformat()}
                work = partial(measure, target, dtype, seed, draws)
                store.get(
                    f"{name}/{precision}/{seed}",
                    lambda work=work, about=about: about | {"versions": environment()} | work(),
                )
        print(f"seed {seed} done", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "speed_float32", text)


if __name__ == "__main__":
    main()
