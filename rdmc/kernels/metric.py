"""Preconditioners: a square root L of the covariance a kernel should assume, applied and transposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Dense", "Diagonal", "Isotropic", "Metric"]


class Metric(Protocol):
    """A linear map L, such that L L^T is about the covariance of the law. Shapes: ``(..., d) -> (..., d)``.

    The identity may give its argument back, so what comes out is not the caller's to change.
    """

    def colour(self, v: Tensor) -> Tensor:
        """L v: white noise to the law's units."""
        ...

    def transpose(self, v: Tensor) -> Tensor:
        """L^T v: a gradient to whitened coordinates."""
        ...


@dataclass(frozen=True)
class Isotropic:
    """L = scale I.

    Args:
        scale: Length scale > 0.

    Raises:
        ValueError: If ``scale`` is not positive.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0.0:
            raise ValueError(f"`scale` must be a positive float, got {self.scale!r}")

    def colour(self, v: Tensor) -> Tensor:
        """Scale v."""
        return v if self.scale == 1.0 else self.scale * v

    def transpose(self, v: Tensor) -> Tensor:
        """Scale v."""
        return self.colour(v)


@dataclass(frozen=True, eq=False)
class Diagonal:
    """L = diag(scale), with ``scale`` of shape ``(d,)`` or any shape that broadcasts against ``(..., d)``."""

    scale: Tensor

    def colour(self, v: Tensor) -> Tensor:
        """Scale each coordinate."""
        return self.scale * v

    def transpose(self, v: Tensor) -> Tensor:
        """Scale each coordinate."""
        return self.scale * v


@dataclass(frozen=True, eq=False)
class Dense:
    """L = factor, ``(d, d)``, for example a Cholesky factor of a covariance."""

    factor: Tensor

    def colour(self, v: Tensor) -> Tensor:
        """Multiply by the factor."""
        return v @ self.factor.T

    def transpose(self, v: Tensor) -> Tensor:
        """Multiply by the transposed factor."""
        return v @ self.factor
