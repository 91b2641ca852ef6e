"""The scale of local moves from the gradients of a population, where that at the peaks is another."""

from __future__ import annotations

import torch
from torch import Tensor

from rdmc.linear import spectrum
from rdmc.mixture import GaussianMixture

__all__ = ["at_fisher_scale"]

_SUPPORT = 2  # gradients a dimension, fewer than which say less than the curvature at the peak


def at_fisher_scale(mixture: GaussianMixture, x: Tensor, grad: Tensor) -> GaussianMixture:
    r"""The same components with covariances :math:`E[\nabla \log \pi\, \nabla \log \pi^T]^{-1}`, each over the points it has.

    For a Gaussian region that is its covariance. In general it is, minus the mean Hessian inverted, the preconditioner under which
    Langevin moves decorrelate fastest; the curvature at a peak may be far from it, as where the peak of a hierarchical model lies
    beside its mass. The mean is taken in the component's own units and shrunk (Ledoit and Wolf), so few gradients change little. A
    component with fewer than 2d finite gradients keeps its own.

    Law: none; local moves leave the target invariant whatever guides them. Cost: ``O(M d^2)``, no evaluation of the target.

    Args:
        mixture: K components.
        x: ``(M, d)`` points of the target.
        grad: ``(M, d)`` gradients of its log density there; rows with NaN are left out.

    Source: Titsias (2023), Optimal preconditioning and Fisher adaptive Langevin sampling, NeurIPS 36.
    """
    from sklearn.covariance import ledoit_wolf

    known = torch.isfinite(grad).all(1)
    label = mixture.log_responsibilities(x[known]).argmax(-1)
    least = _SUPPORT * mixture.dim
    basis, variance = mixture.basis.clone(), mixture.variance.clone()
    for k in (torch.bincount(label, minlength=mixture.components) >= least).nonzero()[:, 0].tolist():
        root = basis[k] * variance[k].sqrt()
        own = (grad[known][label == k] @ root).cpu().double()
        fisher = torch.from_numpy(ledoit_wolf(own.numpy(), assume_centered=True)[0]).to(root)
        values, vectors = spectrum(fisher)
        if not bool((values > 0).all()):
            continue
        variance[k], basis[k] = spectrum((root @ (vectors / values)) @ (root @ vectors).T)
    return GaussianMixture(mixture.log_weight, mixture.mean, basis, variance)
