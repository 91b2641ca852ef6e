"""One seed, one result: whatever the executor and the number of its workers."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import rdmc
from tests.cluster.runs import SAMPLERS, SHARDS, agree, facts, humps, pool, run

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::ResourceWarning")]
ROOT = Path(__file__).parents[2]
MANY = pytest.param(4, marks=pytest.mark.slow)
ONE = pytest.param(1, marks=pytest.mark.slow)  # pools and threads run with 2 and 4 always


def spawned(workers: int) -> Executor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def all_agree(executor: object, truth: dict[str, Any], **shape: int) -> None:
    """Runs on the executor have the same facts, for every sampler."""
    for sampler in SAMPLERS:
        agree(facts(run(humps(), sampler, executor, **shape)), truth[sampler])


@pytest.mark.parametrize("workers", [ONE, 2, 4])
@pytest.mark.parametrize("make", [pool, ThreadPoolExecutor], ids=["forkserver", "threads"])
def test_pools(sharded: dict[str, Any], make: Callable[[int], Executor], workers: int) -> None:
    with make(workers) as executor:
        all_agree(executor, sharded, **SHARDS)


def test_density_evaluations_of_workers_are_counted_too() -> None:
    published = rdmc.RDMC.published(levels=3, importance=8, chains=2, steps=2, start_steps=2)
    with ThreadPoolExecutor(2) as executor:
        agree(facts(run(humps(), published, executor)), facts(run(humps(), published)))


@pytest.mark.slow  # what the fork server does once, done for every process
@pytest.mark.parametrize("workers", [2, 4])
def test_spawned_processes(serial: dict[str, Any], workers: int) -> None:
    with spawned(workers) as executor:
        all_agree(executor, serial)


def _alone(*command: str) -> dict[str, Any]:
    """The facts that a process of its own prints."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("workers", [2, MANY])
def test_forked_processes(serial: dict[str, Any], workers: int) -> None:
    found = _alone(sys.executable, "-m", "tests.cluster.runs", "fork", str(workers))
    for sampler in SAMPLERS:
        agree(found[sampler], serial[sampler])


def test_mpi(serial: dict[str, Any]) -> None:
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    if mpiexec is None or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("needs mpi4py and mpiexec")
    found = _alone(mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", "-m", "tests.cluster.runs", "mpi", "2")
    for sampler in SAMPLERS:
        agree(found[sampler], serial[sampler])


@pytest.mark.parametrize("workers", [ONE, 2, MANY])
def test_loky(serial: dict[str, Any], workers: int) -> None:
    loky = pytest.importorskip("loky", reason="needs the package loky")
    executor = loky.get_reusable_executor(workers)
    try:
        all_agree(executor, serial)
        assert executor.submit(abs, -1).result() == 1
    finally:
        executor.shutdown()


@pytest.mark.parametrize("workers", [ONE, 2, MANY])
def test_dask(serial: dict[str, Any], dask: Any, workers: int) -> None:
    if workers > 2:
        dask.cluster.scale(workers)
        dask.wait_for_workers(workers)
    executor = dask.get_executor(workers=list(dask.scheduler_info()["workers"])[:workers])
    all_agree(executor, serial)
    assert executor.submit(abs, -1).result() == 1


def test_dask_made_by_the_run(serial: dict[str, Any], dask: Any) -> None:
    agree(facts(run(humps(), executor=dask.get_executor)), serial["rdmc"])


@pytest.mark.parametrize("workers", [ONE, 2, MANY])
def test_ray(serial: dict[str, Any], ray: Any, workers: int) -> None:
    executor = rdmc.RayExecutor(num_cpus=2 / workers)
    all_agree(executor, serial)
