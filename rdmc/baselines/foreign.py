"""What every adapter to another library needs: the library itself, or a message that says how to get it; and seeds for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rdmc import optional
from rdmc.density import Density
from rdmc.rng import Streams

__all__ = ["require", "require_values", "words"]


def require(module: str, sampler: str) -> Any:
    """Import an optional library on first use.

    Args:
        module: Name of the module.
        sampler: Name of the sampler that needs it.

    Raises:
        ImportError: If it isn't there, with the extra that brings it.
    """
    return optional.require(module, "baselines", f'sampler "{sampler}"')


def require_values(density: Density, sampler: str) -> None:
    """Refuse the meta device and floating types that other libraries don't have.

    Raises:
        ValueError: Naming what was wanted and what came.
    """
    if density.device.type == "meta":
        raise ValueError(f'`device` must hold values for sampler "{sampler}", got meta')
    if density.dtype not in (torch.float32, torch.float64):
        raise ValueError(f'`dtype` must be float32 or float64 for sampler "{sampler}", got {density.dtype}')


def words(rng: Streams, count: int) -> NDArray[np.uint32]:
    """``(B, count)`` random 32-bit words, each row from its particle's own stream: seeds for another library's generator."""
    # the fraction of a float32 uniform has 24 bits, so a word is made of two halves of 16
    halves = torch.floor(rng.uniform((2 * count, rng.particles)) * 2.0**16).to(torch.int64).cpu().numpy()
    return ((halves[0::2] << 16) | halves[1::2]).T.astype(np.uint32)
