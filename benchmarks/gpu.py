"""What a GPU is worth: whole runs on it and on the host's processor, and our transitions beside BlackJAX's on the same GPU.

    python -m benchmarks.gpu [--parts runs,transitions] [--repeats N] [--device cuda] [--readme] [--smoke] [--out DIR]

1. runs: the default sampler and RDMC with a few and with many draws, and a posterior of 100,000 observations, in wall time on the
   GPU and on one thread of the processor beside it; how far mode weights and evidence are from the truth on the GPU.
2. transitions: MALA and HMC of fixed step size, float64. BlackJAX's under ``vmap`` and ``lax.scan``, compiled and warm; ours as
   it is (*eager*), and one transition captured as a CUDA graph and replayed (*captured*), with the density in closed form and
   with it compiled. Each repeat times every side in turn; medians. On a processor only ours runs.

Records go to ``gpu.jsonl`` one by one, so the run can stop and go on. Without a GPU, ``--smoke`` takes the processor.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rdmc
import targets
from benchmarks.blackjax_side import blackjax_side
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.speed import rows
from benchmarks.speed_overhead import logistic
from benchmarks.speed_peers import CASES, LEAPFROGS, SEED, Case, points
from benchmarks.store import Store, environment
from rdmc.compiling import compiled
from rdmc.density import Density, as_density
from rdmc.kernels import HMC, MALA, Isotropic, State
from rdmc.rng import Streams
from targets.base import Target

RUNS: dict[str, tuple[Callable[[], Target], tuple[int, ...]]] = {
    "two modes, d = 8": (partial(targets.two_modes, 8), (250, 25_000, 250_000)),
    "GMM-40, d = 2": (targets.gmm40, (250, 25_000, 250_000)),
    "10 Gaussians, d = 50": (partial(targets.random_mixture, 50, 10), (250, 25_000)),
    "logistic regression, d = 31, 100,000 rows": (partial(logistic, 100_000), (250,)),
}
SAMPLERS = ("auto", "rdmc")
ON_THE_CPU = 25_000  # draws of each chain, above which the processor is not waited for
CHAINS = {1_000: 100, 16_000: 100, 131_072: 30}
PARTS = ("runs", "transitions")

Record = dict[str, Any]


def waited() -> float:
    """Wall time when the GPU has done all it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def run_record(build: Callable[[], Target], sampler: str, draws: int, device: str) -> Record:
    """One run, after a short one has loaded the libraries."""
    target = build()
    options: dict[str, Any] = {"sampler": sampler, "device": device, "progressbar": False}
    if device != "cpu":
        rdmc.sample(targets.two_modes(2), draws=50, **options)
    began = waited()
    result = rdmc.sample(target, draws=draws, **options)
    record = {"seconds": round(waited() - began, 3), "gradients_per_draw": round(result.evaluations_per_draw, 1)}
    x = result.samples.flatten(0, 1).cpu()
    if target.mode_weights is not None:
        share = torch.bincount(target.mode_of(x), minlength=len(target.mode_weights)) / len(x)
        record["tv"] = round(0.5 * float((share - target.mode_weights).abs().sum()), 4)
    if result.log_evidence is not None and target.log_z is not None:
        record["evidence_error"] = round(result.log_evidence - target.log_z, 4)
    return record


class Chains:
    """Transitions of fixed step size, eager or captured."""

    def __init__(self, density: Density, kernel: str, step_size: float, x: Tensor) -> None:
        self.kernel = MALA(step_size) if kernel == "mala" else HMC(step_size, leapfrogs=LEAPFROGS, jitter=0.0)
        self.density, self.tuning = density, torch.full_like(x[:, 0], math.log(step_size))
        self.begin = self.kernel.init(density, x)

    def step(self, state: State, rng: Streams) -> tuple[State, Tensor]:
        """One transition of all chains, and the mean acceptance."""
        state, info = self.kernel.step(self.density, state, rng, self.tuning, Isotropic(1.0))
        return state, info.acceptance.mean()

    def eager(self, steps: int) -> float:
        """Step after step."""
        state, rng, acceptance = self.begin, self.streams(), self.tuning[0]
        for _ in range(steps):
            state, acceptance = self.step(state, rng)
        return float(acceptance)

    def streams(self) -> Streams:
        """All chains in one shard."""
        return Streams.seeded(SEED, [len(self.tuning)], dtype=self.tuning.dtype, device=self.tuning.device)

    def captured(self) -> Callable[[int], float]:
        """The same by replays of one step."""
        rng, held = self.streams(), State(*(part.clone() for part in self.begin))
        (generator,) = rng.generators
        assert generator is not None
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step(held, rng)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            state, acceptance = self.step(held, rng)
            for part, value in zip(held, state, strict=True):
                part.copy_(value)

        def run(steps: int) -> float:
            for part, value in zip(held, self.begin, strict=True):
                part.copy_(value)
            for _ in range(steps):
                graph.replay()
            return float(acceptance)

        return run


