"""The default sampler on every kind of target, plain and disguised: cost, distance to the truth, honesty.

    python -m benchmarks.auto [--seeds N] [--targets a,b] [--readme] [--smoke] [--out DIR]

4 populations x 250 draws, everything at its default. Each target runs as it is and under 3 random affine maps, which differ
from seed to seed. Records go to ``auto.jsonl`` one by one, so the run can stop and go on; a run that raises is a record too.
``--seeds 0`` measures nothing and makes the tables of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import rdmc
import targets
from benchmarks.measures import measure
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment, pm
from targets.base import Target

TARGETS: dict[str, Callable[[], Target]] = {
    "two_modes-8": partial(targets.two_modes, 8),
    "two_modes-32": partial(targets.two_modes, 32),
    "two_modes-64": partial(targets.two_modes, 64),
    "two_modes-128": partial(targets.two_modes, 128),
    "entropic_pair-2": partial(targets.entropic_pair, 2),
    "entropic_pair-5": partial(targets.entropic_pair, 5),
    "entropic_pair-20": partial(targets.entropic_pair, 20),
    "eight_gaussians": targets.eight_gaussians,
    "gmm40": targets.gmm40,
    "gmm40-unequal": partial(targets.gmm40, "unequal"),
    "random_mixture": targets.random_mixture,
    "four_modes-shifted": partial(targets.four_modes, (10.0, -5.0)),
    "rings": targets.rings,
    "banana": targets.banana,
    "mueller_brown": targets.mueller_brown,
    "double_wells-10-5": partial(targets.double_wells, 10, 5, 4.0, 0.3),
    "double_wells-10-10": partial(targets.double_wells, 10, 10, 4.0, 0.3),
    "many_well-32": partial(targets.many_well, 32),
    "student_mixture-5": partial(targets.student_mixture, 5),
    "student_mixture-10": partial(targets.student_mixture, 10),
    "phi4-100": partial(targets.phi4, 100, 0.0),
    "phi4-100-.0025": partial(targets.phi4, 100, 0.0025),
    "phi4-100-.005": partial(targets.phi4, 100, 0.005),
    "funnel": targets.funnel,
    "gaussian-10": partial(targets.gaussian, 10, 100.0),
    "gaussian-100-1e8": partial(targets.gaussian, 100, 1e8),
    "label_switching": targets.label_switching,
    "galaxies-3": partial(targets.galaxies, 3),
    "galaxies-4": partial(targets.galaxies, 4),
    "galaxies-5": partial(targets.galaxies, 5),
    "galaxies-6": partial(targets.galaxies, 6),
    "eight_schools": targets.eight_schools,
    "eight_schools-centred": partial(targets.eight_schools, True),
    "logistic_regression": targets.logistic_regression,
}
DISGUISES = (1, 2, 3)
TRIAL = ("stage", "reference", "forward", "reverse", "jump", "log_evidence")
DIGITS = 5
WRONG_TV, WRONG_EVIDENCE, WRONG_KS = 3.0, 0.5, 3.0

Record = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run: a target's name, which of its disguises or None, a seed."""

    target: str
    disguise: int | None
    seed: int

    def key(self, draws: int, chains: int) -> str:
        """Of the record."""
        how = "plain" if self.disguise is None else f"disguise {self.disguise}"
        return f"{self.target}/{how}/{self.seed}/{chains}x{draws}"


def cells(names: Sequence[str], seeds: int, disguises: Sequence[int]) -> Iterator[Cell]:
    """In the order of the run: every target for the first seed, then for the next, so that it can stop at any time."""
    for seed in range(seeds):
        for name in names:
            for disguise in (None, *disguises):
                yield Cell(name, disguise, seed)


def run(base: Target, cell: Cell, draws: int, chains: int) -> Record:
    """One record: what was measured, or why nothing was."""
    target = base if cell.disguise is None else targets.disguise(base, cell.disguise + 10 * cell.seed)
    record: Record = {
        "target": cell.target,
        "disguise": cell.disguise,
        "seed": cell.seed,
        "date": datetime.date.today().isoformat(),
        "versions": f"rdmc {rdmc.__version__}, {environment()}",
    }
    try:
        result = rdmc.sample(target, draws=draws, chains=chains, seed=cell.seed, progressbar=False)
    except Exception as error:  # whatever the sampler raises is a finding
        return record | {"failed": f"{type(error).__name__}: {error}"[:160]}
    n = result.chains * result.draws
    measured = measure(target, result) | {
        "gradients": result.gradient_evaluations / n,
        "densities": result.density_evaluations / n,
    }
    trials = [{name: plain(row[name]) for name in TRIAL} for row in result.stages]
    return record | {name: plain(value) for name, value in measured.items()} | {"trials": trials}


def plain(value: Any) -> Any:
    """Floats rounded, and None for those that JSON doesn't have."""
    if not isinstance(value, float):
        return value
    return round(value, DIGITS) if math.isfinite(value) else None


def known(records: Sequence[Record], name: str) -> list[float]:
    """The values of the runs that have one."""
    return [r[name] for r in records if r.get(name) is not None]


def wrong(record: Record) -> bool:
    """Whether weights, evidence or, where neither is known, the distance to exact draws is far off."""
    tv, error, ks = record["tv"], record["evidence_error"], record["ks_ratio"]
    if tv is not None and tv > WRONG_TV * record["tv_iid"]:
        return True
    if error is not None:
        return abs(error) > WRONG_EVIDENCE
    return tv is None and ks is not None and ks > WRONG_KS


def judgeable(record: Record) -> bool:
    """Whether any of what :func:`wrong` looks at is known."""
    return any(record[name] is not None for name in ("tv", "evidence_error", "ks_ratio"))


