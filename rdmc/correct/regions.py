"""Regions of a population: the Gaussian of each from the points that belong to it, or from the gradients there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rdmc.linear import spectrum
from rdmc.mixture import GaussianMixture

__all__ = ["at_fisher_scale", "at_moments"]

_SUPPORT = 2  # points a dimension, fewer than which say less of a region than the mode that stands for it


def at_fisher_scale(modes: GaussianMixture, x: Tensor, grad: Tensor) -> GaussianMixture:
    r"""The modes' Gaussians with covariances :math:`E[\nabla \log \pi\, \nabla \log \pi^T]^{-1}`, each over the points it has.

    For a Gaussian region that is its covariance. In general it is, minus the mean Hessian inverted, the preconditioner under which
    Langevin moves decorrelate fastest; the curvature at a peak may be far from it, as where the peak of a hierarchical model lies
    beside its mass. The mean is taken in the mode's own units and shrunk (Ledoit and Wolf), so few gradients change little. A
    mode with fewer than 2d finite gradients keeps its own.

    Law: none; local moves leave the target invariant whatever guides them.
    Cost: ``O(M d^2 + K d^3)`` for M points and K modes that have enough, no evaluation of the target.

    Args:
        modes: K components; means and weights stay.
        x: ``(M, d)`` points of the target.
        grad: ``(M, d)`` gradients of its log density there; rows with NaN are left out.

    Source: Titsias (2023), Optimal preconditioning and Fisher adaptive Langevin sampling, NeurIPS 36; Ledoit and Wolf (2004),
    J. Multivariate Anal. 88(2), 365-411.
    """
    known = torch.isfinite(grad).all(1)
    x, grad = x[known], grad[known]
    basis, variance = modes.basis.clone(), modes.variance.clone()
    for k, own in _regions(modes, modes.log_responsibilities(x).argmax(-1)):
        root = modes.factor[k]
        values, vectors = _second_moment(grad[own] @ root)
        if bool((values > 0).all()):  # a flat region has no gradients
            variance[k], basis[k] = spectrum((root @ (vectors / values)) @ (root @ vectors).T)
    return GaussianMixture(modes.log_weight, modes.mean, basis, variance)


def at_moments(modes: GaussianMixture, x: Tensor) -> GaussianMixture:
    """The modes' Gaussians with the mean and covariance of the points that belong to each, and a weight by their number.

    Covariances are taken in the mode's own units and shrunk (Ledoit and Wolf), so they serve where points are too few for a
    mixture. A mode with fewer than 2d points keeps its mean and covariance.

    Law: none; what is made of it proposes. Cost: ``O(M d^2 + K d^3)``, no evaluation of the target.

    Args:
        modes: K components.
        x: ``(M, d)`` points of the target.

    Source: Ledoit and Wolf (2004), J. Multivariate Anal. 88(2), 365-411.
    """
    mean, basis, variance = modes.mean.clone(), modes.basis.clone(), modes.variance.clone()
    label = modes.log_responsibilities(x).argmax(-1)
    for k, own in _regions(modes, label):
        root = modes.factor[k]
        mean[k] = x[own].mean(0)
        values, vectors = _second_moment((x[own] - mean[k]) @ (basis[k] * variance[k].rsqrt()))
        variance[k], basis[k] = spectrum((root @ (vectors * values)) @ (root @ vectors).T)
    count = torch.bincount(label, minlength=modes.components)
    return GaussianMixture((count + 1.0).to(modes.log_weight).log(), mean, basis, variance)


def _regions(modes: GaussianMixture, label: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Modes with points enough, and which of the ``(M,)`` labelled points these are."""
    enough = torch.bincount(label, minlength=modes.components) >= _SUPPORT * modes.dim
    for k in enough.nonzero()[:, 0].tolist():
        yield k, label == k


def _second_moment(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the shrunk mean outer product of ``(n, d)`` rows."""
    from sklearn.covariance import ledoit_wolf

    moment, _ = ledoit_wolf(rows.cpu().double().numpy(), assume_centered=True)
    return spectrum(torch.from_numpy(moment).to(rows))
