"""Kernel Stein discrepancy: the definition by autograd, what it sees, and what it can't see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rdmc.stein import agree, kernel_stein_discrepancy
from tests.compare.cases import PAIR


def by_definition(x: Tensor, score: Tensor, c: float) -> tuple[float, float]:
    total = diagonal = 0.0
    n, d = x.shape
    for i in range(n):
        for j in range(n):
            a, b = x[i].clone().requires_grad_(), x[j].clone().requires_grad_()
            k = (c * c + (a - b).square().sum()) ** -0.5
            by_a, by_b = torch.autograd.grad(k, (a, b), create_graph=True)
            trace = sum(torch.autograd.grad(by_a[m], b, retain_graph=True)[0][m] for m in range(d))
            term = (score[i] @ score[j] * k + score[i] @ by_b + score[j] @ by_a + trace).item()
            total += term
            diagonal += term * (i == j)
    return max(total, 0.0) ** 0.5 / n, diagonal**0.5 / n


@pytest.mark.parametrize(("d", "scale"), [(1, None), (3, None), (3, 0.7)])
def test_is_its_definition(d: int, scale: float | None) -> None:
    x = torch.randn(6, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64) + 5.0
    score = 0.2 - 1.3 * (x - 5.0)
    found = kernel_stein_discrepancy(x, score, scale)
    assert [float(value) for value in found] == pytest.approx(by_definition(x, score, scale or d**0.5), abs=1e-12)


def measured(weights: tuple[float, float], shift: float, n: int = 800) -> tuple[float, float]:
    """KSD and floor in units of the mode width, of exact draws of each mode in these proportions, moved by ``shift`` widths."""
    width = 0.05**0.5
    x = PAIR.sample(8 * n, torch.Generator().manual_seed(1))
    label = PAIR.mode_of(x)
    counts = [round(weight * n) for weight in weights]
    x = torch.cat([x[label == k][:count] for k, count in enumerate(counts)]) + shift * width
    ksd, floor = kernel_stein_discrepancy(x / width, PAIR.value_and_grad(x)[1] * width)
    return float(ksd), float(floor)


def test_sees_a_shift_and_is_blind_to_weights() -> None:
    exact, floor = measured((2 / 3, 1 / 3), 0.0)
    shifted, _ = measured((2 / 3, 1 / 3), 0.5)
    assert exact < 1.5 * floor, (exact, floor)
    assert shifted > 4.0 * exact, (shifted, exact)
    for weights in ((1 / 3, 2 / 3), (1.0, 0.0)):  # documented: the second mode may be missing altogether
        wrong, floor = measured(weights, 0.0)
        assert wrong < 1.5 * floor, (weights, wrong, floor)


def test_arguments_are_checked() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"`x` and `score` must have one shape \(n, d\)"):
        kernel_stein_discrepancy(x, x[:2])
    with pytest.raises(ValueError, match="`scale` must be a positive float, got 0"):
        kernel_stein_discrepancy(x, x, 0.0)
    assert kernel_stein_discrepancy(x, torch.full_like(x, torch.nan))[0].isnan()


def test_a_sampler_with_problems_or_without_a_witness_has_no_vote() -> None:
    rows = [{"sampler": name, "problems": problems} for name, problems in [("a", 0), ("a", 0), ("b", 1), ("c", None)]]
    votes = [torch.tensor([0.3, 0.7]), torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]), None]
    apart, voters = agree(rows, votes, ())
    assert voters == ["a"]
    assert apart == [pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.6), None]
    assert agree(rows, votes, ("a",)) == ([None] * 4, [])
