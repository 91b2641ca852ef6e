"""Samplers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rdmc.auto import Auto
from rdmc.baselines import NUTS, AnnealedLangevin, Ensemble, LongChains, ParallelTempering, TemperedSMC
from rdmc.kernels import HMC, MALA, ULA
from rdmc.path_smc import PathSMC
from rdmc.reverse import RDMC
from rdmc.sampler import Sampler

__all__ = ["SAMPLERS", "sampler_named"]

SAMPLERS: dict[str, Callable[[], Sampler[Any]]] = {
    "auto": Auto,
    "rdmc": RDMC,
    "rdmc-published": RDMC.published,
    "rdmc-smc": PathSMC,
    "ula": lambda: LongChains(ULA(step_size=0.02)),
    "mala": lambda: LongChains(MALA()),
    "hmc": lambda: LongChains(HMC()),
    "annealed-langevin": AnnealedLangevin,
    "parallel-tempering": ParallelTempering,
    "nuts": NUTS,
    "tempered-smc": TemperedSMC,
    "emcee": Ensemble,
}
"""Name to factory; a new sampler is one line here."""


def sampler_named(name: str) -> Sampler[Any]:
    """The sampler of that name at its defaults.

    Raises:
        ValueError: If there is none; the message lists the names.
    """
    if name not in SAMPLERS:
        raise ValueError(f"`sampler` must be a sampler object or one of {sorted(SAMPLERS)}, got {name!r}")
    return SAMPLERS[name]()
