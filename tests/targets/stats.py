"""Assertions about estimates: what was seen, what was expected, and how far apart in standard errors."""

from __future__ import annotations

import torch
from torch import Tensor


def assert_within(estimate: Tensor, truth: Tensor | float, mcse: Tensor, sigmas: float = 5.0, what: str = "") -> None:
    """Fail unless every entry of ``estimate`` is within ``sigmas`` standard errors of ``truth``."""
    truth = torch.as_tensor(truth, dtype=estimate.dtype).expand_as(estimate)
    z = (estimate - truth).abs() / mcse.clamp_min(1e-12)
    worst = z.flatten().argmax()
    assert bool((z <= sigmas).all()), (
        f"{what}: estimate {estimate.flatten()[worst]:.6g}, truth {truth.flatten()[worst]:.6g}, "
        f"standard error {mcse.expand_as(estimate).flatten()[worst]:.3g}, {z.max():.1f} standard errors apart"
    )


def mean_and_mcse(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the first dimension of independent values, with its standard error."""
    return values.mean(0), values.std(0) / values.shape[0] ** 0.5


def frequencies(index: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Observed frequencies of the indices, with the standard errors that ``truth`` implies."""
    n = index.shape[0]
    return torch.bincount(index, minlength=len(truth)) / n, (truth * (1.0 - truth) / n).sqrt() + 1.0 / n
