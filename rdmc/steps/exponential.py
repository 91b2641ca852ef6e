"""The exponential step of the reverse equation: RDMC's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rdmc.process import ForwardProcess
from rdmc.steps.base import Denoiser, Memory

__all__ = ["Exponential"]


@dataclass(frozen=True)
class Exponential:
    r"""Reverse SDE with the score frozen at t and everything else solved exactly.

    .. math:: x_s = \frac{\alpha_s}{\alpha_t} x_t + \nabla \log p_t(x_t) \int_s^t \frac{\alpha_s}{\alpha_u} g_u^2\, du
              + \alpha_s \sqrt{\sigma_t^2 / \alpha_t^2 - \sigma_s^2 / \alpha_s^2}\; z

    For OU, with h = t - s: x_s = e^h x_t + 2 (e^h - 1) score + sqrt(e^{2h} - 1) z. The factor 2 is lost in several
    printed versions; without it the law tends to a wrong variance however fine the grid.

    Law: weak order 1. Error: on a Gaussian the variance comes out too large, on a log-SNR grid by about as much as
    that of :class:`rdmc.steps.Ancestral` is too small.
    Cost: one estimate; uses the score. Finite at s = 0, where it still adds noise.

    Shapes: x_t, noise, x_s ``(B, d)``.

    Raises:
        ValueError: if not 0 <= s < t.

    Source: Huang et al. (2024), arXiv:2307.02037, algorithm 1, with the score's weight derived, not copied.

    Example:
        >>> from rdmc.process import OU
        >>> round(OU(horizon=3.0).score_gain(2.0, 1.9), 6)  # 2 (e^0.1 - 1)
        0.210342
    """

    order: ClassVar[float] = 1
    estimates: ClassVar[int] = 1

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
        r, _ = process.transition(t, s)
        score = denoise(x_t, t).score
        return x_t / r + process.score_gain(t, s) * score + process.reverse_noise(t, s) * noise, None
