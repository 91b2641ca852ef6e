"""Spectra that are always there: eigenvectors of symmetric matrices that may be singular, huge or hardly finite."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["spectrum"]


def spectrum(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and orthonormal eigenvectors of symmetric ``(..., d, d)`` matrices.

    Where the solver does not converge, as on matrices with entries of wildly different size, the matrix is solved a little off its
    place, and failing that stands for its diagonal: the callers precondition with it, and any basis will do.
    """
    clean = torch.where(torch.isfinite(matrix), matrix, torch.zeros_like(matrix))
    try:
        return torch.linalg.eigh(clean)
    except RuntimeError:
        pass
    if clean.ndim > 2:
        parts = [spectrum(one) for one in clean.flatten(0, -3)]
        values, vectors = (torch.stack(part) for part in zip(*parts, strict=True))
        return values.view(clean.shape[:-1]), vectors.view(clean.shape)
    size = clean.abs().max()
    off = torch.linspace(0.0, 1e-8, len(clean), dtype=clean.dtype, device=clean.device) * size
    try:
        return torch.linalg.eigh(clean + torch.diag(off))
    except RuntimeError:
        values, order = torch.diagonal(clean).sort()
        return values, torch.eye(len(clean), dtype=clean.dtype, device=clean.device)[:, order]
