"""The second-order multistep step of DPM-Solver++."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rdmc.process import ForwardProcess
from rdmc.steps.base import Denoiser, Memory

__all__ = ["Multistep"]


@dataclass(frozen=True)
class Multistep:
    r"""Exponential integrator of the probability flow with the posterior mean extrapolated from the last two times.

    .. math:: x_s = \frac{\sigma_s}{\sigma_t} x_t - \alpha_s (e^{-h} - 1) D, \qquad
              D = \Big(1 + \frac{1}{2r}\Big) m_t - \frac{1}{2r} m_{\text{prev}}, \qquad r = \frac{h_{\text{prev}}}{h}

    with lambda = log(alpha / sigma), h = lambda_s - lambda_t and h_prev = lambda_t - lambda_prev. The first step has no
    previous mean and the step to sigma_s = 0 an infinite h; both take D = m_t (order 1, which keeps the whole at 2).

    Law: order 2; deterministic, the noise is ignored. Error: as :class:`rdmc.steps.Heun` in order, at half its price.
    Cost: one estimate; uses the mean. At s = 0 it returns the mean.

    Shapes: x_t, noise, x_s, memory.mean ``(B, d)``.

    Raises:
        Nothing of its own; s < t, and memory from a time after t, are the caller's promise.

    Source: Lu et al. (2022), arXiv:2211.01095, algorithm 2 (DPM-Solver++(2M)).

    Example:
        >>> Multistep().estimates
        1
    """

    order: ClassVar[float] = 2
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
        """Moves ``(B, d)`` particles from t to s; returns them and the mean at t for the next call."""
        log_snr_t, log_snr_s = process.log_snr(t), process.log_snr(s)
        h = 0.5 * (log_snr_s - log_snr_t)
        mean = data = denoise(x_t, t).mean
        if memory is not None and math.isfinite(h):
            r = 0.5 * (log_snr_t - memory.log_snr) / h
            data = (1.0 + 0.5 / r) * mean - 0.5 / r * memory.mean
        x_s = process.sigma(s) / process.sigma(t) * x_t - process.alpha(s) * math.expm1(-h) * data
        return x_s, Memory(mean, log_snr_t)
