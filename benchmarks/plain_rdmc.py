"""The published algorithm as one would write it down, to compare speeds with: no classes, every gradient by autograd."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["plain_rdmc"]


def plain_rdmc(
    log_density: Callable[[Tensor], Tensor], dim: int, particles: int, *, levels: int, start_steps: int
) -> Tensor:
    """Draw ``(particles, dim)`` with the defaults of ``rdmc.RDMC.published()``, levels and steps of the start apart.

    Source: Huang et al. (2024), arXiv:2307.02037, algorithm 1.
    """
    horizon, end, proposals, chains, steps, step_size, seed = 1.0, 0.005, 128, 16, 32, 0.05, 0
    g = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    def score(x_t: Tensor, t: float) -> Tensor:
        alpha, sigma = math.exp(-t), math.sqrt(-math.expm1(-2.0 * t))
        x_0 = (x_t + sigma * noise(proposals, particles, dim)) / alpha
        weight = torch.softmax(log_density(x_0.reshape(-1, dim)).view(proposals, particles), 0)
        index = torch.multinomial(weight.T, chains, replacement=True, generator=g).T
        x_0 = x_0.gather(0, index[..., None].expand(-1, -1, dim))
        h, total = step_size * sigma**2, torch.zeros_like(x_t)  # alpha^2 + sigma^2 = 1
        for step in range(steps):
            leaf = x_0.reshape(-1, dim).detach().requires_grad_(True)
            (grad,) = torch.autograd.grad(log_density(leaf).sum(), leaf)
            drift = grad.view_as(x_0) + alpha / sigma**2 * (x_t - alpha * x_0)
            x_0 = x_0 + h * drift + math.sqrt(2.0 * h) * noise(chains, particles, dim)
            if step >= steps // 2:
                total = total + x_0.mean(0)
        return (alpha * total / (steps - steps // 2) - x_t) / sigma**2

    variance = -math.expm1(-2.0 * horizon)
    x = math.sqrt(variance) * noise(particles, dim)
    for _ in range(start_steps):
        h = 0.5 * variance
        x = x + h * score(x, horizon) + math.sqrt(2.0 * h) * noise(particles, dim)
    times = [horizon + k / levels * (end - horizon) for k in range(levels + 1)]
    for t, s in itertools.pairwise(times):
        h = t - s
        x = math.exp(h) * x + 2.0 * math.expm1(h) * score(x, t) + math.sqrt(math.expm1(2.0 * h)) * noise(particles, dim)
    return x
