"""Laws of steps. On a Gaussian with exact estimates a step is affine, so its law is computed, not sampled.

A missing factor 2 on the score, sigma_t for sigma_s or a wrong r shifts the limit or costs an order: the order test
sees each of them, and :func:`test_the_harness_sees_a_lost_factor_two` shows that it can fail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from rdmc.grid import Grid, LinearGrid, LogSNRGrid, PolynomialGrid
from rdmc.process import EDM, OU, VE, VP, ForwardProcess
from rdmc.rate import GeometricRate, LinearRate
from rdmc.steps import (
    Ancestral,
    Bridge,
    Denoiser,
    Estimate,
    EulerMaruyama,
    Exponential,
    Heun,
    Memory,
    Multistep,
    Step,
)
from tests.exact.gaussian import Gaussian, distance, measured_order, push

F64 = torch.float64
TARGET = Gaussian(torch.tensor([1.5, -0.7], dtype=F64), torch.tensor([[0.6, 0.25], [0.25, 0.4]], dtype=F64))
STEPS: list[Step] = [EulerMaruyama(), Exponential(), Ancestral(), Bridge(), Heun(), Multistep()]
DISCRETE = [step for step in STEPS if math.isfinite(step.order)]
ONE_STEP = [step for step in STEPS if not isinstance(step, Multistep)]
CASES: list[tuple[ForwardProcess, float]] = [
    (OU(3.0), 0.05),
    (VP(LinearRate(0.1, 20.0, horizon=1.0), 1.0), 0.05),
    (VE(GeometricRate(0.05, 5.0, horizon=1.0), 1.0), 0.3),
    (EDM(5.0), 0.1),
]
B, D = 5, 2

steps = pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
cases = pytest.mark.parametrize(("process", "end"), CASES, ids=lambda case: type(case).__name__)


def _errors(step: Step, process: ForwardProcess, grids: list[Grid]) -> list[float]:
    laws = [(push(step, process, times, TARGET), times[-1]) for times in (grid.times(process) for grid in grids)]
    return [distance(law, TARGET.marginal(process, end)) for law, end in laws]


def _inputs(seed: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_t, noise = torch.randn(2, B, D, dtype=F64, generator=generator)
    return x_t, noise


def _memory(step: Step, process: ForwardProcess, t: float) -> Memory | None:
    return Memory(_inputs(seed=7)[0], process.log_snr(1.2 * t)) if isinstance(step, Multistep) else None


@cases
@pytest.mark.parametrize("rho", [math.inf, 7.0])
@pytest.mark.parametrize("step", DISCRETE, ids=lambda step: type(step).__name__)
def test_measured_order_is_the_declared_one(step: Step, rho: float, process: ForwardProcess, end: float) -> None:
    grids: list[Grid] = [
        LogSNRGrid(levels, end) if math.isinf(rho) else PolynomialGrid(levels, end, rho) for levels in (128, 256)
    ]
    errors = _errors(step, process, grids)
    order = measured_order(errors)
    assert abs(order - step.order) < 0.2, f"{step} on {process}: errors {errors}, order {order:.3f}, not {step.order}"
    assert errors[-1] < 0.05


@pytest.mark.parametrize("step", [Heun(), Multistep()])
@pytest.mark.parametrize(("process", "end"), CASES[:2])
def test_second_order_on_an_irregular_grid(step: Step, process: ForwardProcess, end: float) -> None:
    """Steps of log-SNR in the proportion 1 : 3 : 1 : 3 ..., so that no cancellation between equal steps can help."""

    def times(levels: int) -> list[float]:
        fine = LogSNRGrid(2 * levels, end).times(process)
        return [t for k, t in enumerate(fine) if k % 4 in (0, 1)]

    errors = [distance(push(step, process, times(k), TARGET), TARGET.marginal(process, end)) for k in (128, 256)]
    assert abs(measured_order(errors) - 2.0) < 0.2, errors


@cases
@pytest.mark.parametrize("levels", [1, 2, 5])
@pytest.mark.parametrize("kind", [LinearGrid, LogSNRGrid, PolynomialGrid])
def test_bridge_has_no_discretisation_error(
    kind: type[LinearGrid] | type[LogSNRGrid] | type[PolynomialGrid], levels: int, process: ForwardProcess, end: float
) -> None:
    (error,) = _errors(Bridge(), process, [kind(levels, end)])
    assert error < 1e-12


@cases
def test_bridge_reaches_the_data_exactly(process: ForwardProcess, end: float) -> None:
    for grid in (LinearGrid(1, 0.0), LinearGrid(3, 0.0), PolynomialGrid(4, 0.0)):
        assert _errors(Bridge(), process, [grid])[0] < 1e-12


@cases
def test_exponential_and_ancestral_err_on_opposite_sides(process: ForwardProcess, end: float) -> None:
    times = LogSNRGrid(32, end).times(process)
    truth = TARGET.marginal(process, end).cov.trace()
    too_large, too_small = (push(step, process, times, TARGET).cov.trace() for step in (Exponential(), Ancestral()))
    assert too_large > truth > too_small


@dataclass(frozen=True)
class _HalfScore:
    """The published bug: the score enters once, not twice."""

    step: Step
    order: ClassVar[float] = 1
    estimates: ClassVar[int] = 1

    def __call__(
        self,
        process: ForwardProcess,
        denoise: Denoiser,
        x_t: Tensor,
        t: float,
        s: float,
        noise: Tensor,
        memory: Memory | None,
    ) -> tuple[Tensor, Memory | None]:
        def half(x: Tensor, u: float) -> Estimate:
            estimate = denoise(x, u)
            return estimate._replace(score=0.5 * estimate.score)

        return self.step(process, half, x_t, t, s, noise, memory)


@cases
@pytest.mark.parametrize("step", [EulerMaruyama(), Exponential()])
def test_the_harness_sees_a_lost_factor_two(step: Step, process: ForwardProcess, end: float) -> None:
    errors = _errors(_HalfScore(step), process, [LogSNRGrid(levels, end) for levels in (64, 128)])
    assert errors[-1] > 0.1
    assert measured_order(errors) < 0.3


def test_exponential_is_the_formula_of_the_design_for_ou() -> None:
    (x_t, noise), (score, _) = _inputs(), _inputs(seed=11)
    t, h = 1.7, 0.6
    x_s, _ = Exponential()(OU(3.0), lambda x, u: Estimate(x, score, x), x_t, t, t - h, noise, None)
    wanted = math.exp(h) * x_t + 2.0 * (math.exp(h) - 1.0) * score + math.sqrt(math.exp(2.0 * h) - 1.0) * noise
    torch.testing.assert_close(x_s, wanted, rtol=1e-13, atol=1e-13)


def test_euler_maruyama_is_its_formula_for_ou() -> None:
    (x_t, noise), (score, _) = _inputs(), _inputs(seed=11)
    x_s, _ = EulerMaruyama()(OU(3.0), lambda x, u: Estimate(x, score, x), x_t, 1.7, 1.1, noise, None)
    torch.testing.assert_close(x_s, x_t + 0.6 * (x_t + 2.0 * score) + math.sqrt(1.2) * noise, rtol=1e-13, atol=1e-13)


@cases
def test_multistep_extrapolates_the_mean_to_the_middle_of_the_step(process: ForwardProcess, end: float) -> None:
    """A mean that is linear in lambda must be used at lambda_t + h/2, whatever the last step's length.

    The order cannot see this: with r upside down the errors telescope and the method stays at order 2.
    """
    t_prev, t, s = process.horizon, 0.6 * process.horizon, 0.5 * process.horizon
    x_t, noise = _inputs()

    def lam(u: float) -> float:
        return math.log(process.alpha(u) / process.sigma(u))

    def mean(lam_u: float) -> Tensor:
        return torch.full_like(x_t, 0.3) + 1.7 * lam_u

    def denoise(x: Tensor, u: float) -> Estimate:
        return Estimate(mean(lam(u)), x, x)

    _, memory = Multistep()(process, denoise, x_t, t_prev, t, noise, None)
    x_s, memory = Multistep()(process, denoise, x_t, t, s, noise, memory)
    middle = mean(0.5 * (lam(t) + lam(s)))
    ratio = process.sigma(s) / process.sigma(t)
    wanted = ratio * x_t + (process.alpha(s) - ratio * process.alpha(t)) * middle
    torch.testing.assert_close(x_s, wanted, rtol=1e-10, atol=1e-10)
    assert memory is not None
    assert memory.log_snr == process.log_snr(t)
    torch.testing.assert_close(memory.mean, mean(lam(t)))


@cases
def test_the_first_multistep_step_is_euler_in_noise_to_signal(process: ForwardProcess, end: float) -> None:
    t, s = 0.8 * process.horizon, 0.5 * process.horizon
    (x_t, noise), (mean, _) = _inputs(), _inputs(seed=11)
    x_s, _ = Multistep()(process, lambda x, u: Estimate(mean, x, x), x_t, t, s, noise, None)
    n_t, n_s = process.sigma(t) / process.alpha(t), process.sigma(s) / process.alpha(s)
    y_t = x_t / process.alpha(t)
    wanted = process.alpha(s) * (y_t + (n_s - n_t) * (y_t - mean) / n_t)
    torch.testing.assert_close(x_s, wanted, rtol=1e-12, atol=1e-12)


@cases
@steps
def test_the_last_step_reaches_the_data(step: Step, process: ForwardProcess, end: float) -> None:
    x_t, noise = _inputs()
    denoise = TARGET.denoiser(process, draw_noise=noise)
    x_0, _ = step(process, denoise, x_t, end, 0.0, noise, _memory(step, process, end))
    estimate = denoise(x_t, end)
    assert x_0.isfinite().all()
    if not isinstance(step, (EulerMaruyama, Exponential)):
        torch.testing.assert_close(x_0, estimate.draw if isinstance(step, Bridge) else estimate.mean)


@cases
@steps
def test_a_batch_is_its_particles_and_no_argument_changes(step: Step, process: ForwardProcess, end: float) -> None:
    t = 0.7 * process.horizon
    x_t, noise = _inputs()
    memory = _memory(step, process, t)
    kept = [value.clone() for value in (x_t, noise, *(memory[:1] if memory else ()))]
    x_s, _ = step(process, TARGET.denoiser(process), x_t, t, end, noise, memory)
    for kept_value, value in zip(kept, (x_t, noise, *(memory[:1] if memory else ())), strict=True):
        assert torch.equal(kept_value, value)
    for i in range(B):
        one = slice(i, i + 1)
        own = Memory(memory.mean[one], memory.log_snr) if memory else None
        alone, _ = step(process, TARGET.denoiser(process), x_t[one], t, end, noise[one], own)
        torch.testing.assert_close(alone, x_s[one], rtol=1e-13, atol=1e-13)


@cases
@steps
def test_estimates_is_the_number_of_denoiser_calls(step: Step, process: ForwardProcess, end: float) -> None:
    calls: list[float] = []
    exact = TARGET.denoiser(process)

    def denoise(x: Tensor, t: float) -> Estimate:
        calls.append(t)
        return exact(x, t)

    x_t, noise = _inputs()
    step(process, denoise, x_t, process.horizon, end, noise, None)
    assert len(calls) == step.estimates
    assert calls[0] == process.horizon


@cases
@steps
def test_runs_on_the_meta_device_and_keeps_the_dtype(step: Step, process: ForwardProcess, end: float) -> None:
    x_t = torch.empty(B, D, dtype=torch.float32, device="meta")
    memory = Memory(x_t, process.log_snr(process.horizon)) if isinstance(step, Multistep) else None
    t = 0.5 * process.horizon
    x_s, _ = step(process, lambda x, u: Estimate(x, x, x), x_t, t, end, x_t, memory)
    assert (x_s.shape, x_s.dtype, x_s.device.type) == ((B, D), torch.float32, "meta")


@pytest.mark.parametrize("step", ONE_STEP, ids=lambda step: type(step).__name__)
def test_one_step_methods_carry_nothing(step: Step) -> None:
    x_t, noise = _inputs()
    process = OU(3.0)
    with_memory = step(process, TARGET.denoiser(process), x_t, 1.0, 0.5, noise, Memory(noise, 0.3))
    without = step(process, TARGET.denoiser(process), x_t, 1.0, 0.5, noise, None)
    assert with_memory[1] is None
    assert torch.equal(with_memory[0], without[0])


@pytest.mark.parametrize("step", [Heun(), Multistep()])
def test_deterministic_steps_ignore_the_noise(step: Step) -> None:
    x_t, noise = _inputs()
    process = OU(3.0)
    results = [step(process, TARGET.denoiser(process), x_t, 1.0, 0.5, z, None)[0] for z in (noise, 9.0 * noise)]
    assert torch.equal(*results)


@pytest.mark.parametrize("step", [Exponential(), Ancestral(), Bridge()])
def test_errors_when_the_clock_runs_the_wrong_way(step: Step) -> None:
    x_t, noise = _inputs()
    with pytest.raises(ValueError, match=r"`t` and `s` must satisfy 0 <= s < t .* got t = 1.0, s = 1.5"):
        step(OU(3.0), TARGET.denoiser(OU(3.0)), x_t, 1.0, 1.5, noise, None)
