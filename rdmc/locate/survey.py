"""What is known of a target before any population runs: coordinates, modes, and a mixture of Gaussians at them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.linear import spectrum
from rdmc.locate.orbits import all_images, one_of_each
from rdmc.locate.symmetry import Symmetry
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Known", "Overlooked", "Survey", "Surveyor"]


_LEAST = 1e-3  # share of an image that counts in the folded density
_MANY = 4096
_NEIGHBOURS = 16  # nearest components with which each is compared
# no equal steps: modes on a lattice would hide the valleys
_BETWEEN = (0.0, 0.11, 0.26, 0.38, 0.53, 0.61, 0.72, 0.88, 1.0)


class Overlooked(NamedTuple):
    """Shares of modes that a search would have missed, a tenth as heavy as the heaviest and in its shape; NaN if unknown.

    Attributes:
        half: Of those half as wide.
        tenth: Of those a tenth as wide.
    """

    half: float = math.nan
    tenth: float = math.nan


@dataclass(frozen=True, eq=False)
class Survey:
    """What a pilot found.

    Attributes:
        affine: The coordinates z in which the modes lie about the origin and have unit width on average.
        surrogate: Gaussian mixture in z, one component a mode.
        peak: ``(K,)`` log density at each mode.
        hits: ``(K,)`` ascents that ended at each mode.
        unseen: Good-Turing estimate of the probability that one more ascent would find a new mode.
        overlooked: Shares of smaller modes that the search would have missed.
        symmetry: Maps in z under which the density is the same, where some were found.
    """

    affine: Affine
    surrogate: GaussianMixture
    peak: Tensor
    hits: Tensor
    unseen: float
    overlooked: Overlooked = Overlooked()
    symmetry: Symmetry | None = None

    @property
    def modes(self) -> Tensor:
        """``(K, d)`` the modes in the user's coordinates."""
        return self.affine.to_user(self.surrogate.mean)

    def groups(self) -> list[int]:
        """Which mode each component belongs to: components with no valley of a nat between them are one mode."""
        k = self.surrogate.components
        mean = self.surrogate.mean
        near = torch.cdist(mean, mean).argsort(-1)[:, 1 : _NEIGHBOURS + 1]
        pair = torch.stack([torch.arange(k, device=mean.device)[:, None].expand_as(near), near]).flatten(1)
        u = mean.new_tensor(_BETWEEN)[:, None, None]
        way = self.surrogate.log_prob(mean[pair[0]] * (1.0 - u) + mean[pair[1]] * u)
        joined = way.amin(0) >= torch.minimum(way[0], way[-1]) - 1.0
        group = list(range(k))
        for i, j in pair[:, joined].T.tolist():
            low, high = sorted((group[i], group[j]))
            group = [low if g == high else g for g in group]
        return group

    def whitened(self) -> Survey:
        """The same in coordinates where the components are centred and, on average, of unit covariance.

        Itself where these widths side by side make a singular matrix; the present coordinates are good enough to go on.
        """
        centre, _ = self.surrogate.moments()
        variance, axes = spectrum(self.surrogate.within())
        inner = Affine(centre, axes * variance.clamp(min=1e-14 * float(variance[-1])).sqrt())
        try:
            outer = self.affine.after(inner)
        except RuntimeError:  # a singular matrix
            return self
        return replace(
            self,
            affine=outer,
            surrogate=self.surrogate.affine(inner.centre, torch.linalg.inv(inner.factor)),
            symmetry=None if self.symmetry is None else self.symmetry.seen_from(inner.centre, inner.factor),
        )

    def seen_in(self, affine: Affine) -> Survey:
        """The same findings in other coordinates."""
        between = torch.linalg.solve(affine.factor, self.affine.factor)
        origin = torch.linalg.solve(self.affine.factor, affine.centre - self.affine.centre)
        seen = None
        if self.symmetry is not None:
            back = torch.linalg.inv(between)
            seen = self.symmetry.seen_from(origin, back)
        return replace(self, affine=affine, surrogate=self.surrogate.affine(origin, between), symmetry=seen)

    def one_of_each(self) -> Survey:
        """Of a symmetric density one mode of each orbit, as the folded density (:class:`rdmc.locate.folding.Folding`) has them.

        Of a mode that is hardly told from another image of it, both.
        """
        if self.symmetry is None:
            return self
        home = one_of_each((self.surrogate, self.peak, self.hits), self.symmetry)
        mixture, peak, hits = all_images(home, self.symmetry, _MANY, least=_LEAST)
        share = self.symmetry.log_share(mixture.mean)[0]
        mixture = replace(mixture, log_weight=mixture.log_weight + share)
        peak = peak + math.log(self.symmetry.order) + share
        return replace(self, surrogate=mixture, peak=peak, hits=hits, symmetry=None).whitened()

    def all_images(self, most: int) -> Survey:
        """Of a symmetric density the heaviest ``most`` images of all modes."""
        if self.symmetry is None:
            return self
        mixture, peak, hits = all_images((self.surrogate, self.peak, self.hits), self.symmetry, most)
        return replace(self, surrogate=mixture, peak=peak, hits=hits).whitened()

    @property
    def unlike(self) -> float:
        """Standard deviation over the modes of the logarithm of their volume, in nats, each with the weight of the surrogate."""
        weight, volume = self.surrogate.log_weight.softmax(0), 0.5 * self.surrogate.variance.log().sum(-1)
        return math.sqrt(float((weight * (volume - (weight * volume).sum()).square()).sum()))

    @property
    def spread(self) -> float:
        """Largest standard deviation of the surrogate in any direction, in mean mode widths."""
        _, covariance = self.surrogate.moments()
        return math.sqrt(float(torch.linalg.eigvalsh(covariance)[-1]))


class Surveyor(Protocol):
    """A way to learn about the target before any population runs."""

    @property
    def starts(self) -> int:
        """Particles whose random streams it uses."""
        ...

    def run(self, f: BatchedDensity, rng: Streams) -> Survey:
        """Find modes, coordinates and the surrogate."""
        ...


@dataclass(frozen=True, eq=False)
class Known:
    """What the caller knows already, for example from a Laplace or variational approximation, in place of a pilot.

    Cost: one density evaluation per component.

    Args:
        mixture: Gaussian mixture near the target, in the user's coordinates.
    """

    mixture: GaussianMixture
    starts: int = 1

    def run(self, f: BatchedDensity, rng: Streams) -> Survey:
        """The mixture in coordinates of its own average scale."""
        centre, _ = self.mixture.moments()
        affine = Affine.from_covariance(centre, self.mixture.within())
        surrogate = self.mixture.affine(affine.centre, torch.linalg.inv(affine.factor))
        peak = f(self.mixture.mean)
        return Survey(affine, surrogate, peak, torch.zeros(self.mixture.components, dtype=torch.int64), math.nan)
