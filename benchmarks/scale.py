"""What it costs to hand batches to workers: starting them, shipping to them, and what two of them save.

    python -m benchmarks.scale [--executors threads,spawn,...] [--repeats N] [--smoke] [--out DIR]

*Start*: seconds until two new workers have each done a call, the import of torch included. *A call*: seconds for an empty call with
a parcel of the size given, and back. *Batches*: the time after the search, of a density that takes a set
time per point (it sleeps, so that the figures depend little on how busy this machine is). Records go to ``scale.jsonl`` one by one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rdmc
import targets
from benchmarks.store import Store, environment
from rdmc import spread
from rdmc.job import Job, perform

OUT = Path(__file__).parent / "results"
TARGETS: dict[str, Callable[[], Any]] = {
    "two_modes-2": partial(targets.two_modes, 2),
    "two_modes-32": partial(targets.two_modes, 32),
    "gmm40": targets.gmm40,
    "rings": targets.rings,
}


@contextmanager
def _pool(method: str) -> Iterator[Executor]:
    context: Any = multiprocessing.get_context(method.removesuffix("-preloaded"))
    if method.endswith("-preloaded"):
        context.set_forkserver_preload(["rdmc.job", "rdmc.auto"])
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


@contextmanager
def _loky() -> Iterator[Executor]:
    from loky import get_reusable_executor

    executor = get_reusable_executor(2)
    yield executor
    executor.shutdown()


@contextmanager
def _dask() -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


@contextmanager
def _ray() -> Iterator[Executor]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield rdmc.RayExecutor()
    ray.shutdown()


EXECUTORS: dict[str, Callable[[], Any]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "spawn": partial(_pool, "spawn"),
    "forkserver-preloaded": partial(_pool, "forkserver-preloaded"),
    "loky": _loky,
    "dask": _dask,
    "ray": _ray,
}


def echo(parcel: bytes, seconds: float = 0.0) -> bytes:
    """The parcel, after importing what a batch needs."""
    assert callable(perform)
    time.sleep(seconds)
    return parcel


def overhead(name: str, repeats: int) -> dict[str, Any]:
    """Seconds to start two workers, and for a call with a small and a large parcel."""
    clock = time.perf_counter()
    with EXECUTORS[name]() as executor:
        for future in [executor.submit(echo, b"", 0.2) for _ in range(2)]:
            future.result()
        start = time.perf_counter() - clock - 0.2
        calls = {}
        for size in (10_000, 1_000_000):
            seconds = []
            for i in range(repeats):
                parcel = i.to_bytes(8, "big") + bytes(size - 8)
                begin = time.perf_counter()
                executor.submit(echo, parcel).result()
                seconds.append(time.perf_counter() - begin)
            calls[size] = statistics.median(seconds)
    return {"start": start, "small": calls[10_000], "large": calls[1_000_000]}


def parcels(name: str, sampler: str) -> dict[str, Any]:
    """Bytes and seconds to pack a batch of a run, bytes of its answer, and seconds of the batch itself."""
    found: dict[str, Any] = {}

    class Weighing(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            answer = perform(args[0])
            found.update(there=len(args[0]), back=len(answer), batch=time.perf_counter() - begin)
            return super().submit(lambda: answer)

    packed = spread.shipped

    def timed(job: Job) -> bytes:
        begin = time.perf_counter()
        parcel = packed(job)
        found["packing"] = time.perf_counter() - begin
        return parcel

    spread.shipped = timed  # type: ignore[attr-defined]
    try:
        rdmc.sample(TARGETS[name](), sampler=sampler, executor=lambda: Weighing(1), progressbar=False)
    finally:
        spread.shipped = packed  # type: ignore[attr-defined]
    return found


@dataclass
class Slow:
    """Two modes in two dimensions, at so many seconds a point."""

    seconds: float = 0.0
    dim: int = 2
    target: Any = field(default_factory=lambda: targets.two_modes(2))

    def log_density(self, x: Tensor) -> Tensor:
        """``(M, d) -> (M,)``, slowly."""
        time.sleep(self.seconds * len(x))
        return self.target.log_density(x)


@dataclass(frozen=True)
class SlowBatches:
    """The default sampler on a density that is slow once the search is over, which no executor shortens."""

    density: Slow
    seconds: float
    inner: rdmc.Auto = rdmc.Auto()
    searched: list[float] = field(default_factory=list)

    def prepare(self, *args: Any) -> Any:
        """Search at full speed."""
        plan = self.inner.prepare(*args)
        self.density.seconds = self.seconds
        self.searched.append(time.perf_counter())
        return plan

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)


def wall(name: str | None, seconds: float) -> dict[str, Any]:
    """Seconds of the four batches of a run, and of evaluating the draws, on workers that are already there."""
    with nullcontext(None) if name is None else EXECUTORS[name]() as executor:
        if executor is not None:
            for future in [executor.submit(echo, b"", 0.2) for _ in range(2)]:
                future.result()
        density = Slow()
        sampler = SlowBatches(density, seconds)
        rdmc.sample(density, draws=250, executor=executor, progressbar=False, sampler=sampler)
        return {"seconds": time.perf_counter() - sampler.searched[0]}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", default=",".join(EXECUTORS), help="which ones, of " + ", ".join(EXECUTORS))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=OUT)
    a = parser.parse_args()
    torch.set_num_threads(1)
    names = ["threads"] if a.smoke else a.executors.split(",")
    store = Store(None if a.smoke else a.out / "scale.jsonl")
    print(f"{environment()}\n")
    print("| executor | start of two workers, s | call with 10 kB, ms | call with 1 MB, ms |\n|---|---|---|---|")
    for name in names:
        r = store.get(f"overhead {name}", partial(overhead, name, 2 if a.smoke else a.repeats))
        print(f"| {name} | {r['start']:.2f} | {1e3 * r['small']:.1f} | {1e3 * r['large']:.1f} |")
    print("\n| target | sampler | sent, kB | packing, ms | the batch, s | back, kB |\n|---|---|---|---|---|---|")
    for target in ["two_modes-2"] if a.smoke else TARGETS:
        for sampler in ("auto", "rdmc"):
            r = store.get(f"parcel {target} {sampler}", partial(parcels, target, sampler))
            cells = (r["there"] / 1e3, 1e3 * r["packing"], r["batch"], r["back"] / 1e3)
            print(f"| {target} | {sampler} | " + " | ".join(f"{cell:.3g}" for cell in cells) + " |")
    print("\n| two workers | batches, s | of serial |\n|---|---|---|")
    serial = None
    for own in [None, *names]:
        took = store.get(f"wall {own or 'none'}", partial(wall, own, 1e-7 if a.smoke else 5e-4))["seconds"]
        serial = serial or took
        print(f"| {own or 'no executor'} | {took:.1f} | {took / serial:.2f} |")


if __name__ == "__main__":
    main()
