"""The entry point on good days and bad ones."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import rdmc
import targets
from rdmc.baselines import LongChains
from rdmc.diagnostics.rules import PAGE
from rdmc.errors import (
    DensityError,
    ImproperDensityError,
    NonFiniteDensityError,
    SamplingWarning,
    SamplingWarningError,
)
from rdmc.inner import GuidedChains
from rdmc.kernels import HMC, MALA, ULA
from rdmc.reverse import RDMC
from rdmc.rng import SHARD_SIZE
from tests.marks import slow
from tests.quick import QUICK
from tests.stats import assert_within

ROOT = Path(__file__).resolve().parents[2]


def normal(x: Tensor) -> Tensor:
    return -0.5 * x.square().sum(-1)


def run(log_density: object, **options: object) -> rdmc.Result:
    options = {"dim": 2, "draws": 40, "sampler": "rdmc", "progressbar": False, **options}
    return rdmc.sample(log_density, **options)  # type: ignore[arg-type]


CHEAP = ["auto", "rdmc", "mala", *slow("ula", "hmc")]
SHORT = LongChains(ULA(), budget=15)


@pytest.mark.parametrize("sampler", CHEAP)
def test_every_result_keeps_the_contract(sampler: str) -> None:
    target = targets.two_modes(3)
    result = rdmc.sample(target, draws=30, chains=3, sampler=sampler, seed=5, progressbar=False)
    assert result.samples.shape == (3, 30, 3) and result.samples.dtype == torch.float64
    assert torch.equal(result.log_density, target.log_density(result.samples.reshape(-1, 3)).reshape(3, 30))
    assert result.gradient_evaluations > 0 and result.seconds > 0 and result.seed == 5 and not result.partial
    assert {"location", "weight", "weight_mcse", "chains_found"} <= set(result.modes.columns)
    assert isinstance(result.check(), list) and sampler in result.summary()
    assert math.isclose(sum(result.modes["weight"]), 1.0)


@pytest.mark.parametrize("sampler", CHEAP)
def test_a_seed_fixes_the_bits_and_nothing_global_is_touched(sampler: str) -> None:
    before, dtype = torch.get_rng_state(), torch.get_default_dtype()
    python_side = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (run(normal, sampler=sampler, seed=s, draws=10).samples for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_default_dtype() == dtype
    assert (np.random.get_state()[1] == python_side).all()  # noqa: NPY002


def test_a_population_does_not_depend_on_the_others_nor_a_shard_on_the_next() -> None:
    one = run(normal, chains=1, draws=SHARD_SIZE)
    assert torch.equal(run(normal, chains=2, draws=SHARD_SIZE).samples[0], one.samples[0])
    assert torch.equal(run(normal, chains=1, draws=SHARD_SIZE + 7).samples[0, :SHARD_SIZE], one.samples[0])


def test_everything_is_counted() -> None:
    seen = [0]

    def counted(x: Tensor) -> Tensor:
        seen[0] += x.shape[0] if x.ndim == 2 else 1
        return normal(x)

    result = run(counted)
    assert result.gradient_evaluations + result.density_evaluations == seen[0]


def test_a_function_of_one_point_is_mapped() -> None:
    per_point = run(lambda x: -0.5 * (x[0] ** 2 + x[1] ** 2), seed=2)
    assert torch.allclose(per_point.samples, run(normal, seed=2).samples)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_honoured(dtype: torch.dtype) -> None:
    assert run(normal, dtype=dtype).samples.dtype == dtype


@pytest.mark.parametrize(
    ("kernel", "allowance"),
    [(MALA(), 0.0), *slow((HMC(), 0.0), (ULA(step_size=0.05), 0.06))],
    ids=lambda v: type(v).__name__,
)
def test_long_chains_have_the_right_moments(kernel: object, allowance: float) -> None:
    """ULA's allowance is its bias on this target at this step, 1/(1 - h/2) - 1 in variance and its skewness."""
    result = rdmc.sample(
        lambda x: (x - x.exp()).sum(-1),
        dim=3,
        draws=200,
        chains=24,
        sampler=LongChains(kernel, budget=40, pilot=QUICK.pilot),  # type: ignore[arg-type]
        progressbar=False,
    )
    assert result.gradient_evaluations / (200 * 24) < 45
    means = result.samples.mean(1)  # chains are independent, so their spread is the error
    assert_within(means.mean(0), -0.5772156649015329, means.std(0) / 24**0.5, allowance=allowance)
    variances = result.samples.var(1)
    assert_within(variances.mean(0), torch.pi**2 / 6, variances.std(0) / 24**0.5, allowance=3 * allowance)