def outside(record: Record) -> bool:
    """Whether the evidence is off by more than .1 and by more than 3 reported standard errors."""
    return abs(record["evidence_error"]) > max(0.1, 3.0 * (record["evidence_mcse"] or 0.0))


def line(name: str, how: str, records: Sequence[Record]) -> str:
    """A row of the table: the runs of a target, plain or disguised."""
    good = [r for r in records if "failed" not in r]
    failed = sorted(r["failed"].split(":")[0] for r in records if "failed" in r)
    failures = ", ".join(f"{failed.count(kind)} {kind}" for kind in dict.fromkeys(failed)) or "0"
    if not good:
        return f"| {name} | {how} | {len(records)} |" + " |" * 10 + f" {failures} |"

    def mean(key: str, form: str) -> str:
        values = known(good, key)
        return f"{statistics.fmean(values):{form}}" if values else ""

    ks = known(good, "ks_ratio")
    tv = f"{mean('tv', '.3f')} / {mean('tv_iid', '.3f')}" if known(good, "tv") else ""
    with_evidence = [r for r in good if r["evidence_error"] is not None]
    evidence, share = "", ""
    if with_evidence:
        rms = math.sqrt(statistics.fmean(r["evidence_error"] ** 2 for r in with_evidence))
        evidence = f"{rms:.3f} ({mean('evidence_mcse', '.3f')})"
        share = f"{sum(map(outside, with_evidence))} / {len(with_evidence)}"
    texts = [
        mean("gradients", ".0f"),
        mean("densities", ".0f"),
        mean("seconds", ".1f"),
        "" if not ks else pm(ks, 2) if len(ks) > 1 else f"{ks[0]:.2f}",
        f"{max(ks):.2f}" if ks else "",
        tv,
        f"{max(known(good, 'tv')):.3f}" if tv else "",
        evidence,
        share,
        str(sum(bool(r["warnings"]) for r in good)),
        failures,
    ]
    return f"| {name} | {how} | {len(records)} | " + " | ".join(texts) + " |"


def table(records: Sequence[Record]) -> str:
    """Two rows a target, plain and all disguises together."""
    head = (
        *("target", "as", "runs", "gradients per draw", "densities per draw", "seconds", "KS / exact draws", "largest"),
        *("TV / exact draws", "largest", "log evidence, rms error (reported se)", "outside max(.1, 3 se)"),
        *("with warnings", "failed"),
    )
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in dict.fromkeys(r["target"] for r in records):
        own = [r for r in records if r["target"] == name]
        for how, some in (
            ("plain", [r for r in own if r["disguise"] is None]),
            ("disguised", [r for r in own if r["disguise"] is not None]),
        ):
            if some:
                rows.append(line(name, how, some))
    return "\n".join(rows)


def honesty(records: Sequence[Record]) -> str:
    """Wrong or right against warned or silent, and which were wrong and silent."""
    seen = [r for r in records if "failed" not in r and judgeable(r)]
    rows = ["| | warned | silent |", "|---|---|---|"]
    for label, verdict in (("wrong", True), ("right", False)):
        own = [r for r in seen if wrong(r) == verdict]
        warned = sum(bool(r["warnings"]) for r in own)
        rows.append(f"| {label} | {warned} | {len(own) - warned} |")
    mute = [r["target"] for r in seen if wrong(r) and not r["warnings"]]
    where = ", ".join(f"{name} ({mute.count(name)})" for name in dict.fromkeys(mute)) or "none"
    return "\n".join(rows) + f"\n\nWrong and silent: {where}."


def report(records: Sequence[Record]) -> str:
    """Everything, in Markdown."""
    if not records:
        return "Nothing measured yet."
    good = [r for r in records if "failed" not in r]
    dates = sorted({r["date"] for r in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    parts = [f"{len(records)} runs, {when}. {'; '.join(sorted({r['versions'] for r in records}))}.", table(records)]
    if good:
        gradients = [r["gradients"] for r in good]
        parts.append(
            f"Gradient evaluations per draw: median {statistics.median(gradients):.0f}, at most {max(gradients):.0f}."
        )
        parts.append(
            f"A run counts as wrong if its TV is above {WRONG_TV:g} times that of exact draws, or its log evidence off by more "
            f"than {WRONG_EVIDENCE:g}, or, where neither is known, its KS distance above {WRONG_KS:g} times that of exact draws; "
            f"as warned if `check()` says anything. {len(records) - len(good)} runs failed and are not counted."
        )
        parts.append(honesty(records))
    return "\n\n".join(parts)


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--targets", help="names, with commas; all by default")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    names, disguises, draws, chains = a.targets.split(",") if a.targets else list(TARGETS), DISGUISES, 250, 4
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(TARGETS)}")
    if a.smoke:
        names, disguises, draws, chains, a.seeds = ["two_modes-8"], (1,), 40, 2, 1
    store = Store(None if a.smoke else a.out / "auto.jsonl")
    bases = {name: TARGETS[name]() for name in names}  # one object a target: its exact draws are kept by object
    todo = [cell for cell in cells(names, a.seeds, disguises) if cell.key(draws, chains) not in store.records]
    clock = time.perf_counter()
    for number, cell in enumerate(todo, 1):
        key = cell.key(draws, chains)
        record = store.get(key, lambda cell=cell: run(bases[cell.target], cell, draws, chains))
        shown = "KS {ks_ratio}, TV {tv} ({tv_iid}), evidence {evidence_error}, {gradients} gradients, {seconds} s"
        what = record.get("failed") or shown.format_map(record)
        print(f"{number}/{len(todo)} {time.perf_counter() - clock:.0f} s  {key}: {what}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "auto", text)


if __name__ == "__main__":
    main()
