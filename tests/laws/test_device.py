"""Nothing between two gradients waits for the device: all runs on `meta`, where a tensor has no values to read back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rdmc.inner import InnerSampler
from rdmc.kernels import MALA, Dense, Diagonal, Info, Isotropic, Metric, State
from rdmc.mixture import GaussianMixture
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams
from rdmc.score import ScoreEstimator, Tweedie
from rdmc.typing import BatchedDensity
from tests.laws.cases import (
    ESTIMATORS,
    INNER,
    KERNELS,
    InnerCase,
    KernelCase,
    as_target,
    bimodal,
    name_of,
    near_skewed,
    surrogate,
)
from tests.marks import slow

META = torch.device("meta")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
B, D = 5, 2


def moved(mixture: GaussianMixture, dtype: torch.dtype, device: torch.device = META) -> GaussianMixture:
    """The mixture elsewhere."""
    parts = (mixture.log_weight, mixture.mean, mixture.basis, mixture.variance)
    return GaussianMixture(*(part.to(device, dtype) for part in parts))


def posterior(dtype: torch.dtype, device: torch.device = META) -> InnerPosterior:
    """q without values."""
    x_t = torch.zeros(B, D, dtype=dtype, device=device)
    return InnerPosterior(
        as_target(moved(bimodal(D), dtype, device)), x_t, 0.8, 0.7, moved(surrogate(D), dtype, device)
    )


def streams(dtype: torch.dtype, device: torch.device = META) -> Streams:
    """Two shards."""
    return Streams.seeded(0, [2, 3], [(0,), (1,)], dtype=dtype, device=device)


def metric_on_meta(metric: Metric, dtype: torch.dtype) -> Metric:
    """The metric elsewhere."""
    if isinstance(metric, Diagonal):
        return Diagonal(metric.scale.to(META, dtype))
    return Dense(metric.factor.to(META, dtype)) if isinstance(metric, Dense) else metric


def short(sampler: InnerSampler) -> InnerSampler:
    """The same sampler with few steps: operations on `meta` are slow, and a second step shows what a tenth would."""
    most = {"burn_in": 1, "steps": 2, "temperatures": 2, "rounds": 2}
    changes: dict[str, object] = {}
    for field in dataclasses.fields(sampler):  # type: ignore[arg-type]
        value = getattr(sampler, field.name)
        if field.name in most:
            changes[field.name] = min(value, most[field.name])
        elif hasattr(value, "draw"):
            changes[field.name] = short(value)
    return dataclasses.replace(sampler, **changes)  # type: ignore[type-var]


@DTYPES
@pytest.mark.parametrize("case", KERNELS, ids=name_of)
def test_a_step_and_its_adaptation(case: KernelCase, dtype: torch.dtype) -> None:
    q, rng = posterior(dtype), streams(dtype)
    kernel = case.kernel(moved(near_skewed(D), dtype))
    state = kernel.init(q, torch.zeros(3, B, D, dtype=dtype, device=META))
    tuning = kernel.tuning(state, rng)
    for _ in range(2):
        state, info = kernel.step(q, state, rng, tuning, metric_on_meta(case.metric(D), dtype))
        tuning = kernel.adapt(tuning, info, 0.5)
    shapes = [(part.shape, part.device, part.dtype) for part in (*state, info.acceptance)]
    assert shapes == [(s, META, dtype) for s in ((3, B, D), (3, B), (3, B, D), (3, B))]
    assert info.nonfinite.shape == (3, B) and tuning.device == META


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        (META, torch.float32),
        (torch.device("cpu"), torch.float64),
        *slow((META, torch.float64), (torch.device("cpu"), torch.float32)),
    ],
    ids=str,
)
@pytest.mark.parametrize("case", INNER, ids=name_of)
def test_inner_draws(case: InnerCase, device: torch.device, dtype: torch.dtype) -> None:
    sampler = short(case.sampler) if device == META else case.sampler
    q, rng = posterior(dtype, device), streams(dtype, device)
    first = sampler.draw(q, rng, None)
    later = sampler.draw(dataclasses.replace(q, sigma=0.6), rng, first.warm)
    for drawn in (first, later):
        n = drawn.x_0.shape[0]
        assert drawn.x_0.shape == (n, B, D) and drawn.draw.shape == (B, D) and drawn.weight.shape == (n, B)
        assert drawn.grad is None or drawn.grad.shape == (n, B, D)
        assert drawn.nonfinite.shape == () and drawn.ess.shape == (B,)
        for accepted in (drawn.acceptance, drawn.jump_acceptance):
            assert accepted is None or accepted.shape == (B,)
        parts = (
            drawn.x_0,
            drawn.draw,
            drawn.weight,
            drawn.grad,
            drawn.acceptance,
            drawn.nonfinite,
            drawn.ess,
            *drawn.warm,
        )
        assert all((part.device, part.dtype) == (device, dtype) for part in parts if isinstance(part, Tensor))
        assert drawn.average_variance(drawn.x_0).shape == (B, D)


@DTYPES
@pytest.mark.parametrize("name", ["importance", "importance-gradients", "chains-mala", "chains-hmc", "guided"])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_score_estimates(estimator: ScoreEstimator, name: str, dtype: torch.dtype) -> None:
    q = posterior(dtype)
    sampler = short(next(case.sampler for case in INNER if case.name == name))
    drawn = sampler.draw(q, streams(dtype), None)
    if drawn.grad is None and not isinstance(estimator, Tweedie):
        with pytest.raises(ValueError, match="grad=None"):
            estimator(q, drawn)
        return
    got = estimator(q, drawn)
    assert [part.shape for part in got] == [(B, D), (B, D), (B, D), (B,)]
    assert all((part.device, part.dtype) == (META, dtype) for part in got)


@dataclass(frozen=True)
class Reads:
    """Negative control: MALA that reads a value back."""

    how: str

    def step(self, f: BatchedDensity, state: State, rng: Streams, tuning: Tensor, metric: Metric) -> tuple[State, Info]:
        """One transition, and a look at it."""
        state, info = MALA().step(f, state, rng, tuning, metric)
        if self.how == "item":
            info.acceptance.mean().item()
        elif self.how == "bool":
            assert info.nonfinite.any() or True
        elif self.how == "float":
            float(info.acceptance.mean())
        elif self.how == "tolist":
            info.acceptance.tolist()
        elif self.how == "mask":
            state = state._replace(x=state.x[info.nonfinite])
        else:
            torch.nonzero(info.nonfinite)
        return state, info


@pytest.mark.parametrize("how", ["item", "bool", "float", "tolist", "mask", "nonzero"])
def test_a_kernel_that_waits_for_the_device_fails_here(how: str) -> None:
    q, rng = posterior(torch.float64), streams(torch.float64)
    state = MALA().init(q, torch.zeros(3, B, D, dtype=torch.float64, device=META))
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta|data-dependent|nonzero|item"):
        Reads(how).step(q, state, rng, MALA().tuning(state, rng), Isotropic(1.0))


def test_samplers_are_values() -> None:
    for case in INNER:
        sampler: InnerSampler = case.sampler
        assert sampler == dataclasses.replace(sampler) and hash(sampler) == hash(dataclasses.replace(sampler))  # type: ignore[type-var]
