"""A run on an executor beside its checkpoint, its threads and its owner."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rdmc.job import perform, received
from tests.cluster.runs import SAMPLERS, agree, evaluations, facts, humps, pool, run, watched

pytestmark = pytest.mark.cluster


def broken_down(n: int, moment: int) -> None:
    if n == moment:
        raise OSError("no more")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_batches_done_are_recalled(serial: dict[str, Any], tmp_path: Path, sampler: str) -> None:
    """The third batch of four fails; the next call does two more, and the one after that none."""
    first, second, path = tmp_path / "first", tmp_path / "second", tmp_path / "run.rdmc"
    run(watched(first, lambda n: None), sampler, lambda: pool(1))
    total = evaluations(first)
    first.unlink()
    with pytest.raises(OSError, match="no more"):
        run(watched(first, lambda n: broken_down(n, total * 5 // 8)), sampler, lambda: pool(1), checkpoint=path)
    result = run(watched(second, lambda n: None), sampler, lambda: pool(2), checkpoint=path)
    agree(facts(result), serial[sampler])
    assert 0 < evaluations(second) < total * 0.6
    agree(facts(run(humps(), sampler, _never, checkpoint=path)), serial[sampler])


def _never() -> Executor:
    raise AssertionError("nothing is left to do")


def test_a_run_begun_here_is_finished_by_workers(serial: dict[str, Any], tmp_path: Path) -> None:
    """Interrupted in the middle of a batch: that batch is made anew, with the same bits and counts."""
    path = tmp_path / "run.rdmc"
    calls = []

    def stopping(x: Tensor) -> Tensor:
        calls.append(len(x))
        if len(calls) == stop:
            raise KeyboardInterrupt
        return humps()(x)

    stop = -1
    run(stopping, chains=1)
    stop = len(calls) - 3
    calls.clear()
    assert run(stopping, checkpoint=path).partial
    agree(facts(run(humps(), executor=lambda: pool(2), checkpoint=path)), serial["rdmc"])


class Made(ThreadPoolExecutor):
    """Knows whether it was shut down."""

    closed = False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed = True
        super().shutdown(wait, cancel_futures=cancel_futures)


def test_who_makes_an_executor_closes_it() -> None:
    made: list[Made] = []

    def make() -> Made:
        made.append(Made(1))
        return made[-1]

    given = make()
    run(humps(), executor=given)
    assert not given.closed
    run(humps(), executor=make)
    with pytest.raises(ZeroDivisionError):
        run(_fails_in_a_thread(), executor=make)
    assert [own.closed for own in made] == [False, True, True]
    given.shutdown()


def _fails_in_a_thread() -> Any:
    inside = humps()

    def density(x: Tensor) -> Tensor:
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError
        return inside(x)

    return density


def test_what_is_no_executor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`executor` must give .*Executor, got int"):
        run(humps(), executor=lambda: 3)


def test_a_fork_of_several_threads_would_hang_and_is_replaced() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor:
        torch.set_num_threads(2)
        alone = run(humps())
        assert torch.equal(run(humps(), executor=executor).samples, alone.samples)


def test_workers_use_as_many_threads_as_the_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A parcel made at three threads is worked on at three, and leaves one thread as it found it."""
    seen, parcels = tmp_path / "threads", []

    def noting(x: Tensor) -> Tensor:
        with seen.open("a") as file:
            file.write(f"{torch.get_num_threads()}\n")
        return -0.5 * x.square().sum(-1)

    class Inline(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            parcels.append(args[0])
            future: Future[Any] = Future()
            future.set_result(fn(*args, **kwargs))
            return future

    torch.set_num_threads(3)
    run(noting, executor=Inline())
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    seen.unlink()
    block, spent = received(perform(parcels[0]), torch.device("cpu"))
    assert set(seen.read_text().split()) == {"3"} and torch.get_num_threads() == 1
    assert block.samples.shape == (50, 1, 2) and spent.gradients > 0
