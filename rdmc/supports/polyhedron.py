r"""A support with flat faces, seen without them: logarithms of distances to faces, log-ratios where these close a simplex."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.rng import Streams
from rdmc.supports.support import Support, reach

__all__ = ["Polyhedron"]


@dataclass(frozen=True, eq=False)
class Polyhedron(Support):
    r"""The affine image :math:`x = c + A z` of a product of half-lines, simplices and lines.

    ==================  =====================================================  =======================
    coordinates z       of k coordinates y                                     log of the determinant
    ==================  =====================================================  =======================
    on half-lines       :math:`e^y`                                            :math:`\sum y`
    in a simplex        :math:`p_i = e^{y_i} / (1 + \sum_j e^{y_j})`           :math:`\sum_{i=1}^{k+1} \log p_i`
    free                :math:`y`                                              :math:`0`
    ==================  =====================================================  =======================

    The last share of a simplex is what the others leave, :math:`p_{k+1} = 1 - \sum_{i \le k} p_i`; an interval is a simplex of one
    coordinate. Numbers in order are a cone of half-lines, and numbers in order between two bounds a simplex.

    Shapes: points are ``(..., d)``. Cost: ``O(d^2)`` a point, no evaluation of the target.

    Args:
        affine: c and A.
        positive: How many coordinates, the first of z, are on half-lines.
        simplices: How many coordinates each simplex has; they are the next ones of z.

    Raises:
        ValueError: If there are more of these coordinates than dimensions, or fewer than none.

    Example:
        >>> ordered = Affine(torch.zeros(2), torch.tensor([[0.0, 1.0], [1.0, 1.0]]))  # x_2 = x_1 + z_1
        >>> Polyhedron(ordered, positive=1).forward(torch.tensor([[0.0, 3.0]]))
        tensor([[3., 4.]])
    """

    affine: Affine
    positive: int = 0
    simplices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.positive < 0 or any(k < 1 for k in self.simplices) or self._free < 0:
            raise ValueError(
                f"`positive` and `simplices` must be numbers of coordinates, {self.affine.dim} at most in all, "
                f"got {self.positive!r} and {self.simplices!r}"
            )

    @property
    def _free(self) -> int:
        return self.affine.dim - self.positive - sum(self.simplices)

    @property
    def kind(self) -> str:
        """``"polytope"`` if it is bounded, else ``"polyhedron"``."""
        return "polytope" if self.bounded else "polyhedron"

    @property
    def bounded(self) -> bool:
        """Whether all is made of simplices."""
        return self.positive == 0 and self._free == 0

    def _parts(self, y: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Coordinates of half-lines, of each simplex, and free ones."""
        half, *simplices, free = y.split([self.positive, *self.simplices, self._free], -1)
        return half, simplices, free

    def forward(self, y: Tensor) -> Tensor:
        """``(..., d)`` points of the support for ``(..., d)`` points anywhere."""
        half, simplices, free = self._parts(y)
        shares = [_log_shares(part)[..., :-1].exp() for part in simplices]
        return self.affine.to_user(torch.cat([half.clamp(max=reach(y.dtype)).exp(), *shares, free], -1))

    def inverse(self, x: Tensor) -> Tensor:
        """``(..., d)`` points anywhere for ``(..., d)`` points of the support."""
        half, simplices, free = self._parts(self.affine.to_white(x))
        ratios = [part.log() - (1.0 - part.sum(-1, keepdim=True)).log() for part in simplices]
        return torch.cat([half.log(), *ratios, free], -1)

    @cached_property
    def _log_size(self) -> Tensor:
        """``()`` log |det A|."""
        return self.affine.log_det()

    def log_det(self, y: Tensor) -> Tensor:
        """``(...)`` log |det T'(y)|."""
        half, simplices, _ = self._parts(y)
        log_det = self._log_size + half.sum(-1)
        for part in simplices:
            log_det = log_det + _log_shares(part).sum(-1)
        return log_det

    def pulled(self, y: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log |det T'(y)|, and the ``(..., d)`` gradient in y of the density seen, for that of the density in x."""
        half, simplices, _ = self._parts(y)
        on_half, on_simplices, free = self._parts(grad @ self.affine.factor)
        log_det, slopes = self._log_size + half.sum(-1), [on_half * half.exp() + 1.0]
        for part, rise in zip(simplices, on_simplices, strict=True):
            log_p = _log_shares(part)
            p = log_p[..., :-1].exp()
            log_det = log_det + log_p.sum(-1)
            slopes.append(p * (rise - (p * rise).sum(-1, keepdim=True)) + 1.0 - (part.shape[-1] + 1) * p)
        return log_det, torch.cat([*slopes, free], -1)

    def beyond(self, y: Tensor) -> Tensor:
        """``(...)`` whether a distance from a face is so large, or so small, that nothing can be computed."""
        return (y[..., : self.positive].abs() > reach(y.dtype)).any(-1)

    def ends(self, y: Tensor) -> Tensor:
        """``(n, d)`` where ``(d,)`` y comes to if one coordinate that has to do with a face goes as far as it can, either way."""
        bounded = torch.arange(len(y) - self._free, device=y.device)[:, None]
        return torch.cat([y.expand(len(bounded), -1).scatter(1, bounded, end * reach(y.dtype)) for end in (-1.0, 1.0)])

    def scattered(self, count: int, rng: Streams) -> Tensor:
        """``(n, d)`` points y for uniform ones of the polytope, n at most ``count``.

        Raises:
            ValueError: If it is not bounded.
        """
        if not self.bounded:
            raise ValueError("points are uniform where the support is bounded; this one is not")
        shape = (max(1, count // rng.particles), rng.particles, self.affine.dim + len(self.simplices))
        # logarithms of exponential variables: in what proportion they are is uniform
        each = (-rng.log_uniform(shape, particle_axis=1)).clamp(min=torch.finfo(rng.dtype).tiny).log().flatten(0, 1)
        parts = each.split([k + 1 for k in self.simplices], -1)
        return torch.cat([part[:, :-1] - part[:, -1:] for part in parts], -1)


def _log_shares(y: Tensor) -> Tensor:
    """``(..., k + 1)`` logarithms of the shares of a simplex of k coordinates."""
    return torch.log_softmax(torch.cat([y, torch.zeros_like(y[..., :1])], -1), -1)
