"""Workers that die, densities that raise, and Ctrl-C."""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.density import Density
from rdmc.errors import DensityError, WorkerLostError
from rdmc.job import perform, received
from rdmc.rng import Streams
from tests.cluster.runs import agree, die, evaluations, facts, humps, pool, run, watched
from tests.marks import slow

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def total(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Evaluations that the workers of a run make in all."""
    mark = tmp_path_factory.mktemp("total") / "mark"
    run(watched(mark, lambda n: None), executor=lambda: pool(2))
    return evaluations(mark)


def survives(executor: object, mark: Path, moment: int, truth: dict[str, Any]) -> None:
    """A worker is killed once, at that evaluation, and the facts are as if it had not been."""
    result = run(watched(mark, lambda n: die() if n == moment else None), executor=executor)
    agree(facts(result), truth)
    assert evaluations(mark) > moment  # it went on


@pytest.mark.parametrize("seed", [0, *slow(1, 2)])
def test_a_killed_process_is_replaced(serial: dict[str, Any], total: int, tmp_path: Path, seed: int) -> None:
    moment = random.Random(seed).randint(1, total)
    with pool(2) as executor:
        survives(executor, tmp_path / "mark", moment, serial["rdmc"])


@pytest.mark.slow
def test_a_killed_loky_process_is_replaced(serial: dict[str, Any], total: int, tmp_path: Path) -> None:
    loky = pytest.importorskip("loky", reason="needs the package loky")
    survives(lambda: loky.get_reusable_executor(1), tmp_path / "mark", total // 2, serial["rdmc"])


def test_a_pool_that_cannot_be_made_again_says_so() -> None:
    class Broken(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            raise BrokenExecutor("a child process terminated abruptly")

    with pytest.raises(WorkerLostError, match="give a function that makes it") as caught:
        run(humps(), executor=Broken())
    assert isinstance(caught.value.__cause__, BrokenExecutor)


def test_a_killed_dask_worker_is_replaced(serial: dict[str, Any], total: int, tmp_path: Path, dask: Any) -> None:
    survives(dask.get_executor(), tmp_path / "mark", total // 2, serial["rdmc"])


def test_a_killed_ray_worker_is_replaced(serial: dict[str, Any], total: int, tmp_path: Path, ray: Any) -> None:
    survives(rdmc.RayExecutor(max_retries=0), tmp_path / "mark", total // 2, serial["rdmc"])


@dataclass(frozen=True)
class Poisoned:
    """RDMC, but the batch of one chain kills its worker."""

    chain: int
    inner: rdmc.RDMC = rdmc.RDMC()
    parent: int = os.getpid()

    def start(self, density: Density, plan: Any, rng: Streams, draws: int) -> Any:
        key = Streams.seeded(11, [1], [(self.chain, 0)]).generators[0]
        if rng.generators[0].initial_seed() == key.initial_seed() and os.getpid() != self.parent:
            die()
        return self.inner.start(density, plan, rng, draws)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)


def test_a_batch_that_always_kills_its_worker_is_named_and_the_others_are_done() -> None:
    begin = time.monotonic()
    with pytest.raises(WorkerLostError, match="batch 1 of the run has lost its worker 3 times") as caught:
        run(humps(), Poisoned(1), lambda: pool(2), chains=5, draws=20)
    assert time.monotonic() - begin < 60.0
    alone = run(humps(), "rdmc", chains=5, draws=20)
    partial = caught.value.partial  # type: ignore[attr-defined]
    assert partial.partial and torch.equal(partial.samples, alone.samples[[0, 2, 3, 4]])


class Faulty(Executor):
    """Loses the worker of the first batch every time, and notes whether the third time anything else was running."""

    _max_workers = 2

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(2)
        self.lost: list[Future[Any]] = []
        self.others: list[Future[Any]] = []
        self.alone = True

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if cloudpickle.loads(cloudpickle.loads(args[0])[2]).index > 0:
            self.alone = self.alone and not (len(self.lost) == 3 and not self.lost[-1].done())
            self.others.append(self.threads.submit(fn, *args, **kwargs))
            return self.others[-1]
        self.lost.append(Future())
        if len(self.lost) == 3:
            self.alone = all(future.done() for future in self.others)
        threading.Timer(0.1, self.lost[-1].set_exception, (OSError("gone"),)).start()
        return self.lost[-1]


def test_the_last_try_is_made_alone() -> None:
    executor = Faulty()
    with pytest.raises(WorkerLostError, match="batch 0 of the run"):
        run(humps(), executor=executor)
    assert executor.alone and len(executor.lost) == 3 and len(executor.others) == 3


def test_a_density_that_kills_every_worker_ends_the_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(WorkerLostError) as caught:
        run(watched(mark, lambda n: die()), executor=lambda: pool(2))
    assert not hasattr(caught.value, "partial") and evaluations(mark) <= 6  # two batches, three times


class MassGoneError(ArithmeticError):
    """An error that only this test knows."""


def test_an_error_of_the_density_comes_back_as_it_was(serial: dict[str, Any], total: int, tmp_path: Path) -> None:
    class LocalError(Exception):
        pass

    def fails(kind: type[Exception], after: int) -> Callable[[int], None]:
        def happens(n: int) -> None:
            if n > after:
                raise kind("the mass is gone", n)

        return happens

    whole = run(humps()).samples
    with pool(1) as executor:
        for kind in (MassGoneError, LocalError):
            mark = tmp_path / kind.__name__
            with pytest.raises(kind, match="the mass is gone") as caught:
                run(watched(mark, fails(kind, total - 3)), executor=executor)
            assert caught.value.args[1] == total - 2
            partial = caught.value.partial  # type: ignore[attr-defined]
            assert partial.partial and torch.equal(partial.samples, whole[:3])
            assert any("in worker" in note or "in a worker" in note for note in caught.value.__notes__)
        assert executor.submit(abs, -1).result() == 1  # it is the caller's


class Absent:
    """Can be sent, and can't be received: its module is not where it goes."""

    def __call__(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)

    def __reduce__(self) -> Any:
        return importlib.import_module, ("a_module_that_is_nowhere",)


def test_what_cannot_travel_is_said() -> None:
    lock = threading.Lock()
    with pytest.raises(DensityError, match=r"cloudpickle can send.*_thread.lock"):
        run(lambda x: (-0.5 * x.square().sum(-1), lock)[0], executor=lambda: pool(1))
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_nowhere"):
        run(Absent(), executor=lambda: pool(1))


def test_a_worker_with_other_versions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    parcels = []

    class Kept(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            parcels.append(args[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(humps(), executor=Kept())
    monkeypatch.setattr(rdmc, "__version__", "0.0.1")
    with pytest.raises(RuntimeError, match="must have the versions"):
        received(perform(parcels[0]), torch.device("cpu"))


class Interrupting(Executor):
    """Does the first batch, and presses Ctrl-C while the second is waited for."""

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        if self.calls == 1:
            future.set_result(fn(*args, **kwargs))
        elif self.calls == 2:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        return future


def test_ctrl_c_gives_what_is_there() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        result = run(humps(), executor=Interrupting())
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.partial and torch.equal(result.samples[0], run(humps()).samples[0, : result.samples.shape[1]])


def test_ctrl_c_in_a_terminal_reaches_the_workers_too(tmp_path: Path, total: int) -> None:
    mark = tmp_path / "mark"
    command = [sys.executable, "-m", "tests.cluster.runs", "interrupted", str(total * 5 // 8), str(mark)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60.0
    while not (mark.parent / "sleeping").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert time.monotonic() - begin < 30.0
    found = json.loads(out.splitlines()[-1])
    assert found["partial"] and found["samples"][0] == [2, 50, 2]  # the two batches before
