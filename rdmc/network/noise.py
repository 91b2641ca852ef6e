"""Noise levels of the training: over which range, and how often each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Levels", "LogNormal", "LogUniform", "NoiseLaw", "noise_range"]

_POINTS = 2000  # at most so many draws are compared with each other
_FINEST, _COARSEST = 0.002, 0.02
_UNSEEN = 5.0


class NoiseLaw(Protocol):
    """The law of sigma on [low, high], by its quantile function."""

    def quantile(self, u: Tensor, low: float, high: float) -> Tensor:
        """``(B,)`` noise levels at ``(B,)`` probabilities in [0, 1)."""
        ...


@dataclass(frozen=True)
class LogUniform:
    """log sigma is uniform: every factor of two in sigma gets the same number of examples."""

    def quantile(self, u: Tensor, low: float, high: float) -> Tensor:
        """The quantile function."""
        return torch.exp(math.log(low) + u * math.log(high / low))


@dataclass(frozen=True)
class LogNormal:
    """log sigma is normal, cut to the range: most examples where modes are told apart.

    Args:
        mean: Of log sigma.
        sd: Of log sigma, > 0.

    Raises:
        ValueError: If ``sd`` is not positive.
    Source: Karras et al. (2022), arXiv:2206.00364, table 1, with -1.2 and 1.2 for images.
    """

    mean: float = -1.2
    sd: float = 1.5

    def __post_init__(self) -> None:
        if not self.sd > 0.0:
            raise ValueError(f"`sd` must be a positive float, got {self.sd!r}")

    def quantile(self, u: Tensor, low: float, high: float) -> Tensor:
        """The quantile function of the normal law conditioned on the range."""
        ends = [0.5 * math.erfc((self.mean - math.log(end)) / (self.sd * math.sqrt(2.0))) for end in (low, high)]
        p = (ends[0] + u.double() * (ends[1] - ends[0])).clamp(1e-12, 1.0 - 1e-12)
        return torch.exp(self.mean + self.sd * torch.special.ndtri(p)).clamp(low, high).to(u.dtype)


class Levels(NamedTuple):
    """A law of noise levels with its range, in whitened coordinates.

    Attributes:
        law: How often each level.
        low: sigma_min > 0: what is finer than this is not learnt, and the draws keep this much noise.
        high: sigma_max: where the noised draws are taken to be normal.
    """

    law: NoiseLaw
    low: float
    high: float

    def at(self, u: Tensor) -> Tensor:
        """``(B,)`` noise levels at ``(B,)`` probabilities."""
        return self.law.quantile(u, self.low, self.high)


def noise_range(z: Tensor) -> tuple[float, float]:
    r"""sigma_min and sigma_max that suit ``(n, d)`` whitened draws.

    sigma_min is a fifth of the distance of near neighbours per coordinate (its 10 % quantile over draws), within [.002,
    .02] standard deviations. sigma_max is twice the largest coordinate, at least 5: there the noised draws are normal
    but for their third moment, which is left to :math:`(1 + \sigma^2)^{-3/2}` of itself.

    Cost: ``O(m^2 d)`` for the first m = 2000 draws.
    """
    few = z[:: -(-len(z) // _POINTS)].double()
    apart = torch.cdist(few, few)
    apart.fill_diagonal_(torch.inf)
    apart = apart.masked_fill(apart == 0.0, torch.inf).amin(1)  # chains repeat themselves
    near = apart[apart.isfinite()]
    fine = 0.2 * float(near.quantile(0.1)) / z.shape[-1] ** 0.5 if len(near) else _COARSEST
    return min(max(fine, _FINEST), _COARSEST), max(_UNSEEN, 2.0 * float(z.abs().max()))
