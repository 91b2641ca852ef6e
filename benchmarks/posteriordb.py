"""The default sampler on the posteriors of posteriordb, beside the reference draws that come with them.

    python -m benchmarks.posteriordb --database DIR [--seeds N] [--only a,b] [--readme] [--out DIR]

``--database`` is the folder ``posterior_database`` of a clone of https://github.com/stan-dev/posteriordb. Models are Stan's own:
BridgeStan compiles each when it is first asked for, next to its source, or takes ``NAME_model.so`` if it is there. The
reference is 10,000 nearly independent draws of Stan's NUTS. 4 populations x 250 draws, everything at its default, by way of
``rdmc.interop.stan``. Records go to ``posteriordb.jsonl`` one by one, so the run can stop and go on; ``--seeds 0`` makes the table
of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import statistics
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp, kstwobign

import rdmc
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment, mean_and_error
from rdmc.interop import stan

DRAWS = 250
WORST = 12
KOLMOGOROV = float(kstwobign.mean())  # of the distance of two large samples of one law, over sqrt(1/n + 1/m)

Record = dict[str, Any]
Reference = Mapping[str, NDArray[np.float64]]


def unzipped(path: Path) -> str:
    """The text of the one file in an archive."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0]).decode()


def library(database: Path, name: str) -> Path:
    """The compiled model, or its source where there is none."""
    built = database / "models" / "stan" / f"{name}_model.so"
    return built if built.exists() else built.with_name(f"{name}.stan")


def compiled(database: Path, posterior: Mapping[str, Any]) -> Any:
    """Its ``StanModel`` with data."""
    import bridgestan

    data = unzipped(database / "data" / "data" / f"{posterior['data_name']}.json.zip")
    return bridgestan.StanModel(library(database, posterior["model_name"]), data)


def reference_draws(database: Path, name: str) -> Reference:
    """The reference draws of each scalar, chains joined."""
    path = database / "reference_posteriors" / "draws" / "draws" / f"{name}.json.zip"
    chains = json.loads(unzipped(path))
    return {key: np.concatenate([np.asarray(chain[key], dtype=np.float64) for chain in chains]) for key in chains[0]}


def posteriors(database: Path) -> dict[str, dict[str, Any]]:
    """Those that have reference draws, the name of these beside."""
    found = {}
    for path in sorted((database / "posteriors").glob("*.json")):
        about = json.loads(path.read_text())
        reference = about.get("reference_posterior_name")
        if reference and (database / "reference_posteriors" / "draws" / "draws" / f"{reference}.json.zip").exists():
            found[path.stem] = about
    return found


