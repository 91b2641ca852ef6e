"""Where paths begin: laws of x_T whose density is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rdmc.mixture import GaussianMixture
from rdmc.path.weights import noised
from rdmc.process import ForwardProcess

__all__ = ["NoisedStart", "NormalStart", "PathStart"]


class PathStart(Protocol):
    """The law p_ref of x_T."""

    def law(self, process: ForwardProcess, surrogate: GaussianMixture) -> GaussianMixture:
        """A law that can be drawn from and whose density is known."""
        ...


@dataclass(frozen=True)
class NoisedStart:
    """The surrogate's own law at the horizon, components' covariances alpha^2 S + sigma^2 I: p_T if the surrogate is pi."""

    def law(self, process: ForwardProcess, surrogate: GaussianMixture) -> GaussianMixture:
        """The noised surrogate."""
        return noised(surrogate, process.alpha(process.horizon), process.sigma(process.horizon))


@dataclass(frozen=True)
class NormalStart:
    """N(mean, sd^2 I) in the process's coordinates.

    Args:
        mean: The mean of every coordinate.
        sd: Standard deviation > 0.

    Raises:
        ValueError: If ``sd`` is not positive.
    """

    mean: float = 0.0
    sd: float = 1.0

    def __post_init__(self) -> None:
        if not self.sd > 0.0:
            raise ValueError(f"`sd` must be a positive float, got {self.sd!r}")

    def law(self, process: ForwardProcess, surrogate: GaussianMixture) -> GaussianMixture:
        """The normal law."""
        like = surrogate.mean
        centre = like.new_full((1, surrogate.dim), self.mean)
        return GaussianMixture.isotropic(centre, like.new_full((1,), self.sd), like.new_ones(1))
