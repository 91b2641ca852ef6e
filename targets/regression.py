"""Bayesian logistic regression on real data: unimodal, correlated, thirty-one dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.base import Target

__all__ = ["LogisticRegression", "logistic_regression"]

_LOG_2PI = math.log(2.0 * math.pi)
_BLOCK = 2**17  # margins at work at a time on the CPU, 1 MiB: what is larger leaves the cache between two operations
_FACTORS = 8  # under one logarithm; each is at least a half


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LogisticRegression(Target):
    r"""Posterior of the coefficients of a logistic regression.

    .. math:: \log \pi(x) = -\sum_i \log(1 + e^{-c_i a_i \cdot x}) + \sum_j \log N(x_j; 0, p_j^2), \qquad
              c_i \in \{-1, 1\}

    The first coordinate is the intercept.

    Attributes:
        signed_design: ``(n, d)`` rows :math:`c_i a_i`, the first column of a being 1.
        prior_sds: ``(d,)`` the p.
    """

    signed_design: Tensor
    prior_sds: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """Log likelihood plus log prior, all constants included: ``(M, d) -> (M,)``."""
        return torch.nn.functional.logsigmoid(x @ self.signed_design.T).sum(1) + self._log_prior(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Log density and gradient, with one exponential for each row and point.

        .. math:: -\log(1 + e^{-m}) = \min(m, 0) + \log \max(s, 1 - s), \qquad s = 1 / (1 + e^m)
        """
        rows = max(1, _BLOCK // len(self.signed_design)) if x.device.type == "cpu" else len(x)
        if len(x) <= rows:
            value, slope = self._likelihood(x)
        else:
            value, slope = map(torch.cat, zip(*map(self._likelihood, x.split(rows)), strict=True))
        return value + self._log_prior(x), slope - x / self.prior_sds.square()

    def _likelihood(self, x: Tensor) -> tuple[Tensor, Tensor]:
        margins = x @ self.signed_design.T
        s = torch.sigmoid(-margins)
        return margins.clamp_(max=0.0).sum(1) + _log_product(torch.maximum(s, 1.0 - s)), s @ self.signed_design

    def _log_prior(self, x: Tensor) -> Tensor:
        constant = torch.log(self.prior_sds).sum() + 0.5 * self.dim * _LOG_2PI
        return -0.5 * (x / self.prior_sds).square().sum(1) - constant


def _log_product(factor: Tensor) -> Tensor:
    """``(M, n) -> (M,)`` log of the product of factors in [1/2, 1], one logarithm for eight of them."""
    even = factor.shape[1] - factor.shape[1] % _FACTORS
    product = factor[:, :even].unflatten(1, (_FACTORS, -1)).prod(1) if even else factor[:, :0]
    return product.log_().sum(1) + factor[:, even:].log().sum(1)


def logistic_regression(coefficient_sd: float = 1.0, intercept_sd: float = 2.5) -> LogisticRegression:
    r"""Posterior for the Wisconsin diagnostic breast cancer data: 569 cases, 30 standardised features, intercept first.

    Ground truth: none in closed form; the posterior is log-concave, so every long chain is a reference. Needs
    scikit-learn, which ships the data.

    Args:
        coefficient_sd: Prior standard deviation of the coefficients.
        intercept_sd: Of the intercept.

    Raises:
        ValueError: If a standard deviation isn't positive.
        ModuleNotFoundError: If scikit-learn isn't installed.

    Source: Street, Wolberg, Mangasarian (1993), Nuclear feature extraction for breast tumor diagnosis (UCI repository);
    the priors follow Grenioux et al. (2024), arXiv:2402.10758.
    """
    if coefficient_sd <= 0.0 or intercept_sd <= 0.0:
        raise ValueError(f"prior standard deviations must be positive, got {coefficient_sd}, {intercept_sd}")
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    standard = torch.from_numpy((features - features.mean(0)) / features.std(0))
    signs = 2.0 * torch.from_numpy(labels).to(torch.float64)[:, None] - 1.0
    design = torch.cat([torch.ones(len(standard), 1, dtype=torch.float64), standard], dim=1)
    prior_sds = torch.full((design.shape[1],), coefficient_sd, dtype=torch.float64)
    prior_sds[0] = intercept_sd
    return LogisticRegression(
        name="logistic_regression",
        dim=design.shape[1],
        source="Street, Wolberg, Mangasarian (1993), UCI breast cancer (diagnostic)",
        signed_design=signs * design,
        prior_sds=prior_sds,
    )
