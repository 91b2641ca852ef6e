"""The batches of a run on an executor: any that keeps to :mod:`concurrent.futures`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any

import torch

from rdmc.errors import WorkerLostError
from rdmc.job import Done, Job, perform, received, shipped
from rdmc.journal import Journal

__all__ = ["RayExecutor", "spread"]

_TRIES = 3  # times that a batch is handed out before it is held to kill its workers

Source = Executor | Callable[[], Executor]


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One function for all of Ray's tasks: Ray ships a function once, and arguments every time."""
    return fn(*args, **kwargs)


class RayExecutor(Executor):
    """Ray's workers as an executor; needs the package ``ray``, and ``ray.init`` called before.

    Args:
        options: Of every task, as for ``ray.remote``: ``num_cpus``, ``num_gpus``, ``max_retries`` ...

    Raises:
        ImportError: If ray is not installed.
    """

    def __init__(self, **options: Any) -> None:
        try:
            import ray
        except ImportError as error:
            raise ImportError("`RayExecutor` needs the package ray: pip install ray") from error
        self._remote: Any = ray.remote(**{"num_cpus": 1, **options})(_call)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand a call to a worker."""
        future: Future[Any] = self._remote.remote(fn, args, kwargs).future()
        return future


class _Workers:
    """The executor, and what takes its place when it breaks.

    A process pool can't be used any more once one of its processes was killed; another like it takes over. A factory is called
    again. Executors that mend themselves (Dask's, Ray's) are used again as they are. While torch has several threads here, a pool
    that forks is replaced by one that spawns.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.made: list[Executor] = []
        self.executor = self._usable(source) if isinstance(source, Executor) else self._make(source)

    def _make(self, factory: Callable[[], Executor]) -> Executor:
        made = factory()
        if not isinstance(made, Executor):
            raise ValueError(f"`executor` must give a concurrent.futures.Executor, got {type(made).__name__}")
        self.made.append(made)
        return self._usable(made)

    def _usable(self, executor: Executor) -> Executor:
        """The executor, or one that spawns where forked workers would wait for ever: OpenMP's threads do not survive a fork."""
        context = getattr(executor, "_mp_context", None)
        if context is None or context.get_start_method() != "fork" or torch.get_num_threads() == 1:
            return executor
        return self._make(lambda: _like(executor, get_context("spawn")))

    def room(self, running: int) -> bool:
        """Whether another batch may be handed out: pools that break as a whole get no more than they can work on."""
        return running < getattr(self.executor, "_max_workers", running + 1)

    def submit(self, parcel: bytes) -> Future[bytes]:
        try:
            return self.executor.submit(perform, parcel)
        except BrokenExecutor as error:
            self._renew(error)
            return self.executor.submit(perform, parcel)

    def _renew(self, error: BrokenExecutor) -> None:
        if not isinstance(self.source, Executor):
            self.executor = self._make(self.source)
        elif isinstance(self.executor, ProcessPoolExecutor):
            old = self.executor
            self.executor = self._make(lambda: _like(old, getattr(old, "_mp_context", None)))
        else:
            message = "`executor` broke when a worker was lost; give a function that makes it, and it is made again"
            raise WorkerLostError(message) from error

    def close(self) -> None:
        for made in self.made:
            made.shutdown(wait=False)


def _like(pool: Any, context: Any) -> ProcessPoolExecutor:
    """A pool of processes of the same size, with the same beginning."""
    return ProcessPoolExecutor(
        pool._max_workers, context, pool._initializer, pool._initargs, max_tasks_per_child=pool._max_tasks_per_child
    )


def spread(jobs: Sequence[Job], source: Source, journal: Journal) -> Iterator[tuple[Job, Done]]:
    """The jobs and what they gave, in the order in which they end; each is kept in the journal first.

    A job whose worker was lost is handed out again, the last time alone, so that no other job can be what kills the worker. If it
    is lost then too, the other jobs are done before the run ends, unless a second one is lost as often. A job that fails ends the
    run with its own exception.

    Args:
        jobs: The batches of a run.
        source: An executor, or a function that makes one. Made ones are shut down at the end.
        journal: Where finished batches are kept; those that it knows are not run.

    Raises:
        WorkerLostError: If the same job has lost its worker three times, or the executor is broken and can't be made again.
        ValueError: If the source gives no executor.
    """
    queue: deque[Job] = deque()
    for job in jobs:
        if (kept := journal.recall(f"batch {job.index}")) is not None:
            yield job, Done(kept[0], True)
        else:
            queue.append(job)
    if not queue:
        return
    workers = _Workers(source)
    losses = dict.fromkeys((job.index for job in queue), 0)
    running: dict[Future[bytes], Job] = {}
    lost: WorkerLostError | None = None

    def last(job: Job) -> bool:
        return losses[job.index] == _TRIES - 1

    try:
        while queue or running:
            alone = False
            while queue and not alone and workers.room(len(running)) and not (running and last(queue[0])):
                job = queue.popleft()
                running[workers.submit(shipped(job))] = job
                alone = last(job)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    answer = future.result()
                except Exception as error:  # `perform` returns the job's own errors, so this is the loss of a worker
                    losses[job.index] += 1
                    if losses[job.index] < _TRIES:
                        queue.appendleft(job)
                        continue
                    if lost is not None:
                        raise lost  # noqa: B904
                    lost = WorkerLostError(f"batch {job.index} of the run has lost its worker {_TRIES} times")
                    lost.__cause__ = error
                    continue
                block, spent = received(answer, job.density.device)
                journal.keep(f"batch {job.index}", (block,), spent, instead_of=f"state {job.index}")
                job.density.counter.gradients += spent.gradients
                job.density.counter.densities += spent.densities
                yield job, Done(block, True)
        if lost is not None:
            raise lost
    finally:
        for future in running:
            future.cancel()
        workers.close()
