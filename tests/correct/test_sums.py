"""Sums by index, and the order that a GPU adds in."""

from __future__ import annotations

import pytest
import torch

from rdmc.particles import cumulated, sums_by
from tests.laws.cases import F, generator

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("rows", "n", "count"), [(1, 1, 1), (1, 5000, 3), (3, 40, 100), (2, 30_000, 7)])
def test_sums_by_index_are_those_of_one_hot_vectors(rows: int, n: int, count: int, device: str) -> None:
    index = torch.randint(count, (rows, n), generator=generator(0)).to(device)
    values = torch.randn(rows, n, dtype=F, generator=generator(1)).to(device)
    right = (torch.nn.functional.one_hot(index, count).to(F) * values[..., None]).sum(1)
    torch.testing.assert_close(sums_by(index, values, count), right, rtol=1e-10, atol=1e-10)
    for _ in range(3):
        assert torch.equal(sums_by(index, values, count), sums_by(index, values, count))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rows", [1, 3])
def test_cumulated_is_the_sum_so_far(rows: int, device: str) -> None:
    values = torch.rand(rows, 20_000, dtype=F, generator=generator(2)).to(device)
    right = values.cpu().numpy().cumsum(1)
    torch.testing.assert_close(cumulated(values).cpu(), torch.from_numpy(right), rtol=1e-12, atol=0.0)
    for _ in range(3):
        assert torch.equal(cumulated(values), cumulated(values))
