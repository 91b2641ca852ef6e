"""Steps of the reverse diffusion: x_t -> x_s, given what is known about x_0 and given noise."""

from rdmc.steps.ancestral import Ancestral
from rdmc.steps.base import Denoiser, Estimate, Memory, Step
from rdmc.steps.bridge import Bridge
from rdmc.steps.euler import EulerMaruyama
from rdmc.steps.exponential import Exponential
from rdmc.steps.heun import Heun
from rdmc.steps.multistep import Multistep

__all__ = [
    "Ancestral",
    "Bridge",
    "Denoiser",
    "Estimate",
    "EulerMaruyama",
    "Exponential",
    "Heun",
    "Memory",
    "Multistep",
    "Step",
]
