"""The Euler-Maruyama step of the reverse equation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rdmc.process import ForwardProcess
from rdmc.steps.base import Denoiser, Memory

__all__ = ["EulerMaruyama"]


@dataclass(frozen=True)
class EulerMaruyama:
    r"""Reverse SDE with drift and diffusion frozen at t.

    .. math:: x_s = x_t + h \left(-a_t x_t + g_t^2 \nabla \log p_t(x_t)\right) + g_t \sqrt{h}\, z, \qquad h = t - s

    Law: weak order 1 in h. Error: needs h small against 1/|a_t| and sigma_t^2/g_t^2. Not to be confused with
    :class:`rdmc.steps.Exponential`, which freezes only the score and solves the rest exactly, at the same price.
    Cost: one estimate; uses the score. Finite at s = 0.

    Shapes: x_t, noise, x_s ``(B, d)``.

    Raises:
        Nothing of its own; s < t is the caller's promise.

    Source: Anderson (1982), Stochastic Processes and their Applications 12(3), reverse-time equation; Euler-Maruyama.

    Example:
        >>> EulerMaruyama()
        EulerMaruyama()
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
        h, a_t, g_t = t - s, process.drift(t), process.diffusion(t)
        score = denoise(x_t, t).score
        return (1.0 - h * a_t) * x_t + h * g_t**2 * score + g_t * math.sqrt(h) * noise, None
