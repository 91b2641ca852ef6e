"""Mixtures fitted to a population: a Dirichlet-process mixture by variational inference, from scikit-learn."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.linear import spectrum
from rdmc.mixture import GaussianMixture

__all__ = ["fit_mixture", "whitening"]

_NARROW = 1e-4  # prior variance of a component relative to the population's: the default of 1 forbids narrow ones
_ITERATIONS = 60


def whitening(points: Tensor) -> Affine:
    """Coordinates in which ``(M, d)`` points have mean 0 and unit covariance."""
    centre = points.mean(0)
    scale = points.std(0).clamp(min=torch.finfo(points.dtype).tiny)
    scaled = (points - centre) / scale
    correlation = scaled.T @ scaled / max(1, len(points) - 1)
    variance, axes = spectrum(correlation)
    return Affine(centre, scale[:, None] * axes * variance.clamp(min=1e-12).sqrt())


def fit_mixture(points: Tensor, most: int, seed: int = 0) -> GaussianMixture:
    """A Gaussian mixture near the law of ``(M, d)`` points, with as many components as they support.

    The number of components is at most ``M / (4 d + 10)``, so that each has points enough for a covariance. Weights are moved
    towards their square roots by a fifth.

    Args:
        points: Points, in any coordinates.
        most: Largest number of components.
        seed: Of the first assignment.
    """
    from sklearn.mixture import BayesianGaussianMixture

    m, d = points.shape
    exact = points.detach().cpu().double()  # squares of single precision overflow where widths span orders of magnitude
    affine = whitening(exact)
    components = max(1, min(most, m // (4 * d + 10)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ConvergenceWarning: an unfinished fit is still a proposal
        fit = BayesianGaussianMixture(
            n_components=components,
            reg_covar=1e-8,
            max_iter=_ITERATIONS,
            weight_concentration_prior=1.0 / components,
            covariance_prior=_NARROW * torch.eye(d, dtype=torch.float64).numpy(),
            init_params="k-means++",
            random_state=seed,
        ).fit(affine.to_white(exact).numpy())
    keep = fit.weights_ > (d + 2) / m
    if not keep.any():
        keep = fit.weights_ >= fit.weights_.max()
    mean, covariance, weight = (
        torch.as_tensor(part[keep], dtype=exact.dtype) for part in (fit.means_, fit.covariances_, fit.weights_)
    )
    white = GaussianMixture.from_covariance(mean, covariance, weight).levelled(0.2)
    law = white.affine(affine.to_white(torch.zeros_like(affine.centre)), affine.factor)
    if points.dtype == exact.dtype and points.device == exact.device:
        return law  # made anew, its weights would be normalised twice and lose their last bits
    return GaussianMixture(*(part.to(points) for part in (law.log_weight, law.mean, law.basis, law.variance)))
