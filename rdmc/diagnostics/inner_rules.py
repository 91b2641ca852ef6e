"""Rules about the inner chains, level by level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["acceptance_in_range", "inner_chains_forget"]

GLOBAL_LEVELS = 3
"""Noise levels that chains which go on from level to level may take to forget their start."""
MEMORY = 0.2
"""Share of the spread between inner chains that may be left afterwards."""


class HasInner(Protocol):
    """What these rules read of a result."""

    @property
    def inner(self) -> Mapping[str, NDArray[Any]]:
        """``(chains, levels)`` per noise level."""
        ...


def _level(result: HasInner, level: int) -> str:
    for name in ("sigma", "t"):
        if name in result.inner:
            value = np.asarray(result.inner[name], dtype=np.float64)[:, level]
            if not np.isnan(value).all():
                return f"{name} = {np.nanmean(value):.3g}"
    return f"level {level}"


def _extreme(result: HasInner, key: str, sign: float) -> tuple[float, int, int] | None:
    """Most extreme value of an inner diagnostic, its level, and the number of levels."""
    if key not in result.inner:
        return None
    values = np.asarray(result.inner[key], dtype=np.float64)
    if values.size == 0 or np.isnan(values).all():
        return None
    flat = int(np.nanargmax(sign * values))
    return float(values.reshape(-1)[flat]), flat % values.shape[1], values.shape[1]


def inner_chains_forget(result: HasInner) -> list[str]:
    """Inner chains that still remember where they began, after the levels that are allowed for it.

    ``memory`` is the share of the spread between a particle's chains that is left since they began afresh. While it is near 1 the
    mode weights are those of the starting points and not of the density. Chains that go on from level to level may take the first
    three; chains that begin afresh at each level have no such excuse.
    """
    if "memory" not in result.inner:
        return []
    values = np.asarray(result.inner["memory"], dtype=np.float64)[:, GLOBAL_LEVELS:]
    if values.size == 0 or np.isnan(values).all():
        return []
    memory = np.nan_to_num(np.nanmean(values, 0), nan=0.0)
    above = int((memory > MEMORY).sum())
    if above == 0:
        return []
    level = int(memory.argmax())
    rhat = 1.0 / np.sqrt(max(1e-12, 1.0 - float(memory[level])))
    return [
        f"The inner chains had not forgotten where they began at {above} of {values.shape[1]} noise levels, worst at "
        f"{_level(result, level + GLOBAL_LEVELS)} (inner R-hat {rhat:.2f}, wanted below {1.0 / np.sqrt(1.0 - MEMORY):.2f}): the "
        "inner budget is too small there, and the mode weights may be those of the starting points. Raise the inner rounds, "
        "steps or chains."
    ]


def acceptance_in_range(result: HasInner) -> list[str]:
    """Acceptance of local moves below 0.1 or above 0.99."""
    messages = []
    low, high = _extreme(result, "acceptance", -1.0), _extreme(result, "acceptance", 1.0)
    if low is not None and low[0] < 0.1:
        messages.append(
            f"Local moves were hardly ever accepted at {_level(result, low[1])} (acceptance {low[0]:.2g}, "
            "wanted above 0.1): the "
            "chains stood still. Lower the step size."
        )
    if high is not None and high[0] > 0.99:
        messages.append(
            f"Local moves were nearly always accepted at {_level(result, high[1])} (acceptance {high[0]:.3f}, "
            "wanted below 0.99): the "
            "steps are too small to get anywhere. Raise the step size."
        )
    return messages
