"""A budget of memory bounds what the density is asked for at once, and changes nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.density import Density
from rdmc.memory import bytes_per_point, rows_within

POINTS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ROWS = 10_000
DATA = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def regression(x: Tensor) -> Tensor:
    """A density that touches 10,000 rows of data at every point, three times."""
    return -(DATA * x[:, None, :]).sum(-1).square().sum(-1)


class Watched:
    """The regression, which remembers its largest batch."""

    def __init__(self) -> None:
        self.largest = 0

    def __call__(self, x: Tensor) -> Tensor:
        """The density."""
        self.largest = max(self.largest, len(x))
        return -0.5 * x.square().sum(-1) + torch.logaddexp(3.0 * x[:, 0], -3.0 * x[:, 0])


def test_bytes_per_point_are_those_of_the_intermediate_values() -> None:
    # forward: (M, N, 3), (M, N), (M, N), and (M,) twice; as much again for the gradients
    wanted = 2 * 8 * (3 * ROWS + ROWS + ROWS)
    found = bytes_per_point(Density(regression, 3), POINTS)
    assert wanted <= found <= 1.01 * wanted, (found, wanted)
    mapped = Density(torch.vmap(lambda x: regression(x[None])[0]), 3)
    assert 0.9 * wanted <= bytes_per_point(mapped, POINTS) <= 4 * wanted


def test_rows_halve_with_the_budget_and_stay_usable() -> None:
    density = Density(regression, 3)
    many, few = rows_within(density, 2**30, POINTS), rows_within(density, 2**29, POINTS)
    assert many == 2 * few and many * bytes_per_point(density, POINTS) <= 2**29 < 2 * many * bytes_per_point(
        density, POINTS
    )
    assert rows_within(density, 1, POINTS) == 16


@pytest.mark.parametrize("sampler", ["auto", "rdmc", "mala"])
def test_a_run_in_small_parts_has_the_same_bits(sampler: str) -> None:
    whole, parts = Watched(), Watched()
    one = rdmc.sample(whole, 8, 60, 2, sampler, progressbar=False)
    two = rdmc.sample(parts, 8, 60, 2, sampler, progressbar=False, memory=2**16)
    assert parts.largest <= 128 < whole.largest, (parts.largest, whole.largest)
    assert torch.equal(one.samples, two.samples) and one.gradient_evaluations == two.gradient_evaluations
