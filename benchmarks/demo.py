"""The main job: the posterior of a mixture of galaxy velocities, by the default sampler, RDMC, and ULA and HMC at its budget.

    python -m benchmarks.demo [--components 3] [--draws 1000] [--out demo]

With K exchangeable components the posterior has K! copies of itself, one per labelling, each of weight exactly 1/K!; a sampler that
mixes gives every labelling its share. Writes ``galaxies.nc`` (the default sampler's draws, for ArviZ), ``galaxies.png`` and
``galaxies.html`` (its report) into the folder.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

import rdmc
import targets
from rdmc.baselines import LongChains
from rdmc.diagnostics import mode_weight_tv
from rdmc.export import write_netcdf
from rdmc.journal import Journal
from rdmc.kernels import HMC, ULA
from rdmc.plot import figure
from rdmc.sampler import located
from targets.base import Target


def symmetry(result: rdmc.Result, target: Target) -> float:
    """Total variation between the labellings' frequencies and 1/K!."""
    return float(mode_weight_tv(target.mode_of(result.samples.flatten(0, 1)), target.mode_weights))


def exact_symmetry(target: Target, draws: int) -> float:
    """What that number would be for exact draws, on average over 200 multinomial samples."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(target.mode_weights, 200 * draws, replacement=True, generator=generator).view(200, draws)
    return sum(float(mode_weight_tv(row, target.mode_weights)) for row in labels) / 200


def main() -> None:
    """Sample, print the table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--components", type=int, default=3)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    a = parser.parse_args()
    torch.set_num_threads(1)  # the tensors are small: a second thread would wait more than work
    a.out.mkdir(parents=True, exist_ok=True)
    target = targets.galaxies(a.components)
    names = target.parameter_names

    def run(sampler: object) -> rdmc.Result:
        return rdmc.sample(target, draws=a.draws, chains=a.chains, sampler=sampler, seed=a.seed, names=names)

    ours = run("auto")
    # the same total, of which the baselines' pilot takes the same part
    counted = rdmc.Density(target.log_density, target.dim, target.value_and_grad)
    located(LongChains().pilot, counted, a.seed, Journal(counted.counter))
    budget = ours.evaluations_per_draw - counted.counter.gradients / (a.draws * a.chains)
    results = {
        "auto": ours,
        "RDMC": run("rdmc"),
        "ULA": run(LongChains(ULA(step_size=0.02), budget=budget)),
        "HMC": run(LongChains(HMC(), budget=budget)),
    }

    total = a.draws * a.chains
    print(
        f"\nGalaxy velocities, {a.components} components, d = {target.dim}: "
        f"{math.factorial(a.components)} labellings of equal weight"
    )
    print(f"{a.chains} chains x {a.draws} draws, seed {a.seed}\n")
    print(
        "| sampler | gradients per draw | seconds | R-hat (max) | ESS bulk (min) | labelling TV (exact draws: "
        f"{exact_symmetry(target, total):.3f}) |"
    )
    print("|---|---|---|---|---|---|")
    for name, result in results.items():
        found = result.convergence
        print(
            f"| {name} | {result.evaluations_per_draw:.0f} | {result.seconds:.1f} | {found.worst_rhat:.2f} | "
            f"{found.worst_ess:,.0f} | {symmetry(result, target):.3f} |"
        )
    for name, result in results.items():
        print(f"\n{name}: " + ("; ".join(result.check()) or "no problem found"))
    figure(
        results,
        a.out / "galaxies.png",
        truth=target,
        view=(0, 1),
        axis_names=("mean of component 1", "mean of component 2"),
    )
    write_netcdf(ours, a.out / "galaxies.nc")
    rdmc.report(ours, a.out / "galaxies.html")
    print(f"\n{ours.summary()}\n\nwrote galaxies.nc, galaxies.png and galaxies.html into {a.out}")


if __name__ == "__main__":
    main()
