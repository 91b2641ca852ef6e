"""Affine coordinates: every process runs where the target is centred and has unit scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.typing import BatchedDensity

__all__ = ["Affine", "InCoordinates"]


@dataclass(frozen=True, eq=False)
class Affine:
    """The map ``x = centre + factor @ z`` between the user's coordinates x and whitened ones z.

    Args:
        centre: ``(d,)`` origin of z.
        factor: ``(d, d)`` any invertible square root of the covariance that z should see as the identity.

    Raises:
        ValueError: If the shapes disagree or a value is not finite.

    Example:
        >>> affine = Affine.from_covariance(torch.tensor([3.0]), torch.tensor([[4.0]]))
        >>> affine.to_user(torch.tensor([[1.0]]))
        tensor([[5.]])
    """

    centre: Tensor
    factor: Tensor

    def __post_init__(self) -> None:
        d = self.centre.shape[-1] if self.centre.ndim == 1 else -1
        if self.centre.ndim != 1 or self.factor.shape != (d, d):
            raise ValueError(
                "`centre` and `factor` must have shapes (d,) and (d, d), "
                f"got {tuple(self.centre.shape)} and {tuple(self.factor.shape)}"
            )
        object.__setattr__(self, "_inverse", torch.linalg.inv(self.factor))

    @classmethod
    def identity(cls, dim: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Affine:
        """The user's own coordinates."""
        return cls(torch.zeros(dim, dtype=dtype, device=device), torch.eye(dim, dtype=dtype, device=device))

    @classmethod
    def from_covariance(cls, centre: Tensor, covariance: Tensor) -> Affine:
        """Coordinates in which N(centre, covariance) is standard normal.

        Raises:
            ValueError: If ``covariance`` is not positive definite.
        """
        factor, info = torch.linalg.cholesky_ex(covariance)
        if covariance.device.type != "meta" and bool(info.any()):
            raise ValueError("`covariance` must be symmetric positive definite; its Cholesky factor does not exist")
        return cls(centre, factor)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.centre.shape[0]

    def to_user(self, z: Tensor) -> Tensor:
        """``(..., d)`` whitened points to the user's coordinates."""
        return torch.addmm(self.centre, z.reshape(-1, self.dim), self.factor.T).view(z.shape)

    def after(self, inner: Affine) -> Affine:
        """The map ``z -> self.to_user(inner.to_user(z))``: coordinates within these coordinates."""
        return Affine(self.to_user(inner.centre), self.factor @ inner.factor)

    def to_white(self, x: Tensor) -> Tensor:
        """``(..., d)`` points in the user's coordinates to whitened ones."""
        inverse: Tensor = self._inverse  # type: ignore[attr-defined]
        return (x - self.centre) @ inverse.T

    def pull_back(self, slope: Tensor) -> Tensor:
        """``(..., d)`` gradients with respect to z to those with respect to x."""
        inverse: Tensor = self._inverse  # type: ignore[attr-defined]
        return slope @ inverse

    def log_det(self) -> Tensor:
        """``()`` log |det factor|: add it to a log density of x to get that of z."""
        return torch.linalg.slogdet(self.factor)[1]


@dataclass(frozen=True, eq=False)
class InCoordinates:
    """A density seen in affine coordinates: ``z -> log_density(centre + factor @ z)``.

    The constant log |det factor| is left out, so values are those of the user's density at the same point.

    Shapes: ``z`` is ``(..., d)``.
    """

    density: BatchedDensity
    affine: Affine

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.density.dim

    def __call__(self, z: Tensor) -> Tensor:
        """Log density at the user's point that z stands for."""
        return self.density(self.affine.to_user(z))

    def value_and_grad(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and its gradient with respect to z."""
        value, grad = self.density.value_and_grad(self.affine.to_user(z))
        return value, grad @ self.affine.factor
