"""Whole runs on a GPU: the law, the bits, what is kept and where."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rdmc
import targets
from rdmc.baselines import AnnealedLangevin, LongChains, ParallelTempering
from rdmc.errors import DensityError
from rdmc.kernels import MALA
from rdmc.registry import SAMPLERS
from tests.device.cuda import CUDA, NEEDS_CUDA

pytestmark = NEEDS_CUDA
CROSSES = ("auto", "rdmc", "rdmc-smc", "parallel-tempering", "emcee")  # samplers that get from mode to mode here
SHORT = {"parallel-tempering": ParallelTempering(budget=50.0)}  # it takes a launch or a hundred for every step
STAYS = ("ula", "mala", "hmc", "annealed-langevin")


def run(target: Any, sampler: Any = "auto", draws: int = 250, **options: Any) -> rdmc.Result:
    return rdmc.sample(target, draws=draws, sampler=sampler, progressbar=False, **({"device": CUDA} | options))


@pytest.mark.parametrize("sampler", CROSSES)
def test_the_weights_are_those_of_the_law(sampler: str) -> None:
    target = targets.two_modes(4)
    result = run(target, SHORT.get(sampler, sampler), draws=400)
    assert result.samples.device == result.log_density.device == CUDA and not result.partial
    right = target.to(device=CUDA)
    torch.testing.assert_close(result.log_density, right.log_density(result.samples.flatten(0, 1)).view(4, -1))
    weights = torch.bincount(target.mode_of(result.samples.flatten(0, 1).cpu()), minlength=2) / 1600.0
    # chains and ensembles are correlated; independent draws are within .024 at two standard errors
    assert float((weights - target.mode_weights).abs().max()) < 0.12
    if result.log_evidence is not None:
        error = result.log_evidence_mcse or math.nan
        assert abs(result.log_evidence - target.log_z) < max(0.15, 5.0 * error)


@pytest.mark.parametrize("sampler", STAYS)
def test_others_run_and_say_where_they_fail(sampler: str) -> None:
    result = run(targets.two_modes(4), sampler, draws=20)
    assert result.samples.shape == (4, 20, 4) and bool(torch.isfinite(result.samples).all())
    assert result.check() or sampler == "annealed-langevin"  # the one that never notices


@pytest.mark.parametrize(
    "target",
    [targets.gmm40(), targets.label_switching(), targets.random_mixture(8, 5), targets.mueller_brown()],
    ids=lambda t: t.name,
)
def test_the_evidence_and_the_search_agree_with_the_cpu(target: Any) -> None:
    here, there = run(target, device="cpu"), run(target)
    a, b = here.log_evidence, there.log_evidence
    assert a is not None and b is not None
    errors = [here.log_evidence_mcse or math.nan, there.log_evidence_mcse or math.nan]
    assert abs(a - b) < max(0.15, 5.0 * math.hypot(*errors))
    assert here.stages["symmetries"][0] == there.stages["symmetries"][0]
    assert here.stages["components"][0] == pytest.approx(there.stages["components"][0], abs=2)


@pytest.mark.parametrize("sampler", ["auto", "rdmc"])
def test_nothing_of_the_record_is_lost(sampler: str) -> None:
    """What is known of the noise levels on the CPU is known here too."""
    target = targets.two_modes(4)
    here, there = run(target, sampler, device="cpu"), run(target, sampler)
    assert set(here.inner) == set(there.inner)
    for name, values in here.inner.items():
        known, found = np.isfinite(values).any(0), np.isfinite(there.inner[name]).any(0)
        assert known.any() == found.any(), name
    assert there.summary() and there.to_arviz() is not None
    if sampler == "rdmc":
        assert there.error_budget().largest == here.error_budget().largest


@pytest.mark.parametrize("sampler", ["auto", "rdmc", "rdmc-smc", LongChains(MALA(), budget=5.0)], ids=str)
def test_the_same_seed_gives_the_same_bits(sampler: Any) -> None:
    target = targets.two_modes(3)
    first, second = (run(target, sampler, draws=2_000 if sampler == "auto" else 100, seed=5) for _ in range(2))
    assert torch.equal(first.samples, second.samples)
    assert (first.log_evidence, first.log_evidence_mcse) == (second.log_evidence, second.log_evidence_mcse)


@pytest.mark.parametrize("sampler", ["auto", "rdmc", AnnealedLangevin()], ids=str)
def test_many_draws_run_side_by_side_and_have_the_law(sampler: Any) -> None:
    """More than a shard a chain: batches are joined."""
    target = targets.two_modes(2)
    result = run(target, sampler, draws=9_000, chains=2)
    assert result.samples.shape == (2, 9_000, 2)
    assert result.samples.flatten(0, 1).unique(dim=0).shape[0] > 17_000
    if isinstance(sampler, str):
        share = (target.mode_of(result.samples.flatten(0, 1).cpu()) == 0).double().mean()
        assert abs(float(share - target.mode_weights[0])) < 0.02
        assert 0.0 < float(np.nansum(result.inner["evaluations"])) <= result.gradient_evaluations


def test_a_run_cut_off_goes_on(tmp_path: Path) -> None:
    target, calls, stop = targets.two_modes(3).to(device=CUDA), [0], [-1]

    def log_density(x: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == stop[0]:
            raise KeyboardInterrupt
        return target.log_density(x)

    whole = run(log_density, draws=300, dim=3)
    total, path = calls[0], tmp_path / "run.ckpt"
    for cut in (total // 2, total - 10):
        calls[0], stop[0] = 0, cut
        with suppress(KeyboardInterrupt):
            run(log_density, draws=300, dim=3, checkpoint=path)
    stop[0] = -1
    assert torch.equal(run(log_density, draws=300, dim=3, checkpoint=path).samples, whole.samples)


def test_an_executor_gives_the_same_bits() -> None:
    target = targets.two_modes(3)
    with ThreadPoolExecutor(2) as pool:
        assert torch.equal(run(target, executor=pool).samples, run(target).samples)


def test_a_budget_of_memory_is_kept() -> None:
    data = torch.randn(20_000, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(CUDA)

    def log_density(x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1) - 1e-3 * torch.nn.functional.softplus(x @ data.T).sum(-1)

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(log_density, dim=5, draws=1000, memory=2**28)
    # a batch of 1000 points at once would take 160 MB for every intermediate value
    assert torch.cuda.max_memory_allocated() - before < 2**29


def test_a_compiled_density_has_the_law() -> None:
    target = targets.two_modes(3)
    result = run(target, compile=True)
    assert result.log_evidence is not None and abs(result.log_evidence - target.log_z) < 0.2


def test_one_that_answers_from_the_host_is_told() -> None:
    with pytest.raises(DensityError, match="device"):
        run(lambda x: -0.5 * x.cpu().square().sum(-1), dim=2)


def test_all_samplers_are_here() -> None:
    known = {*CROSSES, *STAYS, "rdmc-published", "nuts", "tempered-smc"}
    assert known == set(SAMPLERS)
