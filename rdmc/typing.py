"""Type aliases and the two protocols that every layer above speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from torch import Tensor

__all__ = ["BatchedDensity", "LogDensity", "ValueAndGrad"]

LogDensity: TypeAlias = Callable[[Tensor], Tensor]
"""``(M, d) -> (M,)``: an unnormalised log density, the only thing a user must write."""

ValueAndGrad: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``(M, d) -> ((M,), (M, d))``: the same value with its gradient, where it is known in closed form."""


class BatchedDensity(Protocol):
    """What a kernel may ask of a law: its log density, alone or with the gradient, over any leading shape.

    Shapes: ``x`` is ``(..., d)``, the value ``(...)``, the gradient ``(..., d)``. Neither builds an autograd graph.
    """

    @property
    def dim(self) -> int:
        """Dimension d."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """Log density, up to a constant."""
        ...

    def value_and_grad(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Log density and its gradient."""
        ...