def scalars(variables: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """``(M,)`` of each element, under Stan's names: ``beta[1,2]``, counted from one."""
    return {
        name + (f"[{','.join(str(i + 1) for i in index)}]" if index else ""): array[(slice(None), *index)]
        for name, array in variables.items()
        for index in np.ndindex(*array.shape[1:])
    }


def compare(own: Mapping[str, NDArray[np.float64]], reference: Reference) -> Record:
    """Distances over the scalars that both have: to the law, and of the means in standard errors of independent draws."""
    names = [name for name in own if name in reference]
    if not names:
        raise ValueError(
            f"`reference` must share names with the model, which has {sorted(own)}, got {sorted(reference)}"
        )
    ratio, z, spread = [], [], []
    for name in names:
        a, b = own[name], reference[name]
        floor = KOLMOGOROV * math.sqrt(1.0 / len(a) + 1.0 / len(b))
        ratio.append(ks_2samp(a, b).statistic / floor)
        z.append((a.mean() - b.mean()) / math.sqrt(a.var() / len(a) + b.var() / len(b)))
        spread.append(a.std() / b.std())
    return {
        "scalars": len(names),
        "ks_ratio": statistics.fmean(ratio),
        "ks_worst": max(ratio),
        "worst": names[int(np.argmax(ratio))],
        "z_rms": math.sqrt(statistics.fmean(v * v for v in z)),
        "z_worst": float(max(map(abs, z))),
        "sd_ratio": statistics.fmean(spread),
    }


def run(model: Any, reference: Reference, seed: int, draws: int = DRAWS) -> Record:
    """One posterior, one run, one record."""
    adapted = stan.density(model)
    result = rdmc.sample(adapted, draws=draws, seed=seed, progressbar=False)
    own = scalars(adapted.constrain(result.samples.reshape(-1, result.dim)))
    n = result.chains * result.draws
    found = compare(own, reference) | {
        "dim": result.dim,
        "modes": len(result.modes),
        "log_evidence": result.log_evidence,
        "log_evidence_mcse": result.log_evidence_mcse,
        "gradients": result.gradient_evaluations / n,
        "densities": result.density_evaluations / n,
        "seconds": result.seconds,
        "warnings": result.check(),
    }
    head = {"date": datetime.date.today().isoformat(), "versions": f"rdmc {rdmc.__version__}, {environment()}"}
    return head | {name: round(value, 5) if isinstance(value, float) else value for name, value in found.items()}


def line(name: str, records: Sequence[Record]) -> str:
    """A row of the table: one posterior, or all."""

    def mean(key: str, digits: int) -> str:
        return f"{statistics.fmean(r[key] for r in records):.{digits}f}"

    dims = sorted({r["dim"] for r in records})
    cells = (
        name,
        dims[0] if len(dims) == 1 else f"{dims[0]} to {dims[-1]}",
        len(records),
        mean("ks_ratio", 2),
        f"{max(r['ks_worst'] for r in records):.1f}",
        f"{math.sqrt(statistics.fmean(r['z_rms'] ** 2 for r in records)):.2f}",
        f"{max(r['z_worst'] for r in records):.1f}",
        mean("sd_ratio", 3),
        f"{statistics.median(r['gradients'] for r in records):.0f}",
        f"{statistics.median(r['densities'] for r in records):.0f}",
        sum(bool(r["warnings"]) for r in records),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def report(records: Sequence[Record]) -> str:
    """The table, in Markdown: the posteriors on which the distance is largest, and all together."""
    if not records:
        return "Nothing measured yet."
    by: dict[str, list[Record]] = {}
    for record in records:
        by.setdefault(record["key"].rsplit("/", 1)[0], []).append(record)
    worst = sorted(by, key=lambda name: -statistics.fmean(r["ks_ratio"] for r in by[name]))[:WORST]
    rows = [
        "| posterior | d | runs | KS, exact draws = 1 | largest of a scalar | error of means in se of exact draws: rms | largest "
        "| sd over the reference's | gradients a draw | densities a draw | warned |",
        "|---" * 11 + "|",
        *(line(name, by[name]) for name in worst),
        line(f"all {len(by)}", records),
    ]
    bound, error = mean_and_error([r["ks_ratio"] for r in records])
    below = sum(r["ks_ratio"] <= 1.3 for r in records)
    words = (
        f"{len(by)} posteriors, {len(records)} runs; those with the largest distance, and all. Mean distance {bound:.3f} ± "
        f"{error:.3f}; at most 1.3 in {below} runs. {max(r['date'] for r in records)}, "
        f"{'; '.join(sorted({r['versions'] for r in records}))}."
    )
    return words + "\n\n" + "\n".join(rows)


def main(load: Callable[[Path, Mapping[str, Any]], Any] = compiled) -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", type=Path, help="folder `posterior_database` of a clone of posteriordb")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each posterior")
    parser.add_argument("--only", default="", help="names of posteriors, separated by commas; all by default")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    if a.seeds and a.database is None:
        parser.error("--database must name a folder where --seeds is not 0")
    torch.set_num_threads(1)
    store = Store(a.out / "posteriordb.jsonl")
    known = posteriors(a.database) if a.seeds else {}
    wanted = [name for name in a.only.split(",") if name]
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"--only must name posteriors that have reference draws, got {unknown}")
    clock = time.perf_counter()
    for repeat in range(a.seeds):
        for place, name in enumerate(known):
            key = f"{name}/{repeat}"
            if key in store.records or (wanted and name not in wanted):
                continue
            about = known[name]
            model = load(a.database, about)
            draws = reference_draws(a.database, about["reference_posterior_name"])
            record = store.get(key, lambda m=model, d=draws, s=1000 * repeat + place: run(m, d, s))
            shown = {part: record[part] for part in ("dim", "ks_ratio", "z_worst", "gradients", "warnings")}
            print(f"{time.perf_counter() - clock:.0f} s  {key}: {shown}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme:
        insert(README, "posteriordb", text)


if __name__ == "__main__":
    main()
