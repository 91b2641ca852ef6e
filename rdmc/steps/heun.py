"""Heun's step of the probability-flow equation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rdmc.process import ForwardProcess
from rdmc.steps.base import Denoiser, Memory

__all__ = ["Heun"]


@dataclass(frozen=True)
class Heun:
    r"""Trapezoidal predictor-corrector for the probability flow in y = x / alpha against n = sigma / alpha.

    .. math:: \frac{dy}{dn} = \frac{y - \mathrm{E}[x_0 \mid x]}{n}, \qquad
              y' = y_t + (n_s - n_t)\, d_t, \qquad y_s = y_t + \tfrac12 (n_s - n_t) (d_t + d'_s)

    d' is the slope at (y', n_s). Where n_s = 0 there is no slope, and the step is the Euler step y', the mean.

    Law: order 2; deterministic, the noise is ignored. Error: grows where n_s / n_t is far below 1 (the slope at n_s is
    divided by n_s), so use a grid with a bounded ratio.
    Cost: two estimates, at t and at s (one if sigma_s = 0); uses the means.

    Shapes: x_t, noise, x_s ``(B, d)``.

    Raises:
        Nothing of its own; s < t is the caller's promise.

    Source: Karras et al. (2022), arXiv:2206.00364, algorithm 1.

    Example:
        >>> Heun().estimates
        2
    """

    order: ClassVar[float] = 2
    estimates: ClassVar[int] = 2

    def __call__(
        self,
        process: ForwardProcess,
        denoise: Denoiser,
        x_t: Tensor,
        t: float,
        s: float,
        noise: Tensor,
        memory: Memory | None,
    ) -> tuple[Tensor, Memory | None]:
        """Moves ``(B, d)`` particles from t to s; returns them and None."""
        alpha_t, alpha_s = process.alpha(t), process.alpha(s)
        n_t, n_s = process.sigma(t) / alpha_t, process.sigma(s) / alpha_s
        y_t = x_t / alpha_t
        slope_t = (y_t - denoise(x_t, t).mean) / n_t
        y_s = y_t + (n_s - n_t) * slope_t
        if n_s > 0:
            slope_s = (y_s - denoise(alpha_s * y_s, s).mean) / n_s
            y_s = y_t + 0.5 * (n_s - n_t) * (slope_t + slope_s)
        return alpha_s * y_s, None
