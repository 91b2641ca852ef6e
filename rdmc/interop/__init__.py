"""Bring your own model: PyMC, NumPyro, JAX, Pyro, Stan, NumPy, ``torch.distributions``, ``nn.Module``.

Each front end is a module with a function ``density`` that gives a :class:`Model`, which :func:`rdmc.sample` takes as it is.
Modules are imported on first use, and what they adapt when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdmc.interop import arrays as arrays
    from rdmc.interop import blackjax as blackjax
    from rdmc.interop import distributions as distributions
    from rdmc.interop import jax as jax
    from rdmc.interop import modules as modules
    from rdmc.interop import numpyro as numpyro
    from rdmc.interop import pymc as pymc
    from rdmc.interop import pyro as pyro
    from rdmc.interop import stan as stan
    from rdmc.interop.adapting import adapt as adapt
    from rdmc.interop.adapting import run as run
    from rdmc.interop.adapting import sample as sample
    from rdmc.interop.arviz import to_arviz as to_arviz
    from rdmc.interop.model import Model as Model

_HOMES = {
    "Model": "rdmc.interop.model",
    "adapt": "rdmc.interop.adapting",
    "run": "rdmc.interop.adapting",
    "sample": "rdmc.interop.adapting",
    "to_arviz": "rdmc.interop.arviz",
}
_FRONT_ENDS = ("arrays", "blackjax", "distributions", "jax", "modules", "numpyro", "pymc", "pyro", "stan")

__all__ = sorted([*_HOMES, *_FRONT_ENDS])


def __getattr__(name: str) -> Any:
    if name in _FRONT_ENDS:
        return importlib.import_module(f"rdmc.interop.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rdmc.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
