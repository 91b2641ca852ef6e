"""A particle's way from noise to a draw, level by level."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from rdmc.network.flow import At
from rdmc.posterior import score_from_mean
from rdmc.process import EDM
from rdmc.rng import Streams
from rdmc.steps import Denoiser, Estimate, Memory, Step

__all__ = ["estimated", "walk"]

_BATCH = 65536  # points that the network sees at once


def estimated(at: At) -> Denoiser:
    """What a step may ask: the mean, and its score by Tweedie's formula; the mean also where a draw of x_0 is asked for."""

    def estimate(z: Tensor, t: float) -> Estimate:
        mean = torch.cat([at(part, t) for part in z.split(_BATCH)])
        return Estimate(mean, score_from_mean(mean, z, 1.0, t), mean)

    return estimate


def walk(
    process: EDM, denoise: Denoiser, step: Step, times: tuple[float, ...], z: Tensor, rng: Streams
) -> Iterator[tuple[float, Tensor]]:
    """Every level with the ``(n, d)`` particles there, from the first time to the last."""
    memory: Memory | None = None
    yield times[0], z
    for t, s in pairwise(times):
        z, memory = step(process, denoise, z, t, s, rng.normal(z.shape), memory)
        yield s, z
