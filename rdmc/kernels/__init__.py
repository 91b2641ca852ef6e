"""Markov kernels on any batched log density: usable alone, inside the inner posterior, and as baselines."""

from rdmc.kernels.base import Info, Kernel, State, metropolis
from rdmc.kernels.guided import IndependenceJump, MixtureMALA
from rdmc.kernels.hmc import HMC
from rdmc.kernels.mala import MALA
from rdmc.kernels.metric import Dense, Diagonal, Isotropic, Metric
from rdmc.kernels.ula import ULA

__all__ = [
    "HMC",
    "MALA",
    "ULA",
    "Dense",
    "Diagonal",
    "IndependenceJump",
    "Info",
    "Isotropic",
    "Kernel",
    "Metric",
    "MixtureMALA",
    "State",
    "metropolis",
]
