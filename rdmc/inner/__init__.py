"""Ways to draw from the inner posterior q_t(x_0 | x_t)."""

from rdmc.inner.annealed import Annealed
from rdmc.inner.base import Draws, InnerSampler, Started, Warm
from rdmc.inner.chains import Chains
from rdmc.inner.guided import GuidedChains
from rdmc.inner.importance import FromLikelihood, FromSurrogate, Importance, Law, Proposal, Shifted
from rdmc.inner.recursive import Recursive
from rdmc.inner.rejection import Rejection
from rdmc.inner.staged import Staged

__all__ = [
    "Annealed",
    "Chains",
    "Draws",
    "FromLikelihood",
    "FromSurrogate",
    "GuidedChains",
    "Importance",
    "InnerSampler",
    "Law",
    "Proposal",
    "Recursive",
    "Rejection",
    "Shifted",
    "Staged",
    "Started",
    "Warm",
]
