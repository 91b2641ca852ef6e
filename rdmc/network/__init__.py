"""A score network distilled from the draws of a run: many more draws, a normalised density, a proposal."""

from rdmc.network.denoiser import FittedDenoiser
from rdmc.network.distilling import distill
from rdmc.network.guide import Guide, Guiding, NetworkGuide
from rdmc.network.losses import DenoisingLoss, ImplicitLoss, Loss, ScoreRegression, TargetScoreLoss
from rdmc.network.module import Architecture
from rdmc.network.noise import LogNormal, LogUniform, NoiseLaw
from rdmc.network.score_network import ScoreNetwork
from rdmc.network.starting import Tails
from rdmc.network.training import Training
from rdmc.network.weights import IndependenceChains, Weights

__all__ = [
    "Architecture",
    "DenoisingLoss",
    "FittedDenoiser",
    "Guide",
    "Guiding",
    "ImplicitLoss",
    "IndependenceChains",
    "LogNormal",
    "LogUniform",
    "Loss",
    "NetworkGuide",
    "NoiseLaw",
    "ScoreNetwork",
    "ScoreRegression",
    "Tails",
    "TargetScoreLoss",
    "Training",
    "Weights",
    "distill",
]
