"""The ancestral step of DDPM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rdmc.process import ForwardProcess
from rdmc.steps.base import Denoiser, Memory

__all__ = ["Ancestral"]


@dataclass(frozen=True)
class Ancestral:
    r"""The bridge to x_s with the posterior mean in the place of x_0.

    .. math:: x_s = \frac{\alpha_s v\, \mathrm{E}[x_0 \mid x_t] + r \sigma_s^2\, x_t}{\sigma_t^2}
              + \frac{\sigma_s \sqrt{v}}{\sigma_t} z,
              \qquad r = \alpha_t / \alpha_s, \quad v = \sigma_t^2 - r^2 \sigma_s^2

    Law: weak order 1. Error: the mean of x_s is exact, the spread of q_t(x_0 | x_t) is left out, so the variance comes
    out too small. Not to be confused with :class:`rdmc.steps.Bridge`, which puts it back and is exact.
    Cost: one estimate; uses the mean. At s = 0 it returns the mean.

    Shapes: x_t, noise, x_s ``(B, d)``.

    Raises:
        ValueError: if not 0 <= s < t.

    Source: Ho et al. (2020), arXiv:2006.11239, eqs. (6)-(7) with the smaller of its two noise scales.

    Example:
        >>> Ancestral()
        Ancestral()
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
        on_x_0, on_x_t, sd = process.bridge(t, s)
        return on_x_0 * denoise(x_t, t).mean + on_x_t * x_t + sd * noise, None
