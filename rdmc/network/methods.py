"""Steps that draw from a score network, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from rdmc.steps import Ancestral, Bridge, EulerMaruyama, Exponential, Heun, Multistep, Step

__all__ = ["METHODS", "require_noise", "step_named"]

METHODS: Mapping[str, Step] = MappingProxyType(
    {
        "ancestral": Ancestral(),
        "euler": EulerMaruyama(),
        "exponential": Exponential(),
        "heun": Heun(),
        "multistep": Multistep(),
    }
)
"""Name to step; a new one is one line here."""


def step_named(method: str | Step) -> Step:
    """The step of that name, or the step itself.

    Raises:
        ValueError: If there is none, or it is :class:`rdmc.steps.Bridge`, which needs draws of x_0 and not means.
    """
    step = METHODS.get(method) if isinstance(method, str) else method
    if step is None or isinstance(step, Bridge) or not callable(step):
        raise ValueError(
            f"`method` must be one of {sorted(METHODS)} or a step that uses means (Bridge needs draws of x_0), got {method!r}"
        )
    return step


def require_noise(name: str, value: float) -> None:
    """Refuse anything but a positive noise level.

    Raises:
        ValueError: Naming the argument.
    """
    if not value > 0.0 or not math.isfinite(value):
        raise ValueError(f"`{name}` must be a positive float, got {value!r}")
