"""Two references as one: what either covers, both do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.correct.reference import Law, Reference
from rdmc.look import Look
from rdmc.rng import Streams

__all__ = ["PooledLaw", "pooled"]


@dataclass(frozen=True, eq=False)
class PooledLaw:
    r"""Half of one law and half of another, :math:`g = (g_1 + g_2) / 2`.

    Since :math:`g \ge g_i / 2`, a weight pi/g is at most twice that of the better law, at every point: where each law lacks
    something that the other has, the variance of the weights falls from infinity to what is common to both.

    Shapes: points are ``(..., d)``. Cost: that of both laws, no evaluation of the target.

    Source: Hesterberg (1995), Technometrics 37(2), 185-194 (defensive mixtures); Owen and Zhou (2000), JASA 95(449), 135-143.

    Args:
        first: g_1.
        second: g_2.
    """

    first: Law
    second: Law

    def draw(self, rng: Streams, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """``(*lead, B, d)`` draws and the ``(*lead, B)`` number of the law that each came from."""
        x, y = self.first.draw(rng, lead)[0], self.second.draw(rng, lead)[0]
        label = rng.uniform((*lead, rng.particles)) < 0.5
        return torch.where(label[..., None], y, x), label.long()

    def log_prob(self, x: Tensor) -> Tensor:
        """``(...)`` normalised log density."""
        return torch.logaddexp(self.first.log_prob(x), self.second.log_prob(x)) - math.log(2.0)

    def look(self, x: Tensor) -> Look:
        """Log density, and the probability that each law made x."""
        parts = torch.stack([self.first.log_prob(x), self.second.log_prob(x)], -1)
        return Look(torch.logsumexp(parts, -1) - math.log(2.0), torch.softmax(parts, -1))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log density and its ``(..., d)`` gradient, in closed form."""
        (a, slope), (b, other) = self.first.value_and_grad(x), self.second.value_and_grad(x)
        share = torch.sigmoid(b - a)[..., None]
        return torch.logaddexp(a, b) - math.log(2.0), slope + share * (other - slope)


def pooled(reference: Reference, former: Reference) -> Reference:
    """A reference with a former one; local moves follow the new one."""
    law = PooledLaw(reference.law, former.law)
    return Reference(law, reference.guide, f"{reference.name}, pooled", min(reference.tail, former.tail))
