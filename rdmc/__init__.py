"""Reverse Diffusion Monte Carlo: draws from unnormalised, multimodal densities, with diagnostics to believe them by.

Names are imported on first use, so that ``import rdmc`` and the command line start at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdmc import interop as interop
    from rdmc.auto import Auto as Auto
    from rdmc.comparing import compare as compare
    from rdmc.comparison import Comparison as Comparison
    from rdmc.coordinates import Affine as Affine
    from rdmc.density import Density as Density
    from rdmc.mixture import GaussianMixture as GaussianMixture
    from rdmc.parameters import Parameter as Parameter
    from rdmc.parameters import Parameters as Parameters
    from rdmc.pilot import Pilot as Pilot
    from rdmc.registry import SAMPLERS as SAMPLERS
    from rdmc.relabelling import relabel as relabel
    from rdmc.reporting import report as report
    from rdmc.result import Result as Result
    from rdmc.result import load as load
    from rdmc.reverse import RDMC as RDMC
    from rdmc.rng import Streams as Streams
    from rdmc.sampling import sample as sample
    from rdmc.spread import RayExecutor as RayExecutor
    from rdmc.survey import Known as Known
    from rdmc.table import Table as Table

__version__ = "0.1.0"

_HOMES = {
    "Auto": "rdmc.auto",
    "Affine": "rdmc.coordinates",
    "Comparison": "rdmc.comparison",
    "Density": "rdmc.density",
    "GaussianMixture": "rdmc.mixture",
    "Known": "rdmc.survey",
    "Parameter": "rdmc.parameters",
    "Parameters": "rdmc.parameters",
    "Pilot": "rdmc.pilot",
    "RDMC": "rdmc.reverse",
    "RayExecutor": "rdmc.spread",
    "Result": "rdmc.result",
    "SAMPLERS": "rdmc.registry",
    "Streams": "rdmc.rng",
    "Table": "rdmc.table",
    "compare": "rdmc.comparing",
    "load": "rdmc.result",
    "relabel": "rdmc.relabelling",
    "report": "rdmc.reporting",
    "sample": "rdmc.sampling",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "interop":
        return importlib.import_module("rdmc.interop")
    if name not in _HOMES:
        raise AttributeError(f"module 'rdmc' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
