"""Time for the same transitions on the same densities: our kernels against BlackJAX's, the published loop against a plain one.

    python -m benchmarks.speed_peers [--targets a,b] [--repeats N] [--readme] [--smoke] [--out DIR]

One core: this process keeps to one, with one thread in torch and in XLA. MALA and HMC of fixed step size run many chains at once in
float64, BlackJAX's under ``vmap`` and ``lax.scan``, compiled and warm. Each repeat times every side in turn; medians are shown, of
processor seconds, on which other work on the machine has little influence. JAX
differentiates its log density itself; ours is used as it is (*eager*), in closed form and in blocks that fit a processor's cache
(*blocks*), and that compiled (*compiled*). Records go to ``speed_peers.jsonl`` one by one, so the run can stop and go on.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rdmc
import targets
from benchmarks.blackjax_side import blackjax_side
from benchmarks.plain_rdmc import plain_rdmc
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment
from rdmc.compiling import compiled
from rdmc.density import Density, as_density
from rdmc.kernels import HMC, MALA
from rdmc.kernels.metric import Isotropic
from rdmc.memory import rows_within
from rdmc.rng import Streams
from targets.base import Target
from targets.mixture import gaussian_mixture

CACHE = 16 << 20  # bytes that one block of points may take
LEAPFROGS = 5
SEED = 0

Record = dict[str, Any]
Side = Callable[[], float]
"""Runs the transitions once and gives the mean acceptance of the last."""


@dataclass(frozen=True)
class Case:
    """A target and the step sizes at which about two thirds of the proposals are accepted.

    Attributes:
        target: Makes it.
        mala: Step size h of MALA.
        hmc: Step size e of HMC.
    """

    target: Callable[[], Target]
    mala: float
    hmc: float


def mixture_50() -> Target:
    """Ten Gaussians in 50 dimensions, each with a full covariance of its own."""
    g = torch.Generator().manual_seed(7)
    means = 4.0 * torch.randn(10, 50, generator=g, dtype=torch.float64)
    factors = torch.eye(50, dtype=torch.float64) + 0.05 * torch.randn(10, 50, 50, generator=g, dtype=torch.float64)
    return gaussian_mixture(means, factors, torch.arange(1.0, 11.0), name="mixture-50")


CASES = {
    "gmm40": Case(targets.gmm40, 0.8, 0.9),
    "logistic_regression": Case(targets.logistic_regression, 0.003, 0.05),
    "mixture-50": Case(mixture_50, 0.15, 0.35),
}


def points(target: Target, chains: int) -> Tensor:
    """``(chains, d)`` starting points: exact draws, or for the regression a cloud around its mode."""
    g = torch.Generator().manual_seed(SEED)
    if target.can_sample:
        return target.sample(chains, g)
    mode = torch.zeros(1, target.dim, dtype=target.dtype)
    for _ in range(2000):
        mode = mode + 1e-3 * target.value_and_grad(mode)[1]
    return mode + 0.1 * torch.randn(chains, target.dim, generator=g, dtype=target.dtype)


def own_side(density: Density, kernel: str, step_size: float, x: Tensor, steps: int) -> Side:
    """Our kernel on all chains at once."""
    transition = MALA(step_size) if kernel == "mala" else HMC(step_size, leapfrogs=LEAPFROGS, jitter=0.0)
    metric, tuning = Isotropic(1.0), torch.full((len(x),), math.log(step_size), dtype=x.dtype)
    begin = transition.init(density, x)

    def run() -> float:
        rng, state = Streams.seeded(SEED, [len(x)]), begin
        for _ in range(steps):
            state, info = transition.step(density, state, rng, tuning, metric)
        return float(info.acceptance.mean())

    return run


def forms(target: Target) -> dict[str, Density]:
    """What our kernels and samplers run on."""
    closed = as_density(target)
    blocks = replace(closed, rows=rows_within(closed, CACHE, points(target, 3)))
    return {"eager": Density(target.log_density, target.dim), "blocks": blocks, "compiled": compiled(blocks)}


def timed(sides: dict[str, Side], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each side, one repeat of all after the other, and what each gave."""
    gave = {name: side() for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            clock = time.process_time()
            side()
            seconds[name].append(time.process_time() - clock)
    return {name: round(statistics.median(values), 5) for name, values in seconds.items()}, gave


def kernel_record(case: Case, kernel: str, chains: int, steps: int, repeats: int) -> Record:
    """One comparison with BlackJAX."""
    target, step_size = case.target(), case.mala if kernel == "mala" else case.hmc
    x = points(target, chains)
    sides = {"BlackJAX": blackjax_side(target, kernel, step_size, LEAPFROGS, x, steps)}
    for name, density in forms(target).items():
        sides[name] = own_side(density, kernel, step_size, x, steps)
    seconds, acceptance = timed(sides, repeats)
    rounded = {name: round(value, 3) for name, value in acceptance.items()}
    return {"steps": steps, "gradients": chains * steps * (1 if kernel == "mala" else LEAPFROGS)} | {
        "seconds": seconds,
        "acceptance": rounded,
    }


def loop_record(case: Case, particles: int, levels: int, start_steps: int, repeats: int) -> Record:
    """One comparison with the plain loop."""
    target = case.target()
    sampler = rdmc.RDMC.published(levels=levels, start_steps=start_steps)
    cost: dict[str, int] = {}

    def own(name: str, density: Density, memory: int) -> Side:
        def run() -> float:
            result = rdmc.sample(
                density, draws=particles, chains=1, sampler=sampler, seed=SEED, progressbar=False, memory=memory
            )
            cost[name] = result.gradient_evaluations
            return float(result.samples.mean())

        return run

    def plain() -> float:
        return float(
            plain_rdmc(target.log_density, target.dim, particles, levels=levels, start_steps=start_steps).mean()
        )

    sides = {"plain loop": plain} | {
        name: own(name, density, 2 << 30 if name == "eager" else CACHE) for name, density in forms(target).items()
    }
    seconds, means = timed(sides, repeats)
    return {"levels": levels, "start_steps": start_steps, "gradients": cost["blocks"], "seconds": seconds} | {
        "means": {name: round(value, 3) for name, value in means.items()}
    }


def table(records: Sequence[Record]) -> str:
    """A row a comparison: the peer's time, and how many times as fast ours is."""
    rows = [
        "| target | work | chains | gradients | peer | peer, µs a gradient | eager | in blocks | compiled |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in records:
        s = r["seconds"]
        peer = "BlackJAX" if "BlackJAX" in s else "plain loop"
        ratios = " | ".join(f"{s[peer] / s[name]:.2f}" for name in ("eager", "blocks", "compiled"))
        each = 1e6 * s[peer] / r["gradients"]
        rows.append(
            f"| {r['target']} | {r['work']} | {r['chains']:,} | {r['gradients']:,} | {peer} | {each:.2f} | {ratios} |"
        )
    return "\n".join(rows)


def report(records: Sequence[Record]) -> str:
    """Everything, in Markdown."""
    if not records:
        return "Nothing measured yet."
    when = ", ".join(sorted({r["date"] for r in records}))
    which = "; ".join(sorted({r["versions"] for r in records}))
    return f"{when}. {which}. The last three columns are the peer's seconds over ours.\n\n{table(records)}"


def one_core() -> None:
    """Keep this process, torch and XLA to one core. JAX must not have been imported yet."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)


def versions() -> str:
    """The machine and everything whose speed is measured."""
    import blackjax
    import jax

    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in text.splitlines() if "model name" in line), "")
    return f"{platform.machine()} {model}, {environment()}, jax {jax.__version__}, blackjax {blackjax.__version__}"


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", help="names, with commas; all by default")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    one_core()
    import jax

    jax.config.update("jax_enable_x64", True)
    names, repeats, sizes = a.targets.split(",") if a.targets else list(CASES), a.repeats, {1000: 20, 16000: 3}
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(CASES)}")
    loop = {"particles": 256, "levels": 3, "start_steps": 1}
    if a.smoke:
        names, repeats, sizes, loop = ["gmm40"], 1, {50: 2}, {"particles": 16, "levels": 2, "start_steps": 1}
    store = Store(None if a.smoke else a.out / "speed_peers.jsonl")
    jobs: list[tuple[str, str, int, Callable[[], Record]]] = []
    for name in names:
        case = CASES[name]
        for kernel in ("mala", "hmc"):
            for chains, steps in sizes.items():
                jobs.append((name, kernel, chains, lambda v=(case, kernel, chains, steps): kernel_record(*v, repeats)))
        if name != "logistic_regression":  # the published algorithm is for several modes
            jobs.append(
                (name, "published RDMC", loop["particles"], lambda c=case: loop_record(c, **loop, repeats=repeats))
            )
    for name, work, chains, measure in jobs:
        about = {"target": name, "work": work, "chains": chains, "date": datetime.date.today().isoformat()}
        record = store.get(
            f"{name}/{work}/{chains}", lambda m=measure, b=about: b | {"versions": versions(), "repeats": repeats} | m()
        )
        print(f"{name} {work} {chains}: {record['seconds']} {record.get('acceptance', '')}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "speed_peers", text)


if __name__ == "__main__":
    main()
