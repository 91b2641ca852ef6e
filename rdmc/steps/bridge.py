"""The step without discretisation error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rdmc.process import ForwardProcess
from rdmc.steps.base import Denoiser, Memory

__all__ = ["Bridge"]


@dataclass(frozen=True)
class Bridge:
    r"""One draw of x_0 given x_t, then the exact bridge of the forward process from (x_0, x_t) to x_s.

    .. math:: x_0 \sim q_t(\cdot \mid x_t), \qquad
              x_s = \frac{\alpha_s v\, x_0 + r \sigma_s^2\, x_t}{\sigma_t^2} + \frac{\sigma_s \sqrt{v}}{\sigma_t} z,
              \qquad r = \alpha_t / \alpha_s, \quad v = \sigma_t^2 - r^2 \sigma_s^2

    Law: x_t ~ p_t gives x_s ~ p_s exactly, for every grid, if the draw is exact. Error: that of the draw alone. The
    draw also has the law q_s(. | x_s), so it is a stationary start for the next level's inner chain.
    Cost: one estimate; uses the draw. At s = 0 it returns the draw.

    Shapes: x_t, noise, x_s ``(B, d)``.

    Raises:
        ValueError: if not 0 <= s < t.

    Source: composition of x_0 | x_t and x_s | x_0, x_t; the second is Ho et al. (2020), arXiv:2006.11239, eqs. (6)-(7).

    Example:
        >>> Bridge().order
        inf
    """

    order: ClassVar[float] = math.inf
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
        return on_x_0 * denoise(x_t, t).draw + on_x_t * x_t + sd * noise, None
