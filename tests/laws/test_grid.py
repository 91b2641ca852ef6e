"""Laws of grids: exact ends, strictly decreasing floats, even in their own variable."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import numpy as np
import pytest

from rdmc.grid import Grid, LinearGrid, LogSNRGrid, PolynomialGrid
from rdmc.process import EDM, OU, VE, VP, ForwardProcess
from rdmc.rate import GeometricRate, LinearRate

PROCESSES: list[ForwardProcess] = [
    OU(4.0),
    VP(LinearRate(0.1, 20.0, horizon=1.0), 1.0),
    VE(GeometricRate(0.05, 5.0, horizon=2.0), 2.0),
    EDM(80),  # an int horizon on purpose: the grid still holds floats
]
END = 0.03


def _even(process: ForwardProcess, rho: float) -> Callable[[float], float]:
    return lambda t: (process.sigma(t) / process.alpha(t)) ** (1.0 / rho)


CASES: list[tuple[Grid, Callable[[ForwardProcess], Callable[[float], float]]]] = [
    (LinearGrid(7, END), lambda process: lambda t: t),
    (LogSNRGrid(7, END), lambda process: lambda t: math.log(process.alpha(t) / process.sigma(t))),
    (PolynomialGrid(7, END), lambda process: _even(process, 7.0)),
    (PolynomialGrid(7, END, rho=2.5), lambda process: _even(process, 2.5)),
    (PolynomialGrid(7, 0.0, rho=1.0), lambda process: _even(process, 1.0)),
    (LinearGrid(7, 0.0), lambda process: lambda t: t),
]
processes = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: repr(process)[:30])
cases = pytest.mark.parametrize(
    ("grid", "variable"), CASES, ids=[f"{repr(grid)[:40]}-{i}" for i, (grid, _) in enumerate(CASES)]
)


@processes
@cases
def test_times_run_from_the_horizon_to_the_end_evenly(
    process: ForwardProcess, grid: Grid, variable: Callable[[ForwardProcess], Callable[[float], float]]
) -> None:
    times = grid.times(process)
    assert isinstance(times, tuple)
    assert {type(t) for t in times} == {float}
    assert len(times) == 8
    assert (times[0], times[-1]) == (process.horizon, cast(LinearGrid, grid).end)
    assert all(s < t for t, s in pairwise(times))
    steps = np.diff([variable(process)(t) for t in times])
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-9)


@processes
@pytest.mark.parametrize("grid", [LinearGrid(1, END), LogSNRGrid(1, END), PolynomialGrid(1, END)])
def test_one_level_is_the_two_ends(process: ForwardProcess, grid: Grid) -> None:
    assert grid.times(process) == (process.horizon, END)


def test_polynomial_grid_is_equation_5_of_karras() -> None:
    sigma_max, sigma_min, rho, levels = 80.0, 0.002, 7.0, 17
    times = PolynomialGrid(levels, sigma_min).times(EDM(sigma_max))
    roots = [
        sigma_max ** (1 / rho) + i / levels * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))
        for i in range(levels + 1)
    ]
    np.testing.assert_allclose(times, [root**rho for root in roots], rtol=1e-12)


def test_polynomial_grid_tends_to_the_log_snr_grid() -> None:
    process = PROCESSES[0]
    np.testing.assert_allclose(
        PolynomialGrid(9, END, rho=1e6).times(process), LogSNRGrid(9, END).times(process), rtol=1e-4
    )


ERRORS: list[tuple[Callable[[], object], str]] = [
    (lambda: LinearGrid(0, END), r"`levels` must be a positive integer, got 0"),
    (lambda: LogSNRGrid(cast(int, 2.0), END), r"`levels` must be a positive integer, got 2.0"),
    (lambda: PolynomialGrid(True, END), r"`levels` must be a positive integer, got True"),
    (lambda: LinearGrid(3, -0.1), r"`end` must be a non-negative finite float, got -0.1"),
    (lambda: LogSNRGrid(3, 0.0), r"`end` must be a positive finite float, got 0.0"),
    (lambda: PolynomialGrid(3, math.nan), r"`end` must be a non-negative finite float, got nan"),
    (lambda: PolynomialGrid(3, END, rho=0.0), r"`rho` must be a positive finite float, got 0.0"),
    (lambda: LinearGrid(3, 4.0).times(OU(4.0)), r"`end` must be below the horizon 4.0, got 4.0"),
    (lambda: LogSNRGrid(3, 5.0).times(OU(4.0)), r"`end` must be below the horizon 4.0, got 5.0"),
    (lambda: LinearGrid(9, 1.0).times(OU(math.nextafter(1.0, 2.0))), r"`levels` must be few enough .*, got 9"),
]


@pytest.mark.parametrize(("build", "message"), ERRORS)
def test_errors_name_the_argument_the_wish_and_the_value(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
