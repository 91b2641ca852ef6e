"""What is made of a run on a GPU: files, pages, figures, comparisons, networks, and runs with two densities."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rdmc
import targets
from rdmc.network import Training
from rdmc.plot import figure
from tests.device.cuda import CUDA, NEEDS_CUDA

pytestmark = NEEDS_CUDA
TARGET = targets.two_modes(2)


@lru_cache(maxsize=1)
def result() -> rdmc.Result:
    return rdmc.sample(TARGET, draws=500, device=CUDA, progressbar=False)


def prior(x: Tensor) -> Tensor:
    return torch.logaddexp(-0.5 * (x - 2.0).square().sum(-1), -0.5 * (x + 2.0).square().sum(-1))


def posterior(x: Tensor) -> Tensor:
    return prior(x) - 0.5 * (x[:, 0] - 0.5).square() / 4.0


def test_a_saved_run_is_the_run(tmp_path: Path) -> None:
    back = rdmc.load(result().save(tmp_path / "run"))
    assert torch.equal(back.samples.cpu(), result().samples.cpu())
    assert back.check() == result().check() and str(back.modes) == str(result().modes)


def test_a_page_and_a_figure(tmp_path: Path) -> None:
    page = rdmc.report(result(), tmp_path / "report.html").read_text()
    assert "<svg" in page
    figure({"auto": result()}, truth=TARGET).savefig(tmp_path / "figure.png")


def test_arviz_gets_the_draws() -> None:
    data = result().to_arviz()
    np.testing.assert_array_equal(np.asarray(data["posterior"]["x"]), result().samples.cpu().numpy())


def test_a_comparison_measures_the_same() -> None:
    samplers = ["auto", "annealed-langevin"]
    here, there = (
        rdmc.compare(TARGET, samplers, budget=60, draws=100, device=device, progressbar=False).table
        for device in ("cpu", CUDA)
    )
    for mine, row in zip(here, there, strict=True):
        assert set(mine) == set(row)
        assert np.isfinite(row["mode_tv"]) and np.isfinite(row["sliced_w2"]) and np.isfinite(row["ksd"])


def test_a_network_is_trained_and_weighted() -> None:
    network = rdmc.distill(result(), training=Training(steps=300), progressbar=False)
    x = network.sample(2_000, seed=1)
    share = float((TARGET.mode_of(x.cpu()) == 0).double().mean())
    assert x.device.type == "cuda" and abs(share - 2.0 / 3.0) < 0.1
    weighted = network.weights(TARGET, 1_000)
    assert 0.2 < float(weighted.ess) / 1_000.0 <= 1.0


@pytest.mark.parametrize("sampler", [rdmc.Guidance(prior, 1.0), rdmc.PowerPosterior(rdmc.Guidance(prior, 0.5))])
def test_two_densities(sampler: Any) -> None:
    run = rdmc.sample(posterior, 2, draws=200, chains=2, sampler=sampler, device=CUDA, progressbar=False)
    assert run.samples.device == CUDA and bool(torch.isfinite(run.samples).all())
    assert 0.5 < float((run.samples[..., 0] > 0).double().mean()) < 1.0


@pytest.mark.parametrize("name", ["nuts", "tempered-smc"])
def test_what_runs_in_jax_takes_a_density_on_the_gpu(name: str) -> None:
    pytest.importorskip("blackjax")
    run = rdmc.sample(targets.two_modes(2), draws=10, chains=2, sampler=name, device=CUDA, progressbar=False)
    assert run.samples.shape == (2, 10, 2) and bool(torch.isfinite(run.samples).all())
