"""Models written over named, shaped, constrained parameters."""

from rdmc.parameters.bijections import Bijection
from rdmc.parameters.collection import NamedDensity, Parameters
from rdmc.parameters.constraints import NAMED, ordered, positive_ordered
from rdmc.parameters.parameter import Parameter

__all__ = ["NAMED", "Bijection", "NamedDensity", "Parameter", "Parameters", "ordered", "positive_ordered"]
