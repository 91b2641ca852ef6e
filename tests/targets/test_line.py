"""The inverse-CDF sampler on grids so coarse that an error within a cell shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from targets.line import Line


@pytest.mark.parametrize("heights", [(1.0, 3.0, 2.0), (0.0, 1.0, 0.0), (2.0, 2.0, 2.0), (0.0, 0.0, 1.0)])
def test_quantile_inverts_the_piecewise_linear_distribution_function(heights: tuple[float, ...]) -> None:
    with np.errstate(divide="ignore"):
        line = Line.of(np.array([0.0, 1.0, 2.0]), np.log(np.array(heights)))
    x = line.quantile(np.linspace(0.0, 1.0, 101)[1:-1])
    left = np.minimum(np.floor(x), 1.0).astype(int)
    inside = x - left
    cells = 0.5 * (line.density[:-1] + line.density[1:])
    slope = line.density[left + 1] - line.density[left]
    cdf = np.where(left == 1, cells[0], 0.0) + line.density[left] * inside + 0.5 * slope * inside**2
    np.testing.assert_allclose(cdf, np.linspace(0.0, 1.0, 101)[1:-1], atol=1e-12)


def test_normal_law() -> None:
    nodes = 0.01 * np.arange(-1000, 1001)
    line = Line.of(nodes, 3.0 - 0.5 * nodes**2)
    assert line.log_z == pytest.approx(3.0 + 0.5 * math.log(2.0 * math.pi), abs=1e-12)
    assert line.probability(np.heaviside(nodes, 0.5)) == pytest.approx(0.5, abs=1e-12)
    np.testing.assert_allclose(line.quantile(np.array([0.025, 0.5, 0.975])), [-1.959964, 0.0, 1.959964], atol=1e-4)
