"""The named Gaussian mixtures of the literature, and the variants that a symmetric sampler can't get right by luck."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from targets.draws import rotation, seeded
from targets.mixture import GaussianMixture, gaussian_mixture

__all__ = ["eight_gaussians", "entropic_pair", "four_modes", "gaussian", "gmm40", "random_mixture", "two_modes"]


def gaussian(dim: int = 10, condition: float = 100.0, seed: int = 0) -> GaussianMixture:
    r"""One Gaussian off the origin, with a covariance of given condition number along random axes.

    :math:`N(m, Q \Lambda Q^T)`, variances :math:`\Lambda` log-uniform from ``condition**-0.5`` to ``condition**0.5``,
    Q Haar-distributed, m ~ N(0, 9 I), both from the seed. Ground truth: closed form, ``log_z`` = 0.

    Args:
        dim: Dimension d.
        condition: Ratio of the largest to the smallest variance, >= 1; 1e8 is a hard preconditioning test.
        seed: Of mean and axes.

    Raises:
        ValueError: If ``condition`` is below 1.

    Source: closed form.
    """
    if condition < 1.0:
        raise ValueError(f"`condition` must be at least 1, got {condition}")
    generator = seeded(seed)
    mean = 3.0 * torch.randn(1, dim, generator=generator, dtype=torch.float64)
    span = math.log10(condition) / 4.0
    sd = torch.logspace(-span, span, dim, dtype=torch.float64)
    return gaussian_mixture(mean, (rotation(dim, generator) * sd)[None], name="gaussian")


def eight_gaussians(
    shift: float | tuple[float, float] = 0.0, weights: Literal["unequal"] | tuple[float, ...] | None = None
) -> GaussianMixture:
    r"""Eight Gaussians on a circle in two dimensions.

    Means at radius 10 and angles :math:`2\pi k/8`, covariance 0.7 I (standard deviation 0.837; not sd 0.7). At
    ``shift`` 0 with equal weights every symmetric sampler gets the weights right by symmetry alone; the variants don't
    forgive. Ground truth: closed form, ``log_z`` = 0.

    Args:
        shift: Added to the means, one number for both coordinates or a pair.
        weights: None for equal, ``"unequal"`` for k/36 with k = 1..8, or eight positive numbers.

    Source: Grenioux, Noble, Gabrie, Durmus (2024), Stochastic Localization via Iterative Posterior Sampling,
    arXiv:2402.10758, 8-Gaussians; shifted as in Cordero-Encinar et al. (2025), arXiv:2508.15069.
    """
    angles = torch.arange(8, dtype=torch.float64) * (2.0 * math.pi / 8.0)
    means = 10.0 * torch.stack([angles.cos(), angles.sin()], dim=1) + torch.tensor(shift, dtype=torch.float64)
    return gaussian_mixture(
        means,
        math.sqrt(0.7),
        tuple(range(1, 9)) if weights == "unequal" else weights,
        name="eight_gaussians",
        source="Grenioux et al. (2024), arXiv:2402.10758, 8-Gaussians",
    )


def gmm40(weights: Literal["unequal"] | tuple[float, ...] | None = None) -> GaussianMixture:
    r"""Forty Gaussians scattered over a square of side 80 in two dimensions.

    Means ``(U - 0.5) * 80`` from the first 80 float32 uniforms of torch's stream of seed 0, standard deviation
    softplus(1) = 1.31326. Ground truth: closed form, ``log_z`` = 0. The closest pair of means is 1.18 apart: the mode
    weights are those of the largest-responsibility regions.

    Args:
        weights: None for equal; ``"unequal"`` gives the first 6 (15 %) of the components 20 times the weight of the
            others; or forty positive numbers.

    Source: Midgley et al. (2023), Flow Annealed Importance Sampling Bootstrap, ICLR, arXiv:2208.01893, section 4.1;
    the unequal weights follow Castro-Macias et al. (2026), arXiv:2605.04013.
    """
    means = (torch.rand(40, 2, generator=seeded(0), dtype=torch.float32) - 0.5) * 80.0
    return gaussian_mixture(
        means,
        math.log1p(math.e),
        (20.0,) * 6 + (1.0,) * 34 if weights == "unequal" else weights,
        name="gmm40",
        source="Midgley et al. (2023), arXiv:2208.01893, section 4.1",
    )


def four_modes(shift: tuple[float, float] = (0.0, 0.0), scale: float = 1.0) -> GaussianMixture:
    r"""Four Gaussians of unequal weights and covariances in two dimensions.

    Weights (.1, .2, .3, .4), means ``scale`` times (0,0), (0,11), (9,9), (11,0), plus ``shift``; covariances
    [[1,.5],[.5,1]], [[.3,-.2],[-.2,.3]], [[1,.3],[.3,1]], [[1.2,-1],[-1,1.2]]. Ground truth: closed form,
    ``log_z`` = 0.

    Args:
        shift: Added to the means; (20, 20) punishes a start at the origin.
        scale: Multiplies the means and leaves the covariances alone.

    Source: He, Rojas, Tao (2024), Zeroth-Order Sampling Methods for Non-Log-Concave Distributions, NeurIPS,
    arXiv:2402.17886, the 2-D mixture.
    """
    means = torch.tensor([[0.0, 0.0], [0.0, 11.0], [9.0, 9.0], [11.0, 0.0]], dtype=torch.float64)
    covariances = torch.tensor(
        [[[1.0, 0.5], [0.5, 1.0]], [[0.3, -0.2], [-0.2, 0.3]], [[1.0, 0.3], [0.3, 1.0]], [[1.2, -1.0], [-1.0, 1.2]]],
        dtype=torch.float64,
    )
    return gaussian_mixture(
        scale * means + torch.tensor(shift, dtype=torch.float64),
        torch.linalg.cholesky(covariances),
        (0.1, 0.2, 0.3, 0.4),
        name="four_modes",
        source="He, Rojas, Tao (2024), arXiv:2402.17886",
    )


def two_modes(dim: int = 8) -> GaussianMixture:
    r"""Two separated modes with weights 2:1 and mean zero, in any dimension.

    :math:`\frac23 N(-\frac23 1, 0.05 I) + \frac13 N(\frac43 1, 0.05 I)`. Ground truth: closed form, ``log_z`` = 0.

    Args:
        dim: Dimension d; the separation is 2 sqrt(d), 9 sqrt(d) standard deviations.

    Source: Grenioux et al. (2024), arXiv:2402.10758, bi-modal Gaussian mixture.
    """
    return _pair(
        (-2.0 / 3.0, 4.0 / 3.0),
        (math.sqrt(0.05), math.sqrt(0.05)),
        2.0 / 3.0,
        dim,
        "two_modes",
        "Grenioux et al. (2024), arXiv:2402.10758",
    )


def entropic_pair(dim: int = 5, weight: float = 0.5) -> GaussianMixture:
    r"""A narrow and a wide mode: tempering puts all mass into the wide one at any intermediate temperature.

    :math:`w N(-1, 0.1^2 I) + (1-w) N(+1, 0.5^2 I)`. Ground truth: closed form, ``log_z`` = 0.

    Args:
        dim: Dimension d.
        weight: w, the probability of the narrow mode, in (0, 1).

    Source: Chen, Liu, Yang (2026), MCMC with diffusion paths, arXiv:2607.11631 (unequal-variance pair).
    """
    return _pair(
        (-1.0, 1.0), (0.1, 0.5), weight, dim, "entropic_pair", "Chen, Liu, Yang (2026), arXiv:2607.11631, variant"
    )


def random_mixture(dim: int = 16, components: int = 20, seed: int = 0) -> GaussianMixture:
    r"""Anisotropic components along random axes, with unequal weights.

    Means uniform on :math:`[-10, 10]^d`, covariances :math:`Q_k \Lambda_k Q_k^T` with standard deviations log-uniform
    on [0.3, 1.5] and Haar axes, weights proportional to exp(N(0, 1)); all from the seed. Ground truth: closed form,
    ``log_z`` = 0.

    Args:
        dim: Dimension d.
        components: Number of components K.
        seed: Of the instance.

    Source: closed form.
    """
    generator = seeded(seed)
    means = 20.0 * torch.rand(components, dim, generator=generator, dtype=torch.float64) - 10.0
    sds = 0.3 * 5.0 ** torch.rand(components, 1, dim, generator=generator, dtype=torch.float64)
    axes = torch.stack([rotation(dim, generator) for _ in range(components)])
    weights = torch.randn(components, generator=generator, dtype=torch.float64).exp()
    return gaussian_mixture(means, axes * sds, weights, name="random_mixture")


def _pair(
    centres: tuple[float, float], sds: tuple[float, float], weight: float, dim: int, name: str, source: str
) -> GaussianMixture:
    if not 0.0 < weight < 1.0:
        raise ValueError(f"`weight` must be in (0, 1), got {weight}")
    means: Tensor = torch.tensor(centres, dtype=torch.float64)[:, None].expand(2, dim)
    return gaussian_mixture(means, sds, (weight, 1.0 - weight), name=name, source=source)
