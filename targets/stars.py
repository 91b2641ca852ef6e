"""A line through a star cluster: with or without the giants? Two fits, each with its own idea of an outlier."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.base import Target

__all__ = ["STARS", "StarCluster", "star_cluster"]

STARS: tuple[tuple[float, float], ...] = (
    (4.37, 5.23), (4.56, 5.74), (4.26, 4.93), (4.56, 5.74), (4.30, 5.19), (4.46, 5.46), (3.84, 4.65), (4.57, 5.27),
    (4.26, 5.57), (4.37, 5.12), (3.49, 5.73), (4.43, 5.45), (4.48, 5.42), (4.01, 4.05), (4.29, 4.26), (4.42, 4.58),
    (4.23, 3.94), (4.42, 4.18), (4.23, 4.18), (3.49, 5.89), (4.29, 4.38), (4.29, 4.22), (4.42, 4.42), (4.49, 4.85),
    (4.38, 5.02), (4.42, 4.66), (4.29, 4.66), (4.38, 4.90), (4.22, 4.39), (3.48, 6.05), (4.38, 4.42), (4.56, 5.10),
    (4.45, 5.22), (3.49, 6.29), (4.23, 4.34), (4.62, 5.62), (4.53, 5.10), (4.45, 5.22), (4.53, 5.18), (4.43, 5.57),
    (4.38, 4.62), (4.45, 5.06), (4.50, 5.34), (4.45, 5.34), (4.55, 5.54), (4.45, 4.98), (4.42, 4.50),
)  # fmt: skip
"""Logarithms of surface temperature and light intensity of 47 stars of the cluster CYG OB1; four of them are red giants.

Source: Humphreys (1978); listed by Rousseeuw, Leroy (1987), Robust Regression and Outlier Detection, chapter 2, table 3.
"""

_SPREAD = 1.0
_DEFAULT = (3.0, 0.02)
_LOG_Z, _RISES = -44.118327, 0.755350
_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StarCluster(Target):
    r"""Posterior of a straight line with outliers.

    .. math:: y_i \sim (1 - p) N(a + b t_i, s^2) + p N(0, 1), \quad a \sim N(0, 1), \quad b \sim N(0, B^2), \quad
              \log s \sim N(\log 0.5, 0.5^2), \quad \mathrm{logit}\, p \sim N(m, r^2)

    t and y are the logarithms less their means. Coordinates: a, b, :math:`\log s`, :math:`\mathrm{logit}\, p`. All constants
    are included. The modes are the signs of the slope: 0 falling, 1 rising.

    Attributes:
        temperature: ``(n,)`` t.
        light: ``(n,)`` y.
        prior_means: ``(4,)``.
        prior_sds: ``(4,)``.
    """

    temperature: Tensor
    light: Tensor
    prior_means: Tensor
    prior_sds: Tensor

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Name of each coordinate."""
        return ("intercept", "slope", "log_sd", "logit_outliers")

    def log_density(self, x: Tensor) -> Tensor:
        """Log likelihood plus log prior: ``(M, 4) -> (M,)``."""
        return self.value_and_grad(x)[0]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        a, b, log_sd, logit = (x[:, i : i + 1] for i in range(4))
        logs, z = self._logs(a, b, log_sd, logit)
        per_star = torch.logsumexp(logs, dim=2)
        line = torch.exp(logs[:, :, 0] - per_star)
        away = (x - self.prior_means) / self.prior_sds
        prior = -0.5 * away.square().sum(1) - torch.log(self.prior_sds).sum() - 2.0 * _LOG_2PI
        pull = line * z * torch.exp(-log_sd)
        grad = torch.stack(
            [
                pull.sum(1),
                (pull * self.temperature).sum(1),
                (line * (z.square() - 1.0)).sum(1),
                # (1 - line) (1 - p) - line p
                ((1.0 - line) - torch.sigmoid(logit)).sum(1),
            ],
            dim=1,
        )
        return per_star.sum(1) + prior, grad - away / self.prior_sds

    def outlier_probability(self, x: Tensor) -> Tensor:
        """``(M, n)`` probability of each star to be an outlier, given parameters ``(M, 4)``."""
        logs, _ = self._logs(*(x[:, i : i + 1] for i in range(4)))
        return torch.softmax(logs, dim=2)[:, :, 1]

    def mode_of(self, x: Tensor) -> Tensor:
        """Sign of the slope: ``(M, 4) -> (M,)``; for the default prior, whose weights are known."""
        if not self.has_modes:
            return super().mode_of(x)
        return (x[:, 1] > 0.0).to(torch.int64)

    def _logs(self, a: Tensor, b: Tensor, log_sd: Tensor, logit: Tensor) -> tuple[Tensor, Tensor]:
        """``(M, n, 2)`` logs of weight times density for line and outliers, and residuals of the line ``(M, n)``."""
        z = (self.light - a - b * self.temperature) * torch.exp(-log_sd)
        line = torch.nn.functional.logsigmoid(-logit) - 0.5 * z.square() - log_sd
        outlier = torch.nn.functional.logsigmoid(logit) - 0.5 * (self.light / _SPREAD).square() - math.log(_SPREAD)
        return torch.stack([line, outlier.expand_as(line)], dim=2) - 0.5 * _LOG_2PI, z


def star_cluster(slope_sd: float = 3.0, outliers: float = 0.02) -> StarCluster:
    r"""Posterior of a line through the Hertzsprung-Russell diagram of CYG OB1.

    Least squares follows the four giants: light falls with temperature. A line through the main sequence rises and
    calls the giants outliers.

    Ground truth, for the default arguments: ``log_z`` by the trapezoidal rule on 61 x 191 x 41 x 35 nodes (45 x 115 x 31 x 31
    change it by 1e-8); the weights of the modes from the slope's marginal law at 191 nodes, between them a cubic spline (115
    nodes: 2e-6).

    Args:
        slope_sd: B.
        outliers: Prior median of the share p of outliers.

    Raises:
        ValueError: If ``slope_sd`` isn't positive or ``outliers`` isn't in (0, 1).

    Source: see :data:`STARS`.
    """
    if slope_sd <= 0.0 or not 0.0 < outliers < 1.0:
        raise ValueError(f"`slope_sd` must be positive and `outliers` in (0, 1), got {slope_sd}, {outliers}")
    known = (slope_sd, outliers) == _DEFAULT
    table = torch.tensor(STARS, dtype=torch.float64)
    temperature, light = (table - table.mean(0)).T.contiguous()
    return StarCluster(
        name="star_cluster",
        dim=4,
        source="Humphreys (1978); Rousseeuw, Leroy (1987), Robust Regression and Outlier Detection, table 2.3",
        log_z=_LOG_Z if known else None,
        mode_weights=torch.tensor([1.0 - _RISES, _RISES], dtype=torch.float64) if known else None,
        temperature=temperature,
        light=light,
        prior_means=torch.tensor([0.0, 0.0, math.log(0.5), math.log(outliers / (1.0 - outliers))], dtype=torch.float64),
        prior_sds=torch.tensor([1.0, slope_sd, 0.5, 1.0], dtype=torch.float64),
    )
