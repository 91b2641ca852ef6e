"""How even the weights of diffusion paths are, and how good the evidence is: ``rdmc-smc`` and its parts, beside ``auto``.

    python -m benchmarks.path_weights [--seeds N] [--targets "a;b"] [--samplers "a;b"] [--readme] [--smoke] [--out DIR]

4 populations x 512 draws, on targets whose evidence is known. Records go to ``path_weights.jsonl`` one by one, so the run can stop
and go on; ``--seeds 0`` measures nothing and makes the table of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rdmc
import targets
from benchmarks.peers import unequal_pair
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment
from rdmc.path import FirstOrder, Marginal, NoisedMixture
from targets.base import Target

Record = dict[str, Any]


def elsewhere(target: Target) -> Target:
    """The same, 7 times as large and 40 away from the origin."""
    eye = torch.eye(target.dim, dtype=torch.float64)
    return targets.affine(target, 7.0 * eye, torch.full((target.dim,), 40.0, dtype=torch.float64))


TARGETS: dict[str, Callable[[], Target]] = {
    "two_modes-50": partial(targets.two_modes, 50),
    "two_modes-50, moved": lambda: elsewhere(targets.two_modes(50)),
    "10 Gaussians-50": partial(targets.random_mixture, 50, 10),
    "10 Gaussians-50, moved": lambda: elsewhere(targets.random_mixture(50, 10)),
    "pair .1/.9-32": partial(unequal_pair, 32),
    "pair .1/.9-64": partial(unequal_pair, 64),
    "rings": targets.rings,
    "banana-2": partial(targets.banana, 2),
    "banana-10": partial(targets.banana, 10),
    "funnel-2, sd 3": partial(targets.funnel, 2),
    "funnel-10, sd 3": partial(targets.funnel, 10),
    "funnel-10, sd 1.7": partial(targets.funnel, 10, 3.0**0.5),
    "student_mixture-5": partial(targets.student_mixture, 5),
    "student_mixture-10": partial(targets.student_mixture, 10),
}
DEFAULT = rdmc.PathSMC()
SAMPLERS: dict[str, Any] = {
    "rdmc-smc": DEFAULT,
    "auto": rdmc.Auto(),
    "no resampling": replace(DEFAULT, threshold=0.0),
    "first order": replace(DEFAULT, kernel=FirstOrder()),
    "mixture's potential": replace(DEFAULT, potential=NoisedMixture()),
    "unbiased potential": replace(DEFAULT, potential=Marginal(1.0)),
    "no refit": replace(DEFAULT, refit=None),
}
MAIN = ("rdmc-smc", "auto")
PARTS = ("10 Gaussians-50", "banana-10", "student_mixture-10")  # on which parts are taken out


def run(target: Target, sampler: Any, seed: int, draws: int, chains: int) -> Record:
    """One run: evidence, mode weights, effective shares and costs, or why there is none."""
    record: Record = {
        "date": datetime.date.today().isoformat(),
        "versions": f"rdmc {rdmc.__version__}, {environment()}",
    }
    try:
        result = rdmc.sample(target, draws=draws, chains=chains, sampler=sampler, seed=seed, progressbar=False)
    except Exception as error:  # whatever the sampler raises is a finding
        return record | {"failed": f"{type(error).__name__}: {error}"[:160]}
    share = result.inner["path_ess" if "path_ess" in result.inner else "ess"]  # of `auto`, by temperature
    weights = None
    if target.mode_weights is not None:
        label = target.mode_of(result.samples.flatten(0, 1))
        found = torch.bincount(label, minlength=len(target.mode_weights)) / len(label)
        weights = 0.5 * float((found - target.mode_weights).abs().sum())
    return record | {
        "levels": share.shape[1] - 1,
        "last": float(np.mean(share[:, -1])),
        "least": float(np.mean(share.min(1))),
        "resampled": float(np.mean(result.inner["resampled"][:, :-1].sum(1))) if "resampled" in result.inner else None,
        "error": None if result.log_evidence is None or target.log_z is None else result.log_evidence - target.log_z,
        "mcse": result.log_evidence_mcse,
        "tv": weights,
        "gradients": result.gradient_evaluations / (draws * chains),
        "densities": result.density_evaluations / (draws * chains),
        "seconds": result.seconds,
    }


def average(records: Sequence[Record], field: str, digits: int = 2) -> str:
    """Mean over seeds, or nothing."""
    values = [r[field] for r in records if r.get(field) is not None and math.isfinite(r[field])]
    return f"{np.mean(values):.{digits}f}" if values else ""


def spread(records: Sequence[Record], field: str) -> str:
    """Mean over seeds and the standard error of it."""
    values = [r[field] for r in records if r.get(field) is not None and math.isfinite(r[field])]
    if len(values) < 2:
        return f"{values[0]:+.3f}" if values else ""
    return f"{np.mean(values):+.3f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"


def report(records: Sequence[Record]) -> str:
    """The table, in Markdown."""
    if not records:
        return "Nothing measured yet."
    titles = (
        "target",
        "sampler",
        "runs",
        "levels",
        "last share",
        "least share",
        "resamplings",
        "log evidence - truth",
        "reported error",
        "mode TV",
        "gradients a draw",
        "seconds",
    )
    rows = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for name in TARGETS:
        for title in SAMPLERS:
            own = [r for r in records if (r["target"], r["sampler"]) == (name, title)]
            good = [r for r in own if "failed" not in r]
            if not own:
                continue
            runs = str(len(own)) if len(good) == len(own) else f"{len(own)}, {len(own) - len(good)} failed"
            shares = (
                ["", "", "", ""]
                if title == "auto"
                else [
                    average(good, "levels", 0),
                    average(good, "last"),
                    average(good, "least"),
                    average(good, "resampled", 1),
                ]
            )
            numbers = [
                spread(good, "error"),
                average(good, "mcse", 3),
                average(good, "tv", 3),
                average(good, "gradients", 0),
            ]
            rows.append("| " + " | ".join([name, title, runs, *shares, *numbers, average(good, "seconds", 0)]) + " |")
    dates = sorted({r["date"] for r in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    head = f"{len(records)} runs of 4 populations x 512 draws, {when}. {'; '.join(sorted({r['versions'] for r in records}))}."
    return head + "\n\n" + "\n".join(rows)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--targets", help="names, with semicolons; all by default")
    parser.add_argument("--samplers", help="names, with semicolons; all by default, parts on a few targets")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    names, titles = (
        a.targets.split(";") if a.targets else list(TARGETS),
        a.samplers.split(";") if a.samplers else list(SAMPLERS),
    )
    if unknown := [name for name in (*names, *titles) if name not in TARGETS and name not in SAMPLERS]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join((*TARGETS, *SAMPLERS))}")
    draws, chains = 512, 4
    if a.smoke:
        names, titles, draws, chains, a.seeds = ["banana-2"], ["rdmc-smc", "no refit"], 40, 1, 1
    store = Store(None if a.smoke else a.out / "path_weights.jsonl")
    clock = time.perf_counter()
    for seed in range(a.seeds):
        for name in names:
            for title in titles:
                key = f"{name}/{title}/{seed}"
                if key in store.records or not (title in MAIN or name in PARTS or a.smoke):
                    continue
                record = store.get(
                    key,
                    lambda name=name, title=title, seed=seed: (
                        {"target": name, "sampler": title, "seed": seed}
                        | run(TARGETS[name](), SAMPLERS[title], seed, draws, chains)
                    ),
                )
                what = {k: round(v, 3) for k, v in record.items() if isinstance(v, float)} or record.get("failed")
                print(f"{time.perf_counter() - clock:.0f} s  {key}: {what}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "path_weights", text)


if __name__ == "__main__":
    main()
