"""What a score network distilled from a run is worth: training time, mode weights, importance weights, evidence.

    python -m benchmarks.distill [--seeds N] [--targets a,b] [--losses a,b] [--readme] [--smoke] [--out DIR]

A run of the default sampler (4 populations x 1000 draws) is distilled by each loss at its default; 20,000 draws of the network are
compared with the true mode weights, and 4,000 are weighted against the target, from noise with a share of heavier tails and
without. Records go to ``distill.jsonl`` one by
one, so the run can stop and go on; ``--seeds 0`` measures nothing and makes the table of what is there.
"""

from __future__ import annotations

import argparse
import datetime
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
from benchmarks.store import Store, environment
from rdmc.diagnostics.quality import mode_weight_tv
from rdmc.network import DenoisingLoss, ImplicitLoss, Loss, ScoreRegression, TargetScoreLoss, Training
from targets.base import Target

TARGETS: dict[str, Callable[[], Target]] = {
    "gmm40": targets.gmm40,
    "banana": targets.banana,
    "funnel-4": partial(targets.funnel, 4),
    "student_mixture-5": partial(targets.student_mixture, 5),
    "two_modes-8": partial(targets.two_modes, 8),
}
LOSSES: dict[str, Callable[[Target], Loss]] = {
    "denoising": lambda target: DenoisingLoss(),
    "implicit": lambda target: ImplicitLoss(),
    "regression": ScoreRegression,
    "target score": TargetScoreLoss,
}
DRAWS, WEIGHTED = 20_000, 4_000

Record = dict[str, Any]


def tv(target: Target, x: torch.Tensor) -> float | None:
    """Total variation of the mode weights of ``(n, d)`` draws, None without known modes."""
    if target.mode_weights is None:
        return None
    return float(mode_weight_tv(target.mode_of(x), target.mode_weights))


def run(
    name: str, target: Target, result: rdmc.Result, kind: str, seed: int, training: Training, drawn: int, weighted: int
) -> Record:
    """One record."""
    clock = time.process_time()  # not the wall's: other programs may be running
    network = rdmc.distill(result, loss=LOSSES[kind](target), training=training, seed=seed, progressbar=False)
    training_seconds, clock = time.process_time() - clock, time.process_time()
    weights = network.weights(target, weighted, seed=seed + 1)
    seconds = time.process_time() - clock
    again = weights.resample(drawn, seed)
    plain = network.weights(target, weighted, seed=seed + 1, tails=None)
    log_z = target.log_z or 0.0
    return {
        "target": name,
        "loss": kind,
        "seed": seed,
        "dim": target.dim,
        "date": datetime.date.today().isoformat(),
        "versions": f"rdmc {rdmc.__version__}, {environment()}",
        "training": training_seconds,
        "weighing": seconds,
        "steps": int(network.history["step"][-1]),
        "gradients": network.gradient_evaluations / (result.chains * result.draws),
        "tv_run": tv(target, result.samples.flatten(0, 1)),
        "tv_network": tv(target, network.sample(drawn, seed=seed + 2)),
        "tv_weighted": tv(target, again),
        "ess": weights.ess / weighted,
        "k": weights.pareto_k,
        "folded": weights.folded,
        "evidence_run": None if result.log_evidence is None else result.log_evidence - log_z,
        "evidence": weights.log_evidence - log_z,
        "evidence_mcse": weights.log_evidence_mcse,
        "plain_ess": plain.ess / weighted,
        "plain_k": plain.pareto_k,
        "plain_evidence": plain.log_evidence - log_z,
        "plain_evidence_mcse": plain.log_evidence_mcse,
        "problems": weights.check(),
    }


def report(records: Sequence[Record]) -> str:
    """The table, in Markdown."""
    if not records:
        return "Nothing measured yet."

    def mean(own: Sequence[Record], key: str, digits: int) -> str:
        values = [r[key] for r in own if r[key] is not None]
        return f"{sum(values) / len(values):.{digits}f}" if values else ""

    def errors(own: Sequence[Record], key: str) -> str:
        return ", ".join(f"{r[key]:+.3f} ({abs(r[key]) / r[f'{key}_mcse']:.1f})" for r in own)

    head = (
        "| target | loss | runs | CPU seconds | gradients / draw | TV of modes: run | network | weighted | ESS / n | largest k | "
        "error of log evidence (in its errors) | warned | normal noise alone: ESS / n | error of log evidence |"
    )
    rows = [head, "|---" * 14 + "|"]
    for name in dict.fromkeys(r["target"] for r in records):
        for kind in dict.fromkeys(r["loss"] for r in records):
            own = [r for r in records if r["target"] == name and r["loss"] == kind]
            if not own:
                continue
            cells = [
                name,
                kind,
                str(len(own)),
                mean(own, "training", 0),
                mean(own, "gradients", 0),
                mean(own, "tv_run", 3),
                mean(own, "tv_network", 3),
                mean(own, "tv_weighted", 3),
                mean(own, "ess", 2),
                f"{max(r['k'] for r in own):.2f}",
                errors(own, "evidence"),
                str(sum(bool(r["problems"]) for r in own)),
                mean(own, "plain_ess", 2),
                errors(own, "plain_evidence"),
            ]
            rows.append(f"| {' | '.join(cells)} |")
    dates = sorted({r["date"] for r in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    text = f"{len(records)} runs, {when}. {'; '.join(sorted({r['versions'] for r in records}))}."
    sizes = [[r[key] / r[f"{key}_mcse"] for r in records] for key in ("evidence", "plain_evidence")]
    rms, plain = ((sum(z * z for z in own) / len(own)) ** 0.5 for own in sizes)
    beyond, plain_beyond = (sum(abs(z) > 2.0 for z in own) for own in sizes)
    text += (
        f" Errors of the evidence in units of their own: rms {rms:.2f}, beyond 2 in {beyond} runs; with normal noise alone "
        f"{plain:.2f} and {plain_beyond}."
    )
    return text + "\n\n" + "\n".join(rows)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--targets", help="names, with commas; all by default")
    parser.add_argument("--losses", help="names, with commas; all by default")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    names, draws, chains, training = a.targets.split(",") if a.targets else list(TARGETS), 1000, 4, Training()
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(TARGETS)}")
    kinds = a.losses.split(",") if a.losses else list(LOSSES)
    if unknown := [kind for kind in kinds if kind not in LOSSES]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(LOSSES)}")
    if a.smoke:
        names, draws, chains, training, a.seeds = ["banana"], 100, 2, Training(steps=40, every=20), 1
    drawn, weighted = (200, 100) if a.smoke else (DRAWS, WEIGHTED)
    store = Store(None if a.smoke else a.out / "distill.jsonl")
    clock = time.perf_counter()
    for seed in range(a.seeds):
        for name in names:
            keys = {kind: f"{name}/{kind}/{seed}/{chains}x{draws}" for kind in kinds}
            if all(key in store.records for key in keys.values()):
                continue
            target = TARGETS[name]()
            result = rdmc.sample(target, draws=draws, chains=chains, seed=seed, progressbar=False)
            for kind, key in keys.items():
                measure = partial(run, name, target, result, kind, seed, training, drawn, weighted)
                record = store.get(key, measure)
                print(
                    f"{time.perf_counter() - clock:.0f} s  {key}: ESS {record['ess']:.2f}, k {record['k']:.2f}, "
                    f"evidence {record['evidence']:+.3f}",
                    flush=True,
                )
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "distill", text)


if __name__ == "__main__":
    main()
