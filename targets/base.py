"""What a target is: an unnormalised log density that knows its own answers.

A target carries, beside the log density and its analytic gradient, everything about it that is known exactly:
an i.i.d. sampler, the log normalising constant, the modes and the probability of each. What isn't known is None,
and asking for it raises ``NotImplementedError``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Target"]

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Target(ABC):
    r"""An unnormalised density :math:`\pi(x) = e^{\ell(x)}` on :math:`R^d`, with its ground truth.

    Subclasses are frozen dataclasses whose tensors are all fields, so that :meth:`to` and pickle need no help, and
    whose densities read nothing back to the host, so that they run on every device, ``meta`` included.

    Attributes:
        name: Short name, for tables.
        dim: Dimension d.
        source: Paper or data set that the target is taken from.
        log_z: :math:`\log \int e^{\ell(x)} dx`, or None if unknown.
        modes: ``(K, d)`` a representative point of each mode, or None.
        mode_weights: ``(K,)`` probability that :meth:`mode_of` returns k under the target, or None.
        dtype: Of the tensors of this target, and of what ``sample`` returns.
        device: Of the same.
    """

    name: str
    dim: int
    source: str
    log_z: float | None = None
    modes: Tensor | None = None
    mode_weights: Tensor | None = None
    dtype: torch.dtype = torch.float64
    device: torch.device = _CPU

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """Unnormalised log density.

        Args:
            x: ``(M, d)`` points.

        Returns:
            ``(M,)`` values.
        """

    @abstractmethod
    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density with its gradient in closed form; no autograd graph is built.

        Args:
            x: ``(M, d)`` points.

        Returns:
            ``(M,)`` values and ``(M, d)`` gradients.
        """

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Independent exact draws.

        Args:
            n: Number of draws.
            generator: Source of all randomness; it may live on another device than the target.

        Returns:
            ``(n, d)`` draws on the target's device.

        Raises:
            NotImplementedError: If no exact sampler is known (see :attr:`can_sample`).
        """
        raise NotImplementedError(f"target {self.name!r} has no exact sampler; `can_sample` tells in advance")

    def mode_of(self, x: Tensor) -> Tensor:
        """Index of the mode that each point belongs to.

        Args:
            x: ``(M, d)`` points.

        Returns:
            ``(M,)`` int64 indices into :attr:`mode_weights`.

        Raises:
            NotImplementedError: If the modes are unknown or too many to list (see :attr:`has_modes`).
        """
        raise NotImplementedError(f"target {self.name!r} has no list of modes; `has_modes` tells in advance")

    @property
    def can_sample(self) -> bool:
        """Whether :meth:`sample` works."""
        return type(self).sample is not Target.sample

    @property
    def has_modes(self) -> bool:
        """Whether :attr:`mode_weights` and :meth:`mode_of` are there."""
        return self.mode_weights is not None

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy with every tensor moved to ``device`` and every floating-point tensor cast to ``dtype``.

        Args:
            device: New device; None keeps the present one.
            dtype: New floating-point type; None keeps the present one.

        Returns:
            The copy; the target itself is unchanged.
        """
        device = self.device if device is None else torch.device(device)
        dtype = self.dtype if dtype is None else dtype
        changes: dict[str, object] = {"device": device, "dtype": dtype}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = value.to(device, dtype if value.is_floating_point() else value.dtype)
            elif isinstance(value, Target):
                changes[field.name] = value.to(device, dtype)
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        """Name and dimension; the tensors would fill a screen."""
        return f"{type(self).__name__}(name={self.name!r}, dim={self.dim})"
