"""The reverse diffusion as a weighted proposal: Gaussian kernels, their weights, and potentials to resample by."""

from __future__ import annotations

from rdmc.path.controlled import Controlled
from rdmc.path.kernels import Diagonal, FirstOrder, Isotropic, LowRank, Moments, ReverseKernel
from rdmc.path.level import PathLevel
from rdmc.path.potential import Marginal, NoisedMixture, Potential
from rdmc.path.start import NoisedStart, NormalStart, PathStart
from rdmc.path.weights import ReverseLaw

__all__ = [
    "Controlled",
    "Diagonal",
    "FirstOrder",
    "Isotropic",
    "LowRank",
    "Marginal",
    "Moments",
    "NoisedMixture",
    "NoisedStart",
    "NormalStart",
    "PathLevel",
    "PathStart",
    "Potential",
    "ReverseKernel",
    "ReverseLaw",
]
