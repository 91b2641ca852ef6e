"""``RDMC()`` against the published algorithm: quality as a function of the evaluations spent per draw.

    python -m benchmarks.published [--smoke] [--seeds 10]

Quality is the total variation of the mode weights and the sliced 2-Wasserstein distance, each beside the same statistic of exact
draws of that number (the floor). An evaluation of the density alone counts as half a gradient evaluation. The published algorithm
runs in the user's coordinates over horizons and inner step sizes; its largest budget is spent at the setting that was best
at the middle one, which favours it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import rdmc
import targets
from benchmarks.store import Store, environment, mean_and_error, pm
from rdmc.diagnostics import iid_floor, mode_weight_tv, sliced_w2
from rdmc.inner import GuidedChains
from targets.base import Target

DRAWS = 400
TARGETS = {
    "eight Gaussians, unequal": lambda: targets.eight_gaussians(weights="unequal"),
    "GMM-40": lambda: targets.gmm40(),
    "four modes, shifted by (20, 20)": lambda: targets.four_modes(shift=(20.0, 20.0)),
    "two modes 2:1, d = 8": lambda: targets.two_modes(8),
}
OURS = {
    "1 round of 2 moves": GuidedChains(rounds=1, steps=2),
    "default": GuidedChains(),
    "6 rounds": GuidedChains(rounds=6),
}
BUDGETS = {"small": (25, 4, 16), "middle": (50, 8, 32), "large": (100, 8, 64)}  # levels, chains, steps
HORIZONS = (0.36, 1.0, 2.5)
STEP_SIZES = (0.01, 0.05)


def _published(horizon: float, step_size: float, budget: str) -> rdmc.RDMC:
    levels, chains, steps = BUDGETS[budget]
    return rdmc.RDMC.published(horizon=horizon, levels=levels, chains=chains, steps=steps, step_size=step_size)


def measure(target: Target, sampler: rdmc.RDMC, seed: int, draws: int) -> dict[str, Any]:
    """One run's cost and quality; a run that diverges is recorded as such, at the worst total variation."""
    try:
        result = rdmc.sample(target, draws=draws, chains=1, sampler=sampler, seed=seed, progressbar=False)
    except RuntimeError as error:
        return {"failed": f"{type(error).__name__}: {error}"[:200], "tv": 1.0, "w2": float("nan"), "cost": float("nan")}
    x = result.samples.flatten(0, 1)
    finite = x[torch.isfinite(x).all(-1)]
    generator = torch.Generator().manual_seed(1000 + seed)
    reference = target.sample(4000, generator)
    labels = torch.full((len(x),), -1)
    labels[torch.isfinite(x).all(-1)] = target.mode_of(finite)
    return {
        "tv": float(mode_weight_tv(labels, target.mode_weights)),
        "w2": float(sliced_w2(x, reference, 128, generator)) if len(finite) == len(x) else float("nan"),
        "cost": (result.gradient_evaluations + 0.5 * result.density_evaluations) / draws,
        "seconds": result.seconds,
    }


def floors(target: Target, draws: int) -> dict[str, Any]:
    """The same statistics of exact draws."""
    generator = torch.Generator().manual_seed(77)
    w2 = iid_floor(target.sample, draws, lambda x, y: sliced_w2(x, y, 128, generator), 40, generator, m=4000)
    tv = [
        float(mode_weight_tv(target.mode_of(target.sample(draws, generator)), target.mode_weights)) for _ in range(200)
    ]
    return {"tv": sum(tv) / len(tv), "w2": float(w2.mean())}


def run(store: Store, seeds: int, draws: int, budgets: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """Measure what is missing; the rows of the table."""
    rows = ["| target | sampler | evaluations per draw | mode-weight TV | sliced W2 |", "|---|---|---|---|---|"]
    for name in names:
        target = TARGETS[name]()
        floor = store.get(f"{name}/floor/{draws}", lambda target=target: floors(target, draws))
        rows.append(f"| {name} | *exact draws* | | *{floor['tv']:.3f}* | *{floor['w2']:.3f}* |")
        for label, inner in OURS.items():
            records = _seeds(store, name, f"RDMC() {label}", target, rdmc.RDMC(inner=inner), seeds, draws)
            rows.append(_row(f"`RDMC()`, {label}", records))
        settings = [(horizon, step) for horizon in HORIZONS for step in STEP_SIZES]
        for budget in budgets:
            found = {}
            for horizon, step in settings:
                key = f"published {budget} T={horizon} h={step}"
                found[horizon, step] = _seeds(store, name, key, target, _published(horizon, step, budget), seeds, draws)
            best = min(found, key=lambda at: mean_and_error([record["tv"] for record in found[at]])[0])
            label = f"published, {budget} budget, best of {len(settings)}: T = {best[0]}, h = {best[1]}"
            rows.append(_row(label, found[best]))
            if budget == "middle":
                settings = [best]
    return rows


def _seeds(
    store: Store, name: str, key: str, target: Target, sampler: Any, seeds: int, draws: int
) -> list[dict[str, Any]]:
    return [
        store.get(f"{name}/{key}/{draws}/{seed}", lambda seed=seed: measure(target, sampler, seed, draws))
        for seed in range(seeds)
    ]


def _row(label: str, records: list[dict[str, Any]]) -> str:
    usable = [record for record in records if "failed" not in record]
    cost = f"{sum(r['cost'] for r in usable) / len(usable):,.0f}" if usable else "failed"
    w2 = pm([r["w2"] for r in usable]) if usable else ""
    return f"| | {label} | {cost} | {pm([r['tv'] for r in records])} | {w2} |"


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.smoke:
        rows = run(Store(None), seeds=1, draws=20, budgets=("small",), names=("two modes 2:1, d = 8",))
    else:
        rows = run(
            Store(Path("benchmarks/results/published.jsonl")), arguments.seeds, DRAWS, tuple(BUDGETS), tuple(TARGETS)
        )
        print(f"{arguments.seeds} seeds, {DRAWS} draws a run, mean ± standard error. {environment()}\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
