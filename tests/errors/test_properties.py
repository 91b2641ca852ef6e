"""What every run promises whatever its shape, seed, sampler and type: hypothesis chooses."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import rdmc
from rdmc.baselines import AnnealedLangevin, LongChains
from rdmc.density import as_density
from rdmc.errors import DensityError
from rdmc.kernels import HMC, MALA, ULA
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.reverse import RDMC
from tests.errors.bad_day import normal
from tests.quick import QUICK

SAMPLERS: dict[str, Any] = {
    "auto": QUICK,
    "rdmc": RDMC(),
    "mala": LongChains(MALA(), budget=20),
    "ula": LongChains(ULA(step_size=0.1), budget=20),
    "hmc": LongChains(HMC(leapfrogs=3), budget=20),
    "annealed-langevin": AnnealedLangevin(budget=60),
}


def chosen(examples: int) -> Any:
    """The same examples each time; none is made smaller, for a run is a run."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


ALONE = ("auto", "rdmc", "annealed-langevin")
"""Samplers whose populations run one by one, and so give the same bits beside others too."""


class Pair:
    """Two normals of different widths and weights, which counts the points it is asked about."""

    def __init__(self, dim: int, shift: Tensor | None = None) -> None:
        self.dim, self.points = dim, 0
        self.shift = torch.zeros(dim, dtype=torch.float64) if shift is None else shift

    def __call__(self, x: Tensor) -> Tensor:
        self.points += len(x)
        z = x - self.shift.to(x)
        away = z - 3.0 / self.dim**0.5
        return torch.logaddexp(normal(z), normal(away / 0.5) - 0.5)


def state() -> list[Any]:
    """All that is global and random, and torch's defaults."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return [
        torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        (name, keys.tolist(), *rest),
        random.getstate(),
    ]


runs = {
    "dim": st.integers(1, 6),
    "draws": st.integers(1, 40),
    "chains": st.integers(1, 4),
    "seed": st.integers(0, 2**64),
    "sampler": st.sampled_from(sorted(SAMPLERS)),
    "dtype": st.sampled_from([torch.float64, torch.float32]),
}


@given(**runs)
@chosen(5)
def test_every_run(dim: int, draws: int, chains: int, seed: int, sampler: str, dtype: torch.dtype) -> None:
    """Shapes, values, counts, bits, nothing global, and a file that gives all of it back."""
    target, before = Pair(dim), state()

    def once(chains: int) -> rdmc.Result:
        return rdmc.sample(target, dim, draws, chains, SAMPLERS[sampler], seed, dtype=dtype, progressbar=False)

    result = once(chains)
    assert result.gradient_evaluations > 0 and result.density_evaluations > 0
    assert result.gradient_evaluations + result.density_evaluations == target.points
    assert state() == before
    assert result.samples.shape == (chains, draws, dim) and result.samples.dtype == dtype
    assert bool(torch.isfinite(result.samples).all()) and bool(torch.isfinite(result.log_density).all())
    again = target(result.samples.flatten(0, 1)).view(chains, draws)
    tolerance = 1e3 * torch.finfo(dtype).eps
    assert torch.allclose(result.log_density, again, rtol=tolerance, atol=tolerance)
    more = once(chains + (sampler in ALONE))
    assert torch.equal(more.samples[:chains], result.samples)
    assert all(not torch.equal(one, more.samples[0]) for one in more.samples[1:])
    with tempfile.TemporaryDirectory() as folder:
        loaded = rdmc.load(result.save(Path(folder) / "run.npz"))
    assert torch.equal(loaded.samples, result.samples) and torch.equal(loaded.log_density, result.log_density)
    assert loaded.check() == result.check() and repr(loaded) == repr(result) and loaded.seed == seed
    assert loaded.gradient_evaluations == result.gradient_evaluations


def knowing(sampler: str, dim: int, centre: Tensor) -> Any:
    """The sampler with what it may know beforehand, in place of a pilot whose first points stand about the origin."""
    eye = torch.eye(dim, dtype=torch.float64)
    mixture = GaussianMixture(
        torch.zeros(1, dtype=torch.float64), centre[None], eye[None], torch.full((1, dim), 2.0, dtype=torch.float64)
    )
    pilot = Known(mixture)
    if sampler == "rdmc":
        return RDMC(pilot=pilot)
    return LongChains(MALA() if sampler == "mala" else HMC(leapfrogs=3), budget=20, pilot=pilot)


@given(
    dim=st.integers(1, 4),
    seed=st.integers(0, 1000),
    sampler=st.sampled_from(["rdmc", "mala", "hmc"]),
    size=st.sampled_from([0.5, 8.0, 1024.0]),
)
@chosen(6)
def test_draws_move_with_the_target(dim: int, seed: int, sampler: str, size: float) -> None:
    """A sampler that is told where to begin does the same wherever that is; in a short run, before chains spread rounding."""
    shift = size * (torch.arange(dim, dtype=torch.float64) - 0.75)
    here, there = (
        rdmc.sample(Pair(dim, centre), dim, 4, 2, knowing(sampler, dim, centre), seed, progressbar=False)
        for centre in (torch.zeros(dim, dtype=torch.float64), shift)
    )
    assert here.gradient_evaluations == there.gradient_evaluations
    assert torch.allclose(there.samples - shift, here.samples, rtol=0.0, atol=1e-6)
    assert not torch.allclose(there.samples, here.samples, rtol=0.0, atol=1e-3)


@given(dim=st.integers(1, 6), shape=st.lists(st.integers(1, 5), max_size=3))
@chosen(60)
def test_any_other_shape_is_refused_by_name(dim: int, shape: list[int]) -> None:
    """A value of a fixed shape is right for no batch of another size, whatever the shape."""
    count = 7
    x = torch.randn(count, dim, generator=torch.Generator().manual_seed(dim), dtype=torch.float64)
    density = as_density(lambda x: 0.0 * x.sum() + torch.zeros(shape, dtype=x.dtype), dim)
    if not shape:  # one number: a function of one point
        assert density.check(x)(x).shape == (count,)
        return
    with pytest.raises(
        DensityError, match=r"`log_density` must map a batch \(M, d\) to \(M,\).* wanted \(\d+,\), got \("
    ):
        density.check(x)


bad = st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.integers(max_value=-1))


@given(name=st.sampled_from(["draws", "chains", "seed", "dim"]), value=bad)
@chosen(80)
def test_what_is_no_count_is_refused_by_name(name: str, value: Any) -> None:
    if name == "dim" and value is None:
        return
    options: dict[str, Any] = {"dim": 2, name: value}
    with pytest.raises(ValueError, match=rf"`{name}` must be .*integer.*, got "):
        rdmc.sample(normal, progressbar=False, **options)
