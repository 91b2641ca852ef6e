"""Runs that the tests compare, in this process or, as ``python -m tests.cluster.runs KIND NUMBER``, in one of their own."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rdmc

SAMPLERS = ("auto", "rdmc")
SMALL = {"chains": 4, "draws": 50}  # four batches
SHARDS = {"chains": 2, "draws": 4100}  # two shards each: four batches too


def humps() -> Callable[[Tensor], Tensor]:
    """Two unequal modes in two dimensions, as a lambda over closures."""
    centre = torch.tensor([1.5, -1.0], dtype=torch.float64)

    def hump(x: Tensor, sign: float) -> Tensor:
        return -0.5 * ((x - sign * centre) / 0.6).square().sum(-1)

    return lambda x: torch.logaddexp(hump(x, 1.0) + math.log(0.7), hump(x, -1.0) + math.log(0.3))


def watched(mark: Path, happens: Callable[[int], object]) -> Callable[[Tensor], Tensor]:
    """The humps; the n-th evaluation in a worker, of all workers together, is noted in a file and then ``happens(n)``."""
    parent, inside = os.getpid(), humps()

    def density(x: Tensor) -> Tensor:
        if os.getpid() != parent:
            with mark.open("ab", buffering=0) as file:
                file.write(b".")
                n = file.tell()
            happens(n)
        return inside(x)

    return density


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def evaluations(mark: Path) -> int:
    """Evaluations in workers so far."""
    return mark.stat().st_size if mark.exists() else 0


def run(log_density: object, sampler: object = "rdmc", executor: object = None, **options: Any) -> rdmc.Result:
    options = {"dim": 2, "seed": 11, "progressbar": False, **SMALL, **options}
    return rdmc.sample(log_density, sampler=sampler, executor=executor, **options)  # type: ignore[arg-type]


def _digest(values: Any) -> str:
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()


def facts(result: rdmc.Result) -> dict[str, Any]:
    """Everything in a result but times, such that equal facts are equal bits."""
    tables = {"modes": result.modes, "stages": result.stages}
    return {
        "samples": [list(result.samples.shape), _digest(result.samples)],
        "log_density": _digest(result.log_density),
        "evidence": repr((result.log_evidence, result.log_evidence_mcse)),
        "gradients": result.gradient_evaluations,
        "densities": result.density_evaluations,
        **{name: {c: repr(table[c]) for c in table.columns if c != "seconds"} for name, table in tables.items()},
        "inner": {name: _digest(values) for name, values in result.inner.items() if name != "seconds"},
        "partial": result.partial,
    }


def agree(found: dict[str, Any], truth: dict[str, Any]) -> None:
    """All facts are equal; those that are not are shown."""
    differ = {name: (found.get(name), truth[name]) for name in truth if found.get(name) != truth[name]}
    assert not differ


def preloaded() -> Any:
    """The context whose workers are forked from a process that has imported everything: they start in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rdmc.job", "rdmc.auto", "rdmc.reverse"])
    return context


def pool(workers: int = 2) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=preloaded())


def _interrupted(mark: Path, calls: int) -> rdmc.Result:
    """One worker, which sleeps after so many evaluations until Ctrl-C."""

    def happens(n: int) -> None:
        if n > calls:
            mark.with_name("sleeping").touch()
            time.sleep(100.0)

    return run(watched(mark, happens), executor=lambda: pool(1))


def _executor(kind: str, workers: int) -> Executor:
    if kind == "mpi":
        from mpi4py.futures import MPIPoolExecutor

        return MPIPoolExecutor(workers)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(kind))


def main() -> None:
    torch.set_num_threads(1)
    kind, number, *mark = sys.argv[1:]
    if kind == "interrupted":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        print(json.dumps(facts(_interrupted(Path(*mark), int(number)))))
        return
    with _executor(kind, int(number)) as executor:
        print(json.dumps({sampler: facts(run(humps(), sampler, executor)) for sampler in SAMPLERS}))


if __name__ == "__main__":
    main()
