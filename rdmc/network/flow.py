r"""The probability flow of a denoiser, with the density that it gives: forwards from noise, backwards from a point.

.. math:: \frac{dx}{d\sigma} = \frac{x - D(x, \sigma)}{\sigma}, \qquad
          \frac{d}{d\sigma} \log p_\sigma(x(\sigma)) = -\frac{d - \operatorname{tr} \nabla D(x, \sigma)}{\sigma}

(process EDM: alpha = 1, sigma = t). At sigma_max the law is given (:class:`rdmc.network.starting.Start`): normal with the moments
of the draws.

Two densities belong to it. That of the flow in continuous time can be asked for at any point, and has the error of the
integrator. That of the map which some Heun steps make of the noise is the exact one of the draws that those steps give,
whatever their size: it is the product of the determinants of the steps. With an exact denoiser the Euler step is the
gradient of a convex function, so it never folds; a step that does fold has a determinant that is not positive, and is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rdmc.process import EDM
from rdmc.steps.base import Estimate
from rdmc.steps.heun import Heun

__all__ = ["At", "LogStart", "Pushed", "Trace", "log_density", "push"]

At: TypeAlias = Callable[[Tensor, float], Tensor]
"""``(x (B, d), sigma) -> (B, d)``: a denoiser at one noise level."""

LogStart: TypeAlias = Callable[[Tensor], Tensor]
"""``(n, d) -> (n,)``: the log density of the noise at the largest noise level."""

Trace: TypeAlias = Literal["auto", "exact", "hutchinson"]

EXACT = 20
"""Largest dimension in which the trace is exact by default."""

_NUMBERS = 2**21  # of gradients at work at a time: points are split so that they fit


class Pushed(NamedTuple):
    """Draws of a flow in whitened coordinates.

    Attributes:
        z: ``(n, d)`` draws.
        log_density: ``(n,)`` the log density of the law that they were drawn from.
        folded: ``(n,)`` whether a step had a determinant that was not positive there.
    """

    z: Tensor
    log_density: Tensor
    folded: Tensor


def push(denoise: At, process: EDM, times: tuple[float, ...], start: Tensor, log_start: LogStart) -> Pushed:
    """Heun steps from noise to draws, with the exact log density of the draws.

    Cost: 2 (d + 1) evaluations of the network a step and point.

    Args:
        denoise: The denoiser.
        process: The process.
        times: Decreasing noise levels, the first is the horizon of the process.
        start: ``(n, d)`` draws of the noise.
        log_start: Its log density.
    """
    heun, d = Heun(), start.shape[-1]

    def estimate(x: Tensor, t: float) -> Estimate:
        mean = denoise(x, t)
        return Estimate(mean, mean, mean)  # Heun uses the mean alone

    def stepped(z: Tensor, t: float, s: float) -> tuple[Tensor, Tensor]:
        row = z[None]
        moved = heun(process, estimate, row, t, s, row, None)[0][0]
        return moved, moved

    parts = []
    for part in start.split(_rows(d)):
        z, value = part, log_start(part)
        folded = torch.zeros(len(part), dtype=torch.bool, device=part.device)
        for t, s in pairwise(times):
            slope, z = torch.vmap(torch.func.jacrev(stepped, has_aux=True), in_dims=(0, None, None))(z, t, s)
            sign, volume = torch.linalg.slogdet(slope)
            value, folded = value - volume, folded | ~(sign > 0.0)
        parts.append(Pushed(z, value, folded))
    return Pushed(*(torch.cat(field) for field in zip(*parts, strict=True)))


def log_density(
    denoise: At,
    low: float,
    high: float,
    z: Tensor,
    steps: int,
    trace: Trace,
    generator: torch.Generator,
    log_start: LogStart,
    probes: int = 8,
) -> Tensor:
    """``(n,)`` log density of the flow in continuous time at ``(n, d)`` points, at noise level ``low``.

    The classical Runge-Kutta method in log sigma. Error: order 4 in 1 / steps; with Hutchinson's trace there is noise of
    mean 0 besides, the same random signs along the whole path of a point (``probes`` of them, averaged).
    Cost: 4 (d + 1) evaluations of the network a step and point with the exact trace, 4 (probes + 1) otherwise.
    """
    d = z.shape[-1]
    exact = trace == "exact" or (trace == "auto" and d <= EXACT)
    width = (math.log(high) - math.log(low)) / steps
    parts = []
    for part in z.split(_rows(d if exact else probes)):
        if exact:
            vectors = torch.eye(d, dtype=z.dtype, device=z.device)[:, None].expand(d, *part.shape)
        else:
            coin = torch.rand((probes, *part.shape), generator=generator, dtype=z.dtype, device=z.device)
            vectors = torch.where(coin < 0.5, -1.0, 1.0).to(z)
        scale = 1.0 if exact else 1.0 / probes

        def slope(x: Tensor, u: float, vectors: Tensor = vectors, scale: float = scale) -> tuple[Tensor, Tensor]:
            """Of the point and of the log volume in u = log sigma."""

            def velocity(y: Tensor) -> Tensor:
                return y - denoise(y, math.exp(u))

            moved, pull = torch.func.vjp(velocity, x)[:2]
            products = torch.vmap(lambda vector: (vector * pull(vector)[0]).sum(-1))(vectors)
            return moved, scale * products.sum(0)

        x, volume = part, torch.zeros_like(part[:, 0])
        for k in range(steps):
            u = math.log(low) + k * width
            a, va = slope(x, u)
            b, vb = slope(x + 0.5 * width * a, u + 0.5 * width)
            c, vc = slope(x + 0.5 * width * b, u + 0.5 * width)
            e, ve = slope(x + width * c, u + width)
            x = x + (width / 6.0) * (a + 2.0 * b + 2.0 * c + e)
            volume = volume + (width / 6.0) * (va + 2.0 * vb + 2.0 * vc + ve)
        parts.append(log_start(x) + volume)
    return torch.cat(parts)


def _rows(gradients: int) -> int:
    """Points at a time."""
    return max(1, _NUMBERS // (128 * (gradients + 1)))
