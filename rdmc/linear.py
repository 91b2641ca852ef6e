"""Linear algebra that always has an answer: spectra and least squares of matrices that may be singular, huge or hardly finite."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["least_squares", "spectrum"]


def least_squares(a: Tensor, b: Tensor, rcond: float | None = None) -> Tensor:
    """``(d, m)`` the shortest x of those that leave ``|a x - b|`` least, of ``(n, d)`` and ``(n, m)``.

    It is solved on the host, as no GPU has a solver for matrices without full rank. ``a`` is taken to have no more rank than it has
    singular values above ``rcond`` times the largest (default: rounding).
    """
    return torch.linalg.lstsq(a.cpu(), b.cpu(), rcond=rcond, driver="gelsd").solution.to(b.device)


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
