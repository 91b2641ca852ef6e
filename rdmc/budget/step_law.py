"""A step of the reverse diffusion by its coefficients, read off from one call."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.posterior import score_from_mean
from rdmc.process import ForwardProcess
from rdmc.steps import Estimate, Step

__all__ = ["StepLaw", "law_of"]


class StepLaw(NamedTuple):
    """A step as ``x_s = on_x_t x_t + on_mean m_t + on_draw x_0 + sd z``, with x_0 the draw from q_t and m_t its mean.

    Where a step asks for several means, ``on_mean`` is what all of them together have, as if they were equal.

    Attributes:
        on_x_t: Coefficient of x_t.
        on_mean: Of the mean.
        on_draw: Of the draw.
        sd: Of the noise.
        on_noise: Of the Monte Carlo noise of a mean, if that of several means is independent.
        whole: Whether this is all that it does: one mean, and nothing remembered.
    """

    on_x_t: float
    on_mean: float
    on_draw: float
    sd: float
    on_noise: float
    whole: bool = True

    @property
    def compares(self) -> bool:
        """Whether the law of x_s given x_t is known and has a density."""
        return self.whole and not self.flows

    @property
    def flows(self) -> bool:
        """Whether x_s is a function of x_t."""
        return self.sd == 0.0 and self.on_draw == 0.0

    def is_exact(self, process: ForwardProcess, t: float, s: float) -> bool:
        """Whether this is the bridge."""
        bridge = process.bridge(t, s)
        right = (bridge.on_x_t, 0.0, bridge.on_x_0, bridge.sd)
        return self.whole and all(
            math.isclose(own, exact, rel_tol=1e-9, abs_tol=1e-12) for own, exact in zip(self[:4], right, strict=True)
        )


def law_of(step: Step, process: ForwardProcess, t: float, s: float) -> StepLaw:
    """The coefficients of a step from t to s, read off from one call without memory.

    The noise of a first mean also moves where a second is asked for. How much that changes the second is taken as of a target of
    unit scale.
    """
    one = torch.eye(5, dtype=torch.float64)[:, :, None]
    asked: list[float] = []
    moved = 0.0  # of the second mean, by the noise of the first

    def denoise(x_t: Tensor, at: float) -> Estimate:
        nonlocal moved
        alpha, sigma = process.alpha(at), process.sigma(at)
        mean = one[4] if asked else one[1]
        if asked:
            moved = float(x_t[1]) * alpha / (alpha**2 + sigma**2)
        asked.append(at)
        return Estimate(mean, score_from_mean(mean, x_t, alpha, sigma), one[2])

    x_s, memory = step(process, denoise, one[0], t, s, one[3], None)
    on_x_t, first, on_draw, sd, second = x_s[:, 0].tolist()
    on_noise = math.hypot(first + moved * second, second)
    return StepLaw(on_x_t, first + second, on_draw, sd, on_noise, asked == [t] and memory is None)
