"""The modes of a posterior that can't tell its components apart: one for each ordering of the component means."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["ordering_index", "uniform_weights"]


def ordering_index(means: Tensor) -> Tensor:
    r"""Rank of the ordering of each row among all K! orderings, 0 for ascending.

    The Lehmer code of the row: :math:`\sum_i (K-1-i)! \, \#\{j > i : m_j < m_i\}`.

    Args:
        means: ``(M, K)``.

    Returns:
        ``(M,)`` int64 in [0, K!).
    """
    components = means.shape[1]
    index = torch.zeros(means.shape[0], dtype=torch.int64, device=means.device)
    for i in range(components - 1):
        index = index + math.factorial(components - 1 - i) * (means[:, i + 1 :] < means[:, i : i + 1]).sum(1)
    return index


def uniform_weights(components: int) -> Tensor:
    """``(K!,)`` equal probabilities, exact by symmetry."""
    count = math.factorial(components)
    return torch.full((count,), 1.0 / count, dtype=torch.float64)
