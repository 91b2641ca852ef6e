"""A density folded by its symmetries: one image of each mode to sample, and all images again at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.density import Density
from rdmc.locate.survey import Survey
from rdmc.locate.symmetry import Symmetry
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Folding"]

_PROBES = 1024
_SAME = 1e-6  # difference of values at images, over 1 + the value, up to which it is rounding


@dataclass(frozen=True, eq=False)
class Folding:
    r"""Between a density and :math:`|G| \pi(x) r(x)` (:mod:`rdmc.locate.symmetry`); with no symmetry nothing is changed.

    Attributes:
        affine: The coordinates.
        symmetry: Maps in these coordinates under which the density is the same, or None.
    """

    affine: Affine
    symmetry: Symmetry | None

    @classmethod
    def of(cls, survey: Survey, affine: Affine | None = None) -> Folding:
        """Of the symmetry that a survey has found, in its own coordinates or others."""
        seen = survey if affine is None else survey.seen_in(affine)
        return cls(seen.affine, seen.symmetry)

    @property
    def order(self) -> int:
        """Number of maps, the identity included."""
        return 1 if self.symmetry is None else self.symmetry.order

    def holds(self, f: BatchedDensity, x: Tensor, value: Tensor, rng: Streams) -> bool:
        """Whether the density is the same at images of 1024 of the ``(M, d)`` points in the user's coordinates, of ``(M,)`` values.

        Cost: 1024 density evaluations, none without a symmetry.
        """
        if self.symmetry is None:
            return True
        known = torch.isfinite(value) & torch.isfinite(x).all(-1)
        x, value = x[known], value[known]
        some = torch.linspace(0, len(x) - 1, rng.particles * -(-_PROBES // rng.particles), device=x.device).long()
        z = self.affine.to_white(x[some]).view(-1, rng.particles, f.dim)
        there = f(self.affine.to_user(self.symmetry.anywhere(z, rng))).flatten()
        return bool(((there - value[some]).abs() <= _SAME * (1.0 + value[some].abs())).all())

    def folded(self, density: Density) -> Density:
        r"""The density :math:`|G| \pi r`, counted with the one it is made of.

        Cost: that of the density, and ``O(|G| d)`` a point.
        """
        symmetry, affine, constant = self.symmetry, self.affine, math.log(self.order)
        if symmetry is None:
            return density

        def log_density(x: Tensor) -> Tensor:
            return density.log_density(x) + constant + symmetry.log_share(affine.to_white(x))[0]

        def gradient(x: Tensor) -> tuple[Tensor, Tensor]:
            value, grad = density.bare_value_and_grad(x)
            share, slope = symmetry.log_share(affine.to_white(x.detach()))
            return value + constant + share, grad + affine.pull_back(slope)

        return replace(density, log_density=log_density, gradient=gradient)

    def at_home(self, x: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """``(M, d)`` points moved to the image with the largest share, and the folded density there from ``(M,)`` values."""
        if self.symmetry is None:
            return x, value
        z = self.affine.to_white(x)
        z = self.symmetry.moved(z, self.symmetry.home(z))
        return self.affine.to_user(z), value + math.log(self.order) + self.symmetry.log_share(z)[0]

    def anywhere(self, density: Density, z: Tensor, value: Tensor, rng: Streams) -> Tensor:
        """``(B, d)`` draws of the folded density, of ``(B,)`` log density, in these coordinates, as draws of the density itself.

        Each is moved by a map drawn uniformly; one whose image has another density stays where it is.

        Cost: one density evaluation a draw, none without a symmetry.
        """
        if self.symmetry is None:
            return z
        here = value - math.log(self.order) - self.symmetry.log_share(z)[0]
        moved = self.symmetry.anywhere(z, rng)
        same = (density(self.affine.to_user(moved)) - here).abs() <= _SAME * (1.0 + here.abs())
        return torch.where(same[:, None], moved, z)

    def all_images(self, survey: Survey, most: int) -> Survey:
        """What was found of the folded density in these coordinates, with the heaviest ``most`` images of all modes."""
        return survey if self.symmetry is None else replace(survey, symmetry=self.symmetry).all_images(most)
