"""Where ascents have passed: points at which the density was asked for its gradient, kept for later use."""

from __future__ import annotations

import torch
from torch import Tensor

from rdmc.typing import BatchedDensity

__all__ = ["Trail"]


class Trail:
    """A density that remembers every point at which its gradient was asked for, with the value there.

    An ascent begins where nothing is known and ends at a peak, which may be far from the mass; in between it passes by it.

    Args:
        density: What is evaluated.
        trodden: Points ``(n, d)`` and values ``(n,)`` to begin with, as :meth:`trodden` of another gave them.
    """

    def __init__(self, density: BatchedDensity, trodden: tuple[Tensor, Tensor] | None = None) -> None:
        self.density = density
        self._points: list[Tensor] = [] if trodden is None else [trodden[0]]
        self._values: list[Tensor] = [] if trodden is None else [trodden[1]]

    def __bool__(self) -> bool:
        """Whether there is any point."""
        return bool(self._points)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.density.dim

    def __call__(self, x: Tensor) -> Tensor:
        """Log density."""
        return self.density(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient, remembered."""
        value, grad = self.density.value_and_grad(x)
        self._points.append(x.detach().reshape(-1, self.dim))
        self._values.append(value.reshape(-1))
        return value, grad

    def trodden(self) -> tuple[Tensor, Tensor]:
        """All points ``(n, d)`` in order, and the values ``(n,)`` there."""
        return torch.cat(self._points), torch.cat(self._values)

    def first(self, n: int) -> tuple[Tensor, Tensor]:
        """The first n of the points, ``(n, d)`` and ``(n,)``: those from which nothing had been climbed."""
        points, values = self.trodden()
        return points[:n], values[:n]

    def thinned(self, n: int) -> tuple[Tensor, Tensor]:
        """At most n of the points, ``(n, d)`` and ``(n,)``, spread evenly over the ranks of their values, highest first."""
        points, values = self.trodden()
        finite = torch.isfinite(values) & torch.isfinite(points).all(-1)
        points, values = points[finite], values[finite]
        order = values.argsort(descending=True)
        rank = torch.linspace(0, len(order) - 1, min(n, len(order)), device=order.device).long()
        return points[order[rank]], values[order[rank]]
