"""Names of the real coordinates that a sampler sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["coordinate_names", "unconstrained"]


def unconstrained(name: str) -> str:
    """What the real coordinates of a constrained parameter are called."""
    return f"{name}_unconstrained"


def coordinate_names(names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """One name per coordinate of the flat vector.

    Example:
        >>> coordinate_names(["mu", "theta"], [(), (2,)])
        ('mu', 'theta[0]', 'theta[1]')
    """
    return tuple(
        name + (f"[{','.join(map(str, index))}]" if index else "")
        for name, shape in zip(names, shapes, strict=True)
        for index in np.ndindex(*shape)
    )
