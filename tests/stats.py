"""Statistical assertions that show their numbers."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["assert_moments", "assert_within"]


def assert_within(
    estimate: Tensor | float,
    truth: Tensor | float,
    mcse: Tensor | float,
    ess: Tensor | float | None = None,
    k: float = 5.0,
    allowance: float = 0.0,
    label: str = "",
) -> None:
    """Fail unless ``|estimate - truth| <= k mcse + allowance`` everywhere; the message has all numbers.

    Args:
        estimate: What was measured.
        truth: What it should be.
        mcse: Standard error of the estimate; finite and positive, so that nothing passes by being unknown.
        ess: Effective number of independent draws behind it, checked first: below 20 a standard error means nothing.
        k: How many standard errors; 5 by default. Never loosened without a written reason.
        allowance: A known bias, for example O(h) of an unadjusted kernel, with its reason at the call.
        label: What was measured.
    """
    parts = [torch.as_tensor(part, dtype=torch.float64) for part in (estimate, truth, mcse)]
    estimate, truth, mcse = torch.broadcast_tensors(*parts)
    if ess is not None:
        least = float(torch.as_tensor(ess, dtype=torch.float64).min())
        assert least >= 20.0, f"{label}: ess {least:.4g} is below 20, so the standard error says nothing"
    assert bool((torch.isfinite(mcse) & (mcse > 0.0)).all()), f"{label}: mcse must be finite and positive, got {mcse}"
    assert bool(torch.isfinite(estimate).all()), f"{label}: estimate is not finite: {estimate}"
    excess = ((estimate - truth).abs() - allowance) / mcse
    worst = int(excess.argmax())
    numbers = [float(part.flatten()[worst]) for part in (estimate, truth, mcse)]
    message = "{}: estimate {:.6g}, truth {:.6g}, mcse {:.3g}".format(label, *numbers)
    message += (
        f", ess {ess if ess is None else float(torch.as_tensor(ess).min()):.4g}" if ess is not None else ", ess -"
    )
    message += f", allowance {allowance:.3g}: {float(excess.flatten()[worst]):.2f} standard errors, at most {k:g}"
    print(message)
    assert float(excess.max()) <= k, message


def assert_moments(
    x: Tensor,
    mean: Tensor | float,
    variance: Tensor | float,
    allowance: tuple[float, float] = (0.0, 0.0),
    label: str = "",
) -> None:
    """Fail unless ``(n, d)`` independent draws have the given moments, within 5 standard errors of each.

    Args:
        x: Independent draws.
        mean: ``(d,)`` or scalar.
        variance: ``(d,)`` or scalar.
        allowance: Known biases of mean and variance.
        label: What was drawn.
    """
    n = x.shape[0]
    squared = (x - mean).square()
    assert_within(x.mean(0), mean, x.std(0) / n**0.5, n, allowance=allowance[0], label=f"{label} mean")
    assert_within(
        squared.mean(0), variance, squared.std(0) / n**0.5, n, allowance=allowance[1], label=f"{label} variance"
    )
