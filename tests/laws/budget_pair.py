"""Two modes in one dimension, where the law after any steps is a quadrature."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from rdmc.budget.step_law import law_of
from rdmc.mixture import GaussianMixture
from rdmc.process import ForwardProcess
from rdmc.steps import Estimate, Step
from tests.laws.budget_cases import F

M, S, WEIGHT = 2.0, 0.5, 0.7
GRID = torch.linspace(-8.0, 8.0, 1601, dtype=F)
WIDTH = float(GRID[1] - GRID[0])
PAIR = GaussianMixture.isotropic(
    torch.tensor([[-M], [M]], dtype=F), torch.tensor([S, S], dtype=F), torch.tensor([WEIGHT, 1.0 - WEIGHT], dtype=F)
)


def normal(x: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    variance = torch.as_tensor(variance, dtype=F)
    return torch.exp(-0.5 * (x - mean) ** 2 / variance) / torch.sqrt(2.0 * torch.pi * variance)


def noised(process: ForwardProcess, t: float) -> Tensor:
    """p_t on the grid."""
    alpha, variance = process.alpha(t), (process.alpha(t) * S) ** 2 + process.sigma(t) ** 2
    return WEIGHT * normal(GRID, -alpha * M, variance) + (1.0 - WEIGHT) * normal(GRID, alpha * M, variance)


def moved(p: Tensor, step: Step, process: ForwardProcess, t: float, s: float) -> Tensor:
    """The law after one step with exact means."""
    q, law = PAIR.condition(GRID[:, None], process.alpha(t), process.sigma(t)), law_of(step, process, t, s)
    assert law is not None
    mean = (q.log_weight.exp() * q.mean[..., 0]).sum(-1)
    return normal(GRID[:, None], law.on_x_t * GRID + law.on_mean * mean, law.sd**2) @ p * WIDTH


def between(p: Tensor, q: Tensor) -> float:
    inside = p > 1e-300
    return float((p[inside] * (p[inside] / q[inside].clamp(min=1e-300)).log()).sum() * WIDTH)


def left_by(step: Step, process: ForwardProcess, times: Sequence[float]) -> float:
    """KL(target || law of the draws) of steps with exact means from an exact start."""
    if law_of(step, process, times[0], times[1]).flows:
        return between(noised(process, times[-1]), flown(step, process, times))
    p = noised(process, times[0])
    for t, s in pairwise(times):
        p = moved(p, step, process, t, s)
    return between(noised(process, times[-1]), p)


def flown(step: Step, process: ForwardProcess, times: Sequence[float]) -> Tensor:
    """The law of a flow on the grid: it keeps the order of the points, so the mass between two of them stays between them."""
    variance = (process.alpha(times[0]) * S) ** 2 + process.sigma(times[0]) ** 2
    start = torch.linspace(-9.0, 9.0, 100_001, dtype=F)
    scaled = (start[:, None] - process.alpha(times[0]) * torch.tensor([-M, M], dtype=F)) / variance**0.5
    below = torch.special.ndtr(scaled) @ torch.tensor([WEIGHT, 1.0 - WEIGHT], dtype=F)

    def denoise(x_t: Tensor, t: float) -> Estimate:
        q = PAIR.condition(x_t, process.alpha(t), process.sigma(t))
        mean = (q.log_weight.exp()[..., None] * q.mean).sum(1)
        return Estimate(mean, mean, mean)

    x, memory = start[:, None], None
    for t, s in pairwise(times):
        x, memory = step(process, denoise, x, t, s, torch.zeros_like(x), memory)
    end = x[:, 0].contiguous()
    assert bool((end.diff() > 0.0).all())
    edges = torch.cat([GRID - 0.5 * WIDTH, GRID[-1:] + 0.5 * WIDTH])
    right = torch.searchsorted(end, edges).clamp(1, len(end) - 1)
    share = ((edges - end[right - 1]) / (end[right] - end[right - 1])).clamp(0.0, 1.0)
    return below[right - 1].lerp(below[right], share).diff() / WIDTH
