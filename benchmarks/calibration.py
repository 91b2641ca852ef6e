"""How often the errors that the default sampler reports are right: coverage of estimate ± 1.96 standard errors.

    python -m benchmarks.calibration [--seeds N] [--targets a,b] [--readme] [--smoke] [--out DIR]

4 populations x 250 draws, everything at its default, on targets whose evidence, mode weights and means are known.
Records go to ``calibration.jsonl`` one by one, so the run can stop and go on; ``--seeds 0`` measures nothing and makes the
table of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rdmc
import targets
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment
from targets.base import Target
from targets.mixture import GaussianMixture
from targets.student import StudentMixture

TARGETS: dict[str, Callable[[], Target]] = {
    "two_modes-8": partial(targets.two_modes, 8),
    "eight_gaussians": targets.eight_gaussians,
    "gmm40-unequal": partial(targets.gmm40, "unequal"),
    "random_mixture": targets.random_mixture,
    "student_mixture-5": partial(targets.student_mixture, 5),
    "banana": targets.banana,
    "double_wells-10-5": partial(targets.double_wells, 10, 5, 4.0, 0.3),
    "eight_schools": targets.eight_schools,
}
WHAT = {"evidence": "log evidence", "weights": "mode weights", "moments": "means"}
QUANTILE = 1.96
RARE = 0.02  # modes of less weight have an estimate that is far from normal at 1000 draws
EXACT = 200_000

Record = dict[str, Any]
Estimate = tuple[float, float, float]
"""An estimate, its standard error, the truth."""


def exact_mean(target: Target, seed: int = 0) -> Tensor:
    """``(d,)`` mean in closed form for mixtures, otherwise of ``EXACT`` draws."""
    if isinstance(target, GaussianMixture):
        return target.weights @ target.means
    if isinstance(target, StudentMixture):
        return target.weights @ target.locations
    return target.sample(EXACT, torch.Generator().manual_seed(70_000 + seed)).mean(0)


def evidence(target: Target, result: rdmc.Result) -> list[Estimate]:
    """The log evidence and the error that the result reports."""
    if result.log_evidence is None or result.log_evidence_mcse is None or target.log_z is None:
        return []
    return [(result.log_evidence, result.log_evidence_mcse, target.log_z)]


def weights(target: Target, result: rdmc.Result) -> list[Estimate]:
    """Weights of the target's own modes, with errors as those of ``result.modes``."""
    if target.mode_weights is None:
        return []
    samples = result.samples.cpu().double()
    chains, draws, dim = samples.shape
    label = target.mode_of(samples.reshape(-1, dim)).reshape(chains, draws)
    found = []
    for mode, truth in enumerate(target.mode_weights.tolist()):
        if truth > RARE:
            by_chain = (label == mode).double().mean(1)
            weight = float(by_chain.mean())
            multinomial = math.sqrt(weight * (1.0 - weight) / (chains * draws))
            found.append((weight, max(multinomial, float(by_chain.std()) / math.sqrt(chains)), truth))
    return found


def moments(result: rdmc.Result, truth: Tensor) -> list[Estimate]:
    """Mean of each coordinate, with the error of as many independent draws as the bulk ESS says."""
    x = result.samples.flatten(0, 1).cpu().double()
    error = x.std(0) / torch.as_tensor(result.convergence.ess_bulk).sqrt()
    return list(zip(x.mean(0).tolist(), error.tolist(), truth.tolist(), strict=True))


def run(name: str, target: Target, truth: Tensor, seed: int, draws: int, chains: int) -> Record:
    """One record: every estimate with its error and the truth, or why there is none."""
    record: Record = {
        "target": name,
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "versions": f"rdmc {rdmc.__version__}, {environment()}",
    }
    try:
        result = rdmc.sample(target, draws=draws, chains=chains, seed=seed, progressbar=False)
    except Exception as error:  # whatever the sampler raises is a finding
        return record | {"failed": f"{type(error).__name__}: {error}"[:160]}
    return record | {
        "evidence": finite(evidence(target, result)),
        "weights": finite(weights(target, result)),
        "moments": finite(moments(result, truth)),
        "warnings": result.check(),
    }


