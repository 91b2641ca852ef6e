"""What a run of the reverse diffusion tells of its own errors: start, discretisation and score, each from its own evaluations."""

from rdmc.budget.direct import Measured, measure
from rdmc.budget.follow import Followed
from rdmc.budget.step_law import StepLaw, law_of
from rdmc.budget.terms import Errors, StartError, error_terms, start_error
from rdmc.budget.transport import Transport

__all__ = [
    "Errors",
    "Followed",
    "Measured",
    "StartError",
    "StepLaw",
    "Transport",
    "error_terms",
    "law_of",
    "measure",
    "start_error",
]
