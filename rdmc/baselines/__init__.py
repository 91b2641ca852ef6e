"""The samplers a practitioner would try first, on the same contract as ours."""

from rdmc.baselines.annealed_langevin import AnnealedLangevin
from rdmc.baselines.chains import LongChains
from rdmc.baselines.ensemble import Ensemble
from rdmc.baselines.nuts import NUTS
from rdmc.baselines.tempered_smc import TemperedSMC
from rdmc.baselines.tempering import ParallelTempering

__all__ = ["NUTS", "AnnealedLangevin", "Ensemble", "LongChains", "ParallelTempering", "TemperedSMC"]
