"""Laws of rates and forward processes: integrals against quadrature, moments against their equations, exact pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from rdmc.process import EDM, OU, VE, VP, ForwardProcess, VarianceExploding, VariancePreserving
from rdmc.rate import ConstantRate, GeometricRate, LinearRate, QuadratureRate, Rate

RATES: list[tuple[Rate, float]] = [
    (ConstantRate(1.3), 4.0),
    (LinearRate(0.1, 20.0, horizon=1.0), 1.0),
    (LinearRate(3.0, 0.5, horizon=2.0), 2.0),
    (LinearRate(0.0, 2.0, horizon=1.0), 5.0),
    (GeometricRate(0.05, 5.0, horizon=2.0), 2.0),
    (QuadratureRate(lambda t: 0.5 + math.cos(t) ** 2, horizon=2.5), 2.5),
]
PROCESSES: list[ForwardProcess] = [
    OU(3.0),
    VP(ConstantRate(1.3), 4.0),
    VP(LinearRate(0.1, 20.0, horizon=1.0), 1.0),
    VP(LinearRate(3.0, 0.5, horizon=2.0), 2.0),
    VP(QuadratureRate(lambda t: 0.5 + math.cos(t) ** 2, horizon=2.5), 2.5),
    VE(GeometricRate(0.05, 5.0, horizon=2.0), 2.0),
    VE(LinearRate(0.2, 3.0, horizon=1.5), 1.5),
    EDM(7.0),
]
PAIRS = [(1.0, 0.9), (1.0, 0.0), (0.6, 0.05), (0.3, 0.299), (1e-3, 1e-4)]  # (t, s) as fractions of the horizon

rates = pytest.mark.parametrize(("rate", "horizon"), RATES, ids=lambda case: repr(case)[:40])
processes = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: repr(process)[:50])
pairs = pytest.mark.parametrize(("t", "s"), PAIRS)


@rates
def test_integral_is_the_integral_of_the_rate(rate: Rate, horizon: float) -> None:
    assert rate.integral(0.0) == 0.0
    for t in np.linspace(0.01, 1.0, 7) * horizon:
        assert rate.integral(float(t)) == pytest.approx(quad(rate, 0.0, t, epsrel=1e-12)[0], rel=1e-10)


@rates
def test_inverse_inverts_the_integral_down_to_tiny_times(rate: Rate, horizon: float) -> None:
    assert rate.inverse(0.0) == 0.0
    for fraction in (1.0, 0.7, 0.1, 1e-3, 1e-12):
        assert rate.inverse(rate.integral(fraction * horizon)) == pytest.approx(fraction * horizon, rel=1e-11)


@processes
def test_alpha_and_sigma_solve_the_moment_equations(process: ForwardProcess) -> None:
    def slope(t: float, y: np.ndarray) -> list[float]:
        a_t, g_t = process.drift(t), process.diffusion(t)
        return [a_t * y[0], 2.0 * a_t * y[1] + g_t**2]

    times = np.linspace(0.0, process.horizon, 9)
    solution = solve_ivp(slope, (0.0, process.horizon), [1.0, 0.0], "DOP853", times, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose([process.alpha(float(t)) for t in times], solution.y[0], rtol=1e-8)
    np.testing.assert_allclose([process.sigma(float(t)) ** 2 for t in times], solution.y[1], rtol=1e-8, atol=1e-15)


@processes
def test_time_at_inverts_a_decreasing_log_snr(process: ForwardProcess) -> None:
    times = [fraction * process.horizon for fraction in (1.0, 0.8, 0.5, 0.1, 1e-2, 1e-6, 1e-12)]
    log_snrs = [process.log_snr(t) for t in times]
    assert log_snrs == sorted(log_snrs)
    for t, log_snr in zip(times, log_snrs, strict=True):
        assert log_snr == pytest.approx(math.log(process.alpha(t) ** 2 / process.sigma(t) ** 2), abs=1e-10)
        assert process.time_at(log_snr) == pytest.approx(t, rel=1e-11)
    assert process.log_snr(0.0) == math.inf
    assert process.time_at(math.inf) == 0.0


@pytest.mark.parametrize(
    ("process", "log_snr"), [(OU(3.0), -600.0), (EDM(7.0), -600.0), *((p, 600.0) for p in PROCESSES)]
)
def test_time_at_survives_extreme_ratios(process: ForwardProcess, log_snr: float) -> None:
    assert process.log_snr(process.time_at(log_snr)) == pytest.approx(log_snr, rel=1e-9)


@processes
@pairs
def test_transition_carries_the_marginal_at_s_to_the_one_at_t(process: ForwardProcess, t: float, s: float) -> None:
    t, s = t * process.horizon, s * process.horizon
    r, sd = process.transition(t, s)
    assert r * process.alpha(s) == pytest.approx(process.alpha(t), rel=1e-12)
    assert r**2 * process.sigma(s) ** 2 + sd**2 == pytest.approx(process.sigma(t) ** 2, rel=1e-11)


@processes
@pairs
def test_score_gain_and_reverse_noise_are_their_integrals(process: ForwardProcess, t: float, s: float) -> None:
    t, s = t * process.horizon, s * process.horizon

    def weight(u: float) -> float:
        return process.alpha(s) / process.alpha(u)

    gain = quad(lambda u: weight(u) * process.diffusion(u) ** 2, s, t, epsabs=0, epsrel=1e-11)[0]
    variance = quad(lambda u: weight(u) ** 2 * process.diffusion(u) ** 2, s, t, epsabs=0, epsrel=1e-11)[0]
    assert process.score_gain(t, s) == pytest.approx(gain, rel=1e-9)
    assert process.reverse_noise(t, s) == pytest.approx(math.sqrt(variance), rel=1e-9)


@processes
@pairs
def test_bridge_is_gaussian_conditioning(process: ForwardProcess, t: float, s: float) -> None:
    """x_0 ~ N(0, 1) and the chain x_0 -> x_s -> x_t give a joint covariance; x_s is regressed on (x_0, x_t)."""
    t, s = t * process.horizon, s * process.horizon
    alpha_s, sigma_s, alpha_t, sigma_t = process.alpha(s), process.sigma(s), process.alpha(t), process.sigma(t)
    var_s = alpha_s**2 + sigma_s**2
    cross = np.array([alpha_s, alpha_t / alpha_s * var_s])
    ends = np.array([[1.0, alpha_t], [alpha_t, alpha_t**2 + sigma_t**2]])
    weights = np.linalg.solve(ends, cross)
    bridge = process.bridge(t, s)
    np.testing.assert_allclose(bridge[:2], weights, rtol=1e-6, atol=1e-9)
    assert bridge.sd**2 == pytest.approx(var_s - weights @ cross, rel=1e-6, abs=1e-12)


@processes
def test_bridge_is_the_formula_of_the_design(process: ForwardProcess) -> None:
    t, s = 0.8 * process.horizon, 0.3 * process.horizon
    alpha_s, sigma_s, sigma_t = process.alpha(s), process.sigma(s), process.sigma(t)
    r = process.alpha(t) / alpha_s
    v = sigma_t**2 - r**2 * sigma_s**2
    wanted = (alpha_s * v / sigma_t**2, r * sigma_s**2 / sigma_t**2, sigma_s * math.sqrt(v) / sigma_t)
    assert process.bridge(t, s) == pytest.approx(wanted, rel=1e-12)
    assert process.bridge(t, 0.0) == pytest.approx((1.0, 0.0, 0.0), rel=1e-12)


@processes
def test_full_accuracy_near_the_data(process: ForwardProcess) -> None:
    """To relative order t all processes are Brownian motion in the clock B(t) = int g^2."""
    clock = cast(VariancePreserving | VarianceExploding, process).rate.integral
    t, s = 3e-12, 1e-12
    assert process.diffusion(0.5 * t) ** 2 * t == pytest.approx(clock(t), rel=1e-9)
    assert process.sigma(t) ** 2 == pytest.approx(clock(t), rel=1e-9)
    assert process.score_gain(t, s) == pytest.approx(clock(t) - clock(s), rel=1e-9)
    assert process.reverse_noise(t, s) ** 2 == pytest.approx(clock(t) - clock(s), rel=1e-9)
    share = clock(s) / clock(t)
    assert process.bridge(t, s)[:2] == pytest.approx((1.0 - share, share), rel=1e-9)
    assert process.bridge(t, s).sd ** 2 == pytest.approx(clock(s) * (1.0 - share), rel=1e-9)


@processes
def test_everything_is_a_python_float(process: ForwardProcess) -> None:
    t, s = 0.7 * process.horizon, 0.2 * process.horizon
    single = (process.alpha, process.sigma, process.drift, process.diffusion, process.log_snr)
    values = [method(t) for method in single] + [process.time_at(0.5 * process.log_snr(t) + 1.0)]
    values += [*process.transition(t, s), *process.bridge(t, s), process.score_gain(t, s), process.reverse_noise(t, s)]
    assert {type(value) for value in values} == {float}


@pytest.mark.parametrize("t", [1e-9, 0.3, 2.9])
def test_closed_forms_of_the_table(t: float) -> None:
    ou, edm = OU(3.0), EDM(3.0)
    assert (ou.alpha(t), ou.sigma(t)) == pytest.approx((math.exp(-t), math.sqrt(-math.expm1(-2 * t))), rel=1e-14)
    assert (ou.drift(t), ou.diffusion(t)) == pytest.approx((-1.0, math.sqrt(2.0)), rel=1e-15)
    assert ou.score_gain(t, t / 2) == pytest.approx(2 * math.expm1(t / 2), rel=1e-12)
    assert (edm.alpha(t), edm.sigma(t), edm.diffusion(t)) == pytest.approx((1.0, t, math.sqrt(2 * t)), rel=1e-14)


ERRORS: list[tuple[Callable[[], object], str]] = [
    (lambda: ConstantRate(0.0), r"`value` must be a positive finite float, got 0.0"),
    (lambda: ConstantRate(math.inf), r"`value` must be a positive finite float, got inf"),
    (lambda: LinearRate(-0.1, 1.0, 1.0), r"`start` must be a non-negative finite float, got -0.1"),
    (lambda: LinearRate(0.1, 0.0, 1.0), r"`end` must be a positive"),
    (lambda: LinearRate(0.1, 1.0, math.nan), r"`horizon` must be a positive finite float, got nan"),
    (lambda: GeometricRate(-1.0, 1.0, 1.0), r"`sigma_min` must be a positive"),
    (lambda: GeometricRate(0.1, 0.0, 1.0), r"`sigma_max` must be a positive"),
    (lambda: GeometricRate(1.0, 1.0, 1.0), r"`sigma_max` must be above sigma_min = 1.0, got 1.0"),
    (lambda: GeometricRate(0.1, 1.0, -2.0), r"`horizon` must be a positive"),
    (lambda: QuadratureRate(math.cos, 0.0), r"`horizon` must be a positive"),
    (lambda: QuadratureRate(cast("Callable[[float], float]", 2.0), 1.0), r"`function` must be a callable.* got 2.0"),
    (
        lambda: QuadratureRate(math.cos, 2.0),
        r"`function` must be positive and finite on \[0, 2.0\], got -0.4.* at t = 2",
    ),
    (lambda: QuadratureRate(math.exp, 1.0).inverse(9.0), r"`integral` must lie in \[0, 1.7.*got 9.0"),
    (lambda: OU(-1.0), r"`horizon` must be a positive finite float, got -1.0"),
    (lambda: OU(cast(float, "3")), r"`horizon` must be a positive finite float, got '3'"),
    (lambda: OU(800.0), r"`horizon` must leave alpha above 0 in float64, got 800.0"),
    (lambda: VP(ConstantRate(2.0), 0.0), r"`horizon` must be a positive"),
    (lambda: VP(LinearRate(3.0, 0.5, 2.0), 3.0), r"`rate` must be positive .* up to horizon = 3.0, got LinearRate"),
    (
        lambda: VE(QuadratureRate(math.exp, 1.0), 2.0),
        r"`t` must lie in \[0, 1.0\], where this rate is declared, got 2.0",
    ),
    (lambda: VE(ConstantRate(2.0), -3.0), r"`horizon` must be a positive"),
    (lambda: EDM(math.nan), r"`horizon` must be a positive"),
    (lambda: OU(3.0).transition(1.0, 1.0), r"`t` and `s` must satisfy 0 <= s < t .* got t = 1.0, s = 1.0"),
    (lambda: EDM(3.0).score_gain(0.5, 1.0), r"`t` and `s` must satisfy"),
    (lambda: OU(3.0).bridge(0.5, -0.1), r"`t` and `s` must satisfy"),
    (lambda: EDM(3.0).reverse_noise(0.5, 0.6), r"`t` and `s` must satisfy"),
]


@pytest.mark.parametrize(("build", "message"), ERRORS)
def test_errors_name_the_argument_the_wish_and_the_value(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
