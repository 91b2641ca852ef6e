"""Randomness for samplers and for instances built from a fixed seed; never the global generator."""

from __future__ import annotations

import torch
from torch import Tensor

from targets.base import Target

__all__ = ["normal", "rotation", "seeded", "uniform"]


def seeded(seed: int) -> torch.Generator:
    """A CPU generator at the start of the stream of ``seed``, the stream that ``torch.manual_seed(seed)`` starts."""
    return torch.Generator().manual_seed(seed)


def normal(target: Target, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal draws made where the generator lives, moved to where the target lives."""
    return torch.randn(shape, generator=generator, dtype=target.dtype, device=generator.device).to(target.device)


def uniform(target: Target, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform draws on [0, 1) made where the generator lives, moved to where the target lives."""
    return torch.rand(shape, generator=generator, dtype=target.dtype, device=generator.device).to(target.device)


def rotation(dim: int, generator: torch.Generator) -> Tensor:
    """Haar-distributed ``(dim, dim)`` orthogonal matrix, float64 on the CPU.

    Source: Mezzadri (2007), How to generate random matrices from the classical compact groups, section 5.
    """
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    # LAPACK is free to choose the signs of R's diagonal; fixing them gives the Haar law and the same matrix everywhere.
    rotated: Tensor = q * torch.sign(torch.diagonal(r))
    return rotated
