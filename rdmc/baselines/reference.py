r"""The broad law that tempering begins with: the Gaussian with the pilot's moments, and the path from it to the target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.kernels import State
from rdmc.locate.survey import Survey
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Path", "Reference"]


@dataclass(frozen=True, eq=False)
class Reference:
    r"""The Gaussian g with the moments of the pilot's mixture, its standard deviation inflated.

    Everything runs in the coordinates u in which g = N(0, I); their axes are those of the mixture's covariance, so that a mode of
    average width has the diagonal precision ``local`` there.

    Attributes:
        affine: The coordinates u.
        local: ``(d,)`` precision of an average mode in u.
    """

    affine: Affine
    local: Tensor

    @classmethod
    def of(cls, survey: Survey, inflation: float) -> Reference:
        """From what a pilot found; the standard deviation is multiplied by ``inflation``."""
        mean, covariance = survey.surrogate.moments()
        variance, axes = torch.linalg.eigh(covariance)
        variance = variance.clamp(min=1e-12) * inflation**2
        factor = survey.affine.factor @ (axes * variance.sqrt())
        return cls(Affine(survey.affine.to_user(mean), factor), variance)

    def log_prob(self, u: Tensor) -> Tensor:
        """``(...)`` normalised log g."""
        return -0.5 * u.square().sum(-1) - 0.5 * u.shape[-1] * math.log(2.0 * math.pi)

    def draw(self, rng: Streams, lead: tuple[int, ...] = ()) -> Tensor:
        """``(*lead, B, d)`` draws of g."""
        return rng.normal((*lead, rng.particles, self.local.shape[0]))

    def width(self, beta: Tensor) -> Tensor:
        """``(..., d)`` standard deviation of an average mode of g^(1 - beta) pi^beta, for ``beta`` of shape ``(...)``."""
        b = beta[..., None]
        return (1.0 - b + b * self.local).rsqrt()


@dataclass(frozen=True, eq=False)
class Path:
    r"""The law :math:`g^{1-\beta} \pi^\beta`, with a beta for each of many chains.

    Args:
        target: log pi in the reference's coordinates.
        reference: g.
        beta: ``(...)`` in (0, 1], the leading shape of the points.
    """

    target: BatchedDensity
    reference: Reference
    beta: Tensor

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.target.dim

    def __call__(self, u: Tensor) -> Tensor:
        """Log density."""
        base = self.reference.log_prob(u)
        return base + self.beta * (self.target(u) - base)

    def value_and_grad(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient: one gradient evaluation of the target."""
        value, grad = self.target.value_and_grad(u)
        base = self.reference.log_prob(u)
        return base + self.beta * (value - base), self.beta[..., None] * (grad + u) - u

    def state(self, u: Tensor, ratio: Tensor, slope: Tensor) -> State:
        """A kernel's state from log pi/g and its gradient, at no evaluation."""
        return State(u, self.reference.log_prob(u) + self.beta * ratio, self.beta[..., None] * slope - u)

    def ratio(self, state: State) -> tuple[Tensor, Tensor]:
        """Log pi/g and its gradient from a kernel's state, at no evaluation."""
        ratio = (state.value - self.reference.log_prob(state.x)) / self.beta
        return ratio, (state.grad + state.x) / self.beta[..., None]
