"""A reference: a law to begin from, and a mixture that tells local moves the scale at each place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rdmc.kernels.guided import Components, Proposal
from rdmc.mixture import GaussianMixture
from rdmc.student import StudentMixture

__all__ = ["Law", "Reference", "covering"]


class Law(Proposal, Protocol):
    """A law that can be drawn from, with its density and gradient in closed form."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` normalised log density at ``(..., d)``, and its gradient."""
        ...


@dataclass(frozen=True, eq=False)
class Reference:
    """Where tempering begins, and what guides its local moves.

    Args:
        law: The law g that draws, weights and jumps come from.
        guide: Mixture whose component covariances precondition local moves.
        name: What it is, for the record of the run.
        tail: Degrees of freedom of its tails; a Gaussian's count as 10.
    """

    law: Law
    guide: Components
    name: str
    tail: int = 10

    @classmethod
    def student(cls, mixture: GaussianMixture, df: int, widening: float, name: str) -> Reference:
        """A mixture widened and given Student tails, as law and as guide."""
        law = StudentMixture(mixture.widened(widening), df)
        return cls(law, law, name, df)


def covering(points: Tensor, widening: float) -> GaussianMixture:
    """One Gaussian with the moments of ``(M, d)`` points, ``widening`` times as wide: what no fit has left out."""
    centred = points - points.mean(0)
    covariance = centred.T @ centred / max(1, len(points) - 1)
    ridge = 1e-10 * torch.diagonal(covariance).clamp(min=torch.finfo(points.dtype).tiny)
    return GaussianMixture.from_covariance(
        points.mean(0)[None], widening**2 * (covariance + torch.diag(ridge))[None], points.new_ones(1)
    )
