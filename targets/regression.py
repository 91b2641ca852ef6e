"""Bayesian logistic regression on real data: unimodal, correlated, thirty-one dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.base import Target

__all__ = ["LogisticRegression", "logistic_regression"]

_LOG_2PI = math.log(2.0 * math.pi)


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
        return self._value(x, x @ self.signed_design.T)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        margins = x @ self.signed_design.T
        return self._value(x, margins), torch.sigmoid(-margins) @ self.signed_design - x / self.prior_sds.square()

    def _value(self, x: Tensor, margins: Tensor) -> Tensor:
        constant = torch.log(self.prior_sds).sum() + 0.5 * self.dim * _LOG_2PI
        log_prior = -0.5 * (x / self.prior_sds).square().sum(1) - constant
        return torch.nn.functional.logsigmoid(margins).sum(1) + log_prior


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
