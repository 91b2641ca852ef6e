"""A budget of memory bounds what the density is asked for at once, and changes nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.density import Density
from rdmc.memory import budget, bytes_per_point, rows_within
from tests.marks import slow

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


def few_data(x: Tensor) -> Tensor:
    """The same with 100 rows of data."""
    return -(DATA[:100] * x[:, None, :]).sum(-1).square().sum(-1)


def walk(x: Tensor) -> Tensor:
    """A thousand steps in time, each of which writes 8 bytes a coordinate."""
    for _ in range(1000):
        x = x.sin()
    return -x.square().sum(-1)


def test_rows_halve_with_the_budget_and_stay_usable() -> None:
    density = Density(few_data, 3)
    many, few = rows_within(density, 2**24, POINTS), rows_within(density, 2**23, POINTS)
    point = bytes_per_point(density, POINTS)
    assert many == 2 * few and many * point <= 2**23 < 2 * many * point
    assert rows_within(density, 1, POINTS) == 16


def test_light_densities_keep_to_the_cache_whatever_the_budget() -> None:
    density = Density(few_data, 3)
    assert rows_within(density, 2**36, POINTS) == rows_within(density, 2**24, POINTS) == 1024


@pytest.mark.parametrize("mapped", [False, True], ids=["batched", "mapped"])
def test_a_loop_gets_rows_enough_for_its_calls_to_write_something(mapped: bool) -> None:
    density = Density(torch.vmap(lambda x: walk(x[None])[0]) if mapped else walk, 3)
    point, rows = bytes_per_point(density, POINTS), rows_within(density, budget(torch.device("cpu")), POINTS)
    assert 2**14 <= rows * point / 1000 <= 2**15 and rows * point > 2**24  # more than the cache holds


@pytest.mark.parametrize("memory", [2**20, 2**24, 2**26])
def test_a_loop_keeps_to_the_users_budget(memory: int) -> None:
    density = Density(walk, 3)
    point, rows = bytes_per_point(density, POINTS), rows_within(density, budget(torch.device("cpu"), memory), POINTS)
    assert rows == 16 or rows * point <= memory / 2
    assert rows <= rows_within(density, budget(torch.device("cpu")), POINTS)


@pytest.mark.parametrize(("sampler", "draws"), [("auto", 60), ("rdmc", 60), *slow(("mala", 15))])
def test_a_run_in_small_parts_has_the_same_bits(sampler: str, draws: int) -> None:
    whole, parts = Watched(), Watched()
    one = rdmc.sample(whole, 8, draws, 2, sampler, progressbar=False)
    two = rdmc.sample(parts, 8, draws, 2, sampler, progressbar=False, memory=2**16)
    assert parts.largest <= 128 < whole.largest, (parts.largest, whole.largest)
    assert torch.equal(one.samples, two.samples) and one.gradient_evaluations == two.gradient_evaluations
