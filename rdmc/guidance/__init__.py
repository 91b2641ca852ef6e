"""Guidance between two densities: along the scores of both, and, on request, weighted to the product of their powers."""

from rdmc.guidance.power import PowerPosterior
from rdmc.guidance.sampler import Guidance
from rdmc.guidance.strength import Interval

__all__ = ["Guidance", "Interval", "PowerPosterior"]