@pytest.mark.parametrize("before", [42, *slow(30, 33, 36, 39, 45, 48, 51, 54, 57)])
def test_ctrl_c_returns_what_is_there(before: int) -> None:
    """At whatever call of the last few dozen it comes: in the middle of a level, between levels, between batches."""
    calls, last = [0], [math.inf]

    def interrupted(x: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == last[0]:
            raise KeyboardInterrupt
        return normal(x)

    run(interrupted, chains=8)
    calls[0], last[0] = 0, calls[0] - before
    result = run(interrupted, chains=8)
    assert result.partial and 0 < result.chains <= 8 and any("interrupted" in problem for problem in result.check())
    assert bool(torch.isfinite(result.samples).all())


def test_a_hole_is_rejected_counted_and_told() -> None:
    """NaN in a thin slab: the law outside is right, and check() says what happened."""
    slab = run(lambda x: torch.where((x[..., 0] - 2.5).abs() < 0.05, torch.nan, normal(x)), draws=500)
    assert bool(torch.isfinite(slab.samples).all())
    assert any("NaN" in problem for problem in slab.check())
    x = slab.samples.flatten(0, 1)
    assert_within(x.mean(0), 0.0, x.std(0) / len(x) ** 0.5, allowance=0.01)


def test_the_edge_of_a_support_is_legal() -> None:
    """An exponential on x > 0 with -inf outside, the mode at the edge: the mean is 1."""
    sampler = RDMC(inner=GuidedChains(rounds=8))
    result = run(lambda x: torch.where((x > 0).all(-1), -x.sum(-1), -torch.inf), draws=1000, dim=1, sampler=sampler)
    x = result.samples.flatten(0, 1)
    assert bool((x > 0).all())
    assert_within(x.mean(0), 1.0, x.std(0) / len(x) ** 0.5, allowance=0.1)
    assert not any("NaN" in problem for problem in result.check())


def test_draws_outside_the_support_are_told() -> None:
    result = run(lambda x: torch.where((x > 0).all(-1), -x.sum(-1), -torch.inf), draws=500, dim=4)
    outside = int((result.log_density == -torch.inf).sum())
    assert outside > 0 and any(f"{outside} of 2000 draws lie outside" in problem for problem in result.check())


def test_nan_on_half_the_space_is_refused() -> None:
    with pytest.raises(NonFiniteDensityError, match=r"NaN or \+inf at .* evaluations") as caught:
        run(lambda x: torch.where(x[..., 0] > 0.3, torch.nan, normal(x)), draws=100)
    assert caught.value.t is not None and caught.value.points is not None and caught.value.points.shape[1] == 2


@pytest.mark.parametrize("f", [lambda x: 0.5 * x.square().sum(-1), lambda x: x.sum(-1)], ids=["growing", "linear"])
def test_an_improper_density_is_named(f: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ImproperDensityError, match="finite mass"):
        run(f)


def test_a_density_without_support_is_named() -> None:
    with pytest.raises(DensityError, match="finite at some of the"):
        run(lambda x: x.sum(-1) * 0.0 - torch.inf)


def test_strict_raises_with_the_result() -> None:
    with pytest.raises(SamplingWarningError) as caught:
        rdmc.sample(targets.two_modes(8), draws=50, sampler=SHORT, progressbar=False, strict=True)
    assert caught.value.result.samples.shape == (4, 50, 8)  # type: ignore[attr-defined]


def test_whoever_watches_is_told_once_with_remedy_and_page() -> None:
    options = {"draws": 50, "sampler": SHORT}
    with pytest.warns(SamplingWarning) as told:
        result = rdmc.sample(targets.two_modes(8), progressbar=True, **options)
    assert len(told) == 1 and told[0].filename == __file__
    text = str(told[0].message)
    sections = set(re.findall(r"^### (\w+)", (ROOT / PAGE).read_text(), flags=re.MULTILINE))
    anchors = re.findall(rf"\({PAGE}#(\w+)\)", text)
    assert len(anchors) == len(result.check()) > 0 and set(anchors) <= sections
    assert all(problem in text for problem in result.check())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rdmc.sample(targets.two_modes(8), progressbar=False, **options)
        rdmc.sample(targets.two_modes(8), draws=100, progressbar=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "`draws` must be an integer of at least 1, got 0"),
        ({"chains": -1}, "`chains` must be an integer of at least 1, got -1"),
        ({"seed": -1}, "`seed` must be an integer of at least 0, got -1"),
        ({"seed": 1.5}, "`seed` must be an integer of at least 0, got 1.5"),
        ({"sampler": "nutz"}, "`sampler` must be a sampler object or one of"),
        ({"sampler": object()}, "`sampler` must be a sampler object or one of"),
        ({"dim": None}, "`dim` is required for a bare callable"),
        ({"dim": 0}, "`dim` must be a positive integer, got 0"),
        ({"dtype": torch.int64}, "`dtype` must be a real floating type"),
        ({"names": ("a",)}, "names"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(normal, **options)


def test_names_reach_arviz() -> None:
    pytest.importorskip("arviz")
    data = run(normal, names=("a", "b")).to_arviz()
    group = data["posterior"]
    assert {"a", "b"} <= set(group.data_vars)
