r"""Finite groups of affine maps that leave a density as it is, and the part of space that holds one point of every orbit.

A posterior with exchangeable labels is the same under every renaming of them, so each of its modes has K! images. One of each is
enough to look for, to fit and to sample: with the share

.. math:: r(x) = \frac{e^{c \cdot x}}{\sum_g e^{c \cdot g x}}, \qquad \sum_g r(g x) = 1,

the density :math:`|G| \pi(x) r(x)` has the mass of :math:`\pi`, sits about one image of each orbit, and a draw of it moved by a map
of the group, drawn uniformly, is a draw of :math:`\pi`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rdmc.rng import Streams

__all__ = ["Map", "Symmetry"]

Map = tuple[Tensor, Tensor]

_MOST = 5040  # maps of a group: all orders of seven labels
_LONGEST = 60  # times that a map may be repeated until it is the identity
_SAME = 1e-6  # distance of images, in units of the coordinates, below which two maps are one
_AT_ONCE = 2**20  # numbers


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A finite group of maps ``x -> matrix x + shift``, the identity first, and the direction that tells images apart.

    Args:
        matrix: ``(G, d, d)``, of determinant 1 or -1.
        shift: ``(G, d)``.
        cut: ``(d,)`` the c of the share; 0 shares evenly.

    Example:
        >>> mirror = Symmetry.generated([(torch.tensor([[-1.0]]), torch.tensor([2.0]))], torch.tensor([[0.0]]))
        >>> mirror.order, mirror.images(torch.tensor([[0.5]])).flatten().tolist()
        (2, [0.5, 1.5])
    """

    matrix: Tensor
    shift: Tensor
    cut: Tensor

    @classmethod
    def generated(cls, generators: Sequence[Map], about: Tensor) -> Symmetry | None:
        """The group of all products of the generators, or None if there are more than 5040 or one has no finite order.

        Args:
            generators: Matrices ``(d, d)`` and shifts ``(d,)``.
            about: ``(n, d)`` points; maps that take them and points about them to the same places are one.
        """
        d = about.shape[1]
        near = torch.cat([about, about[:1] + torch.eye(d, dtype=about.dtype, device=about.device)])
        if any(not _finite(one, near) for one in generators):
            return None
        identity = (torch.eye(d, dtype=about.dtype, device=about.device), torch.zeros_like(about[0]))
        group, places = [identity], near.flatten()[None]
        first = 0
        while first < len(group):
            matrix, shift = group[first]
            first += 1
            for a, b in generators:
                product = (a @ matrix, a @ shift + b)
                place = (near @ product[0].T + product[1]).flatten()[None]
                if float((places - place).abs().amax(1).min()) > _SAME * (1.0 + float(place.abs().max())):
                    group.append(product)
                    places = torch.cat([places, place])
            if len(group) > _MOST:
                return None
        matrices, shifts = (torch.stack(part) for part in zip(*group, strict=True))
        return cls(matrices, shifts, torch.zeros_like(about[0]))

    @property
    def order(self) -> int:
        """Number G of maps."""
        return len(self.matrix)

    @cached_property
    def inverse(self) -> Tensor:
        """``(G, d, d)`` the matrices of the maps backwards."""
        return torch.linalg.inv(self.matrix)

    def images(self, x: Tensor) -> Tensor:
        """``(G, M, d)`` all images of ``(M, d)`` points."""
        return x @ self.matrix.transpose(1, 2) + self.shift[:, None]

    def moved(self, x: Tensor, g: Tensor) -> Tensor:
        """``(M, d)`` the image of each point under the map of its own, of ``(M,)`` indices."""
        return torch.einsum("mij,mj->mi", self.matrix[g], x) + self.shift[g]

    def anywhere(self, x: Tensor, rng: Streams) -> Tensor:
        """``(..., B, d)`` points, each moved by a map drawn uniformly; the law of a symmetric density is left invariant."""
        g = rng.integers(x.shape[:-1], self.order)
        return self.moved(x.reshape(-1, x.shape[-1]), g.reshape(-1)).view(x.shape)

    def home(self, x: Tensor) -> Tensor:
        """``(M,)`` which map takes each point to the image with the largest share."""
        weight, offset = self._heights
        parts = [torch.addmm(offset, part, weight.T).argmax(1) for part in x.split(max(1, _AT_ONCE // self.order))]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=x.device)

    def log_share(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(M,)`` log r and its slope ``(M, d)``."""
        weight, offset = self._heights
        values, slopes = [], []
        for part in x.split(max(1, _AT_ONCE // self.order)):
            height = torch.addmm(offset, part, weight.T)
            total = torch.logsumexp(height, 1, keepdim=True)
            values.append((part @ self.cut) - total[:, 0])
            slopes.append(self.cut - torch.exp(height - total) @ weight)
        return torch.cat(values), torch.cat(slopes)

    def seen_from(self, centre: Tensor, factor: Tensor) -> Symmetry:
        """The same group in coordinates z, x = centre + factor z."""
        matrix = torch.linalg.solve(factor, self.matrix @ factor)
        shift = torch.linalg.solve(factor, (self.matrix @ centre + self.shift - centre).T).T
        return Symmetry(matrix, shift, factor.T @ self.cut)

    @cached_property
    def _heights(self) -> Map:
        """Slopes ``(G, d)`` and constants ``(G,)`` of c . g x."""
        return torch.einsum("i,gij->gj", self.cut, self.matrix), self.shift @ self.cut


def _finite(one: Map, near: Tensor) -> bool:
    """Whether the map, repeated, comes back."""
    x = near
    for _ in range(_LONGEST):
        x = x @ one[0].T + one[1]
        if float((x - near).abs().max()) <= _SAME * (1.0 + float(near.abs().max())):
            return True
    return False