def transition_record(case: Case, kernel: str, chains: int, steps: int, repeats: int, device: str) -> Record:
    """One comparison: milliseconds a transition of all chains."""
    target, step_size = case.target(), case.mala if kernel == "mala" else case.hmc
    x = points(target, chains)
    density = as_density(target, device=device)
    own = Chains(density, kernel, step_size, x.to(device))
    sides: dict[str, Callable[[], float]] = {"eager": partial(own.eager, steps)}
    if device != "cpu":
        sides["BlackJAX"] = blackjax_side(target, kernel, step_size, LEAPFROGS, x, steps)
        fused = Chains(compiled(density), kernel, step_size, x.to(device))
        sides["eager, compiled"] = partial(fused.eager, steps)
        sides["captured"] = partial(own.captured(), steps)
        sides["captured, compiled"] = partial(fused.captured(), steps)
    gave = {name: round(side(), 3) for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            began = waited()
            side()
            seconds[name].append(waited() - began)
    each = {name: round(1e3 * statistics.median(values) / steps, 4) for name, values in seconds.items()}
    return {"milliseconds": each, "acceptance": gave}


def report(records: Sequence[Record]) -> str:
    """Everything, in Markdown."""
    if not records:
        return "Nothing measured yet."
    when = ", ".join(sorted({r["date"] for r in records}))
    parts = [f"{when}. {'; '.join(sorted({r['versions'] for r in records}))}."]
    runs = {(r["target"], r["sampler"], r["draws"], r["device"]): r for r in records if r["part"] == "runs"}
    body = []
    for target, sampler, draws, device in runs:
        if device == "cpu":
            continue
        there, here = runs[target, sampler, draws, device], runs.get((target, sampler, draws, "cpu"))
        host = (f"{here['seconds']:.2f}", f"{here['seconds'] / there['seconds']:.1f}") if here else ("", "")
        found = (there["gradients_per_draw"], there.get("tv", ""), there.get("evidence_error", ""))
        body.append((target, f"`{sampler}`", f"4 x {draws:,}", f"{there['seconds']:.2f}", *host, *found))
    head = (
        "target",
        "sampler",
        "draws",
        "GPU, s",
        "one thread, s",
        "ratio",
        "gradients a draw",
        "TV",
        "log evidence, error",
    )
    if body:
        parts.append(rows(head, body))
    sides = ("BlackJAX", "eager", "eager, compiled", "captured", "captured, compiled")
    body = [
        (r["target"], r["kernel"], f"{r['chains']:,}", *(r["milliseconds"].get(side, "") for side in sides))
        for r in records
        if r["part"] == "transitions"
    ]
    if body:
        parts.append("Milliseconds a transition of all chains.")
        parts.append(rows(("target", "kernel", "chains", *sides), body))
    return "\n\n".join(parts)


def machine() -> str:
    """The GPU and the versions."""
    if not torch.cuda.is_available():
        return f"no GPU, {environment()}"
    import blackjax
    import jax

    return f"{torch.cuda.get_device_name()}, {environment()}, jax {jax.__version__}, blackjax {blackjax.__version__}"


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the memory
    planned, cases, kernels, chains, repeats, device = RUNS, CASES, ("mala", "hmc"), CHAINS, a.repeats, a.device
    if a.smoke:
        planned = {"two modes": (partial(targets.two_modes, 2), (50,))}
        cases, kernels, chains, repeats = {"gmm40": CASES["gmm40"]}, ("mala",), {50: 2}, 1
        device = a.device if torch.cuda.is_available() else "cpu"
    if device != "cpu":
        import jax

        jax.config.update("jax_enable_x64", True)
    store = Store(None if a.smoke else a.out / "gpu.jsonl")
    jobs: dict[str, tuple[Record, Callable[[], Record]]] = {}
    for name, (build, sizes) in planned.items():
        for sampler in SAMPLERS if len(sizes) > 1 else SAMPLERS[:1]:
            for draws in sizes:
                for place in dict.fromkeys([device, "cpu"] if draws <= ON_THE_CPU else [device]):
                    about = {"part": "runs", "target": name, "sampler": sampler, "draws": draws, "device": place}
                    jobs["/".join(map(str, about.values()))] = about, partial(run_record, build, sampler, draws, place)
    for name, case in cases.items():
        for kernel in kernels:
            for count, steps in chains.items():
                about = {"part": "transitions", "target": name, "kernel": kernel, "chains": count, "device": device}
                work = partial(transition_record, case, kernel, count, steps, repeats, device)
                jobs["/".join(map(str, about.values()))] = about, work
    for key, (about, work) in jobs.items():
        if about["part"] in a.parts.split(","):
            note = about | {"date": datetime.date.today().isoformat(), "versions": machine()}
            record = store.get(key, lambda note=note, work=work: note | work())
            shown = {name: value for name, value in record.items() if name not in (*about, "date", "versions", "key")}
            print(f"{key}: {shown}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "gpu", text)


if __name__ == "__main__":
    main()
