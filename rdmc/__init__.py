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
    from rdmc.guidance import Guidance as Guidance
    from rdmc.guidance import PowerPosterior as PowerPosterior
    from rdmc.locate.pilot import Pilot as Pilot
    from rdmc.locate.survey import Known as Known
    from rdmc.mixture import GaussianMixture as GaussianMixture
    from rdmc.network import ScoreNetwork as ScoreNetwork
    from rdmc.network import distill as distill
    from rdmc.parameters import Parameter as Parameter
    from rdmc.parameters import Parameters as Parameters
    from rdmc.path_smc import PathSMC as PathSMC
    from rdmc.registry import SAMPLERS as SAMPLERS
    from rdmc.relabelling import relabel as relabel
    from rdmc.reporting import report as report
    from rdmc.result import Result as Result
    from rdmc.result import load as load
    from rdmc.reverse import RDMC as RDMC
    from rdmc.rng import Streams as Streams
    from rdmc.sampling import sample as sample
    from rdmc.spread import RayExecutor as RayExecutor
    from rdmc.table import Table as Table

__version__ = "0.1.0"

_HOMES = {
    "Auto": "rdmc.auto",
    "Affine": "rdmc.coordinates",
    "Comparison": "rdmc.comparison",
    "Density": "rdmc.density",
    "GaussianMixture": "rdmc.mixture",
    "Guidance": "rdmc.guidance",
    "Known": "rdmc.locate.survey",
    "Parameter": "rdmc.parameters",
    "Parameters": "rdmc.parameters",
    "PathSMC": "rdmc.path_smc",
    "Pilot": "rdmc.locate.pilot",
    "PowerPosterior": "rdmc.guidance",
    "RDMC": "rdmc.reverse",
    "RayExecutor": "rdmc.spread",
    "Result": "rdmc.result",
    "SAMPLERS": "rdmc.registry",
    "ScoreNetwork": "rdmc.network",
    "Streams": "rdmc.rng",
    "Table": "rdmc.table",
    "compare": "rdmc.comparing",
    "distill": "rdmc.network",
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
