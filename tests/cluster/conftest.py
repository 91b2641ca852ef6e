"""Executors that are slow to start, once for all tests of this folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.cluster.runs import SAMPLERS, SHARDS, facts, humps, run


@pytest.fixture(scope="session")
def serial() -> dict[str, Any]:
    """The facts of the small runs without an executor."""
    return _serial({})


@pytest.fixture(scope="session")
def sharded() -> dict[str, Any]:
    """The facts of runs of several shards without an executor."""
    return _serial(SHARDS)


def _serial(shape: dict[str, int]) -> dict[str, Any]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {sampler: facts(run(humps(), sampler, **shape)) for sampler in SAMPLERS}
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dask() -> Iterator[Any]:
    """A client of two worker processes, which hands every loss of a worker on."""
    distributed = pytest.importorskip("distributed", reason="needs the package distributed")
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.logging.distributed": "critical"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """Ray on this machine, two processors."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray = pytest.importorskip("ray", reason="needs the package ray")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        yield ray
        ray.shutdown()