def finite(estimates: Sequence[Estimate]) -> list[list[float | None]]:
    """None for what JSON doesn't have."""
    return [[v if math.isfinite(v) else None for v in estimate] for estimate in estimates]


def covers(estimate: Sequence[float | None]) -> bool:
    """Whether the truth is within 1.96 standard errors; without an estimate or an error it is not."""
    value, error, truth = estimate
    return value is not None and error is not None and truth is not None and abs(value - truth) <= QUANTILE * error


def coverage(records: Sequence[Record], kind: str) -> str:
    """Share of intervals that hold the truth ± its standard error, and how many there are.

    What belongs to one seed is not independent, so the error is that of a ratio of sums over seeds, which for one interval
    a seed is the binomial one. Where no seed differs from another, it is the binomial error of one interval a seed at 95 %.
    """
    hits: dict[int, int] = {}
    counts: dict[int, int] = {}
    for record in records:
        for estimate in record[kind]:
            hits[record["seed"]] = hits.get(record["seed"], 0) + covers(estimate)
            counts[record["seed"]] = counts.get(record["seed"], 0) + 1
    total, seeds = sum(counts.values()), len(counts)
    if not total:
        return ""
    share = sum(hits.values()) / total
    squares = sum((hits[seed] - share * counts[seed]) ** 2 for seed in counts)
    error = math.sqrt(0.95 * 0.05 / seeds)
    if squares > 0.0 and seeds > 1:
        error = math.sqrt(squares * seeds / (seeds - 1)) / total
    return f"{100.0 * share:.1f} ± {100.0 * error:.1f} % of {total}"


def report(records: Sequence[Record]) -> str:
    """The table, in Markdown."""
    if not records:
        return "Nothing measured yet."
    dates = sorted({r["date"] for r in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    rows = ["| target | runs | " + " | ".join(WHAT.values()) + " | with warnings | failed |"]
    rows.append("|---" * (len(WHAT) + 4) + "|")
    names = list(dict.fromkeys(r["target"] for r in records))
    groups = [(name, [r for r in records if r["target"] == name]) for name in names]
    for name, own in (*groups, ("**all**", list(records))):
        good = [r for r in own if "failed" not in r]
        texts = [coverage(good, kind) for kind in WHAT]
        warned = sum(bool(r["warnings"]) for r in good)
        rows.append(f"| {name} | {len(own)} | " + " | ".join(texts) + f" | {warned} | {len(own) - len(good)} |")
    head = f"{len(records)} runs, {when}. {'; '.join(sorted({r['versions'] for r in records}))}."
    return head + "\n\n" + "\n".join(rows)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--targets", help="names, with commas; all by default")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    names, draws, chains = a.targets.split(",") if a.targets else list(TARGETS), 250, 4
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(TARGETS)}")
    if a.smoke:
        names, draws, chains, a.seeds = ["two_modes-8"], 40, 2, 1
    store = Store(None if a.smoke else a.out / "calibration.jsonl")
    bases = {name: TARGETS[name]() for name in names} if a.seeds else {}
    means = {name: exact_mean(base) for name, base in bases.items()}
    clock = time.perf_counter()
    for seed in range(a.seeds):
        for name in names:
            key = f"{name}/{seed}/{chains}x{draws}"
            if key in store.records:
                continue
            record = store.get(
                key, lambda name=name, seed=seed: run(name, bases[name], means[name], seed, draws, chains)
            )
            what = record.get("failed") or ", ".join(
                f"{title} {sum(map(covers, record[kind]))} of {len(record[kind])}" for kind, title in WHAT.items()
            )
            print(f"{time.perf_counter() - clock:.0f} s  {key}: {what}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "calibration", text)


if __name__ == "__main__":
    main()
