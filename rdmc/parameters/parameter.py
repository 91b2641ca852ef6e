"""One parameter: its shape, its constraint, and the names of its axes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import SupportsIndex

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from rdmc.parameters.bijections import Bijection, bijection_of
from rdmc.parameters.constraints import NAMED, resolve

__all__ = ["Parameter"]


@dataclass(frozen=True)
class Parameter:
    """A named quantity of a model.

    Args:
        shape: Of one value: an integer, a tuple, or None to take it from the coordinates of ``dims`` (a number without ``dims``).
        constraint: A name (``"positive"``, ``"simplex"``, ...; see :data:`rdmc.parameters.NAMED`) or a constraint of
            ``torch.distributions``, for example ``constraints.interval(0.0, 3.0)``. A constraint on vectors or matrices holds
            along the last axes; axes before them are independent.
        dims: Name of each axis, for ArviZ.

    Raises:
        ValueError: If the constraint is unknown or cannot hold for the shape, or ``dims`` and ``shape`` disagree.

    Example:
        >>> Parameter((4, 3), "simplex").size
        8
    """

    shape: int | tuple[int, ...] | None = None
    constraint: Constraint | str = "real"
    dims: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "constraint", resolve(self.constraint))
        object.__setattr__(self, "_bijection", bijection_of(resolve(self.constraint)))
        dims = (self.dims,) if isinstance(self.dims, str) else tuple(self.dims)
        if not all(isinstance(dim, str) and dim for dim in dims) or len(set(dims)) != len(dims):
            raise ValueError(f"`dims` must be distinct non-empty texts, one per axis, got {self.dims!r}")
        object.__setattr__(self, "dims", dims)
        if self.shape is None and dims:
            return  # known when the coordinates are
        shape = _shape(self.shape)
        object.__setattr__(self, "shape", shape)
        if dims and len(dims) != len(shape):
            raise ValueError(f"`dims` must name each axis of `shape` {shape}, got {dims}")
        self._check_event()

    def _check_event(self) -> None:
        bijection, shape = self.bijection, self.value_shape
        wanted = f"`shape` must suit the constraint {self.constraint!r}"
        if len(shape) < bijection.event_dim:
            raise ValueError(f"{wanted}: at least {bijection.event_dim} axes, got {shape}")
        try:
            inner = self.unconstrained_shape
            value, _ = bijection.forward(torch.zeros(inner, dtype=torch.float64))
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{wanted}: {error}") from error
        if tuple(value.shape) != shape:
            raise ValueError(f"{wanted}: its bounds make it {tuple(value.shape)}, got {shape}")

    @property
    def bijection(self) -> Bijection:
        """The map from real coordinates to values."""
        found: Bijection = self._bijection  # type: ignore[attr-defined]
        return found

    @property
    def value_shape(self) -> tuple[int, ...]:
        """Shape of one constrained value."""
        return _shape(self.shape)

    @property
    def constrained(self) -> bool:
        """Whether values are something else than real coordinates."""
        return not isinstance(self.constraint, type(NAMED["real"]))

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        """Shape of one value in real coordinates."""
        shape = self.value_shape
        batch = len(shape) - self.bijection.event_dim
        return shape[:batch] + self.bijection.unconstrained(shape[batch:])

    @property
    def size(self) -> int:
        """Number of real coordinates."""
        return prod(self.unconstrained_shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``(..., *shape)`` and log determinants ``(...)`` at real coordinates ``(..., size)``."""
        lead = x.shape[:-1]
        value, log_det = self.bijection.forward(x.reshape((*lead, *self.unconstrained_shape)))
        axes = tuple(range(len(lead), log_det.ndim))
        return value, log_det.sum(axes) if axes else log_det

    def inverse(self, value: Tensor) -> Tensor:
        """Real coordinates ``(..., size)`` of values ``(..., *shape)``."""
        lead = value.shape[: value.ndim - len(self.value_shape)]
        return self.bijection.inverse(value).reshape(*lead, self.size)


def _shape(shape: object) -> tuple[int, ...]:
    """The shape as a tuple of positive integers."""
    if shape is None:
        return ()
    try:
        entries = (shape,) if isinstance(shape, SupportsIndex) else tuple(shape)  # type: ignore[arg-type]
        sizes = tuple(operator.index(entry) for entry in entries)
    except TypeError:
        sizes = (0,)
    if any(size < 1 for size in sizes) or isinstance(shape, bool):
        raise ValueError(f"`shape` must be a positive integer or a tuple of them, got {shape!r}")
    return sizes
