"""Affine images of targets: the same truth in other coordinates, so that nothing can be right by symmetry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.base import Target
from targets.draws import rotation, seeded

__all__ = ["Affine", "affine", "disguise"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Affine(Target):
    r"""Law of :math:`y = A x + b` for x distributed as ``base``.

    .. math:: \log \pi_y(y) = \log \pi_x(A^{-1}(y - b)) - \log |\det A|, \qquad
              \nabla \log \pi_y = A^{-T} \nabla \log \pi_x

    Attributes:
        base: Target of x.
        matrix: ``(d, d)`` A.
        inverse: ``(d, d)`` its inverse.
        offset: ``(d,)`` b.
        log_det: log |det A|.
    """

    base: Target
    matrix: Tensor
    inverse: Tensor
    offset: Tensor
    log_det: float

    def log_density(self, x: Tensor) -> Tensor:
        """Log density: ``(M, d) -> (M,)``."""
        return self.base.log_density(self._back(x)) - self.log_det

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        value, grad = self.base.value_and_grad(self._back(x))
        return value - self.log_det, grad @ self.inverse

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Images of the base target's draws."""
        return self.base.sample(n, generator) @ self.matrix.T + self.offset

    def mode_of(self, x: Tensor) -> Tensor:
        """Mode of the preimage."""
        return self.base.mode_of(self._back(x))

    @property
    def can_sample(self) -> bool:
        """Whether the base target can."""
        return self.base.can_sample

    def _back(self, y: Tensor) -> Tensor:
        return (y - self.offset) @ self.inverse.T


def affine(target: Target, matrix: Tensor, offset: Tensor) -> Affine:
    r"""The law of :math:`y = A x + b`; everything known of ``target`` is carried along and ``log_z`` is unchanged.

    Args:
        target: Law of x.
        matrix: ``(d, d)`` invertible A.
        offset: ``(d,)`` b.

    Raises:
        ValueError: If a shape is wrong or the matrix is singular.

    Source: change of variables.
    """
    matrix = matrix.to(target.device, target.dtype)
    offset = offset.to(target.device, target.dtype)
    if matrix.shape != (target.dim, target.dim) or offset.shape != (target.dim,):
        raise ValueError(
            f"`matrix` and `offset` must have shapes {(target.dim, target.dim)} and {(target.dim,)}, "
            f"got {tuple(matrix.shape)} and {tuple(offset.shape)}"
        )
    log_det = float(torch.linalg.slogdet(matrix).logabsdet)
    if not math.isfinite(log_det):
        raise ValueError("`matrix` must be invertible and finite")
    return Affine(
        name=f"affine({target.name})",
        dim=target.dim,
        source=target.source,
        log_z=target.log_z,
        modes=None if target.modes is None else target.modes @ matrix.T + offset,
        mode_weights=target.mode_weights,
        dtype=target.dtype,
        device=target.device,
        base=target,
        matrix=matrix,
        inverse=torch.linalg.inv(matrix),
        offset=offset,
        log_det=log_det,
    )


def disguise(target: Target, seed: int) -> Affine:
    r"""The target under a random change of coordinates that no default setting can guess.

    :math:`y = Q D x + b`: D diagonal and log-uniform on [1e-2, 1e2], Q a Haar rotation, b uniform on
    [-1e3, 1e3]^d; the truth is that of ``target``.

    Args:
        target: Law of x.
        seed: Of the coordinates.

    Source: change of variables.
    """
    generator = seeded(seed)
    scales = 10.0 ** (4.0 * torch.rand(target.dim, generator=generator, dtype=torch.float64) - 2.0)
    offset = 2e3 * torch.rand(target.dim, generator=generator, dtype=torch.float64) - 1e3
    return affine(target, rotation(target.dim, generator) * scales, offset)
