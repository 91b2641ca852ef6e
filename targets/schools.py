"""The eight schools: a hierarchical model with a funnel, small enough to be solved by a one-dimensional integral."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from targets.base import Target
from targets.draws import normal, uniform
from targets.line import Line

__all__ = ["EFFECTS", "ERRORS", "EightSchools", "eight_schools"]

EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
"""Estimated coaching effects. Source: Rubin (1981), Journal of Educational Statistics 6, table 1."""

ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
"""Their standard errors, same source."""

_PRIOR_SD = 5.0
_TAU_SCALE = 5.0
_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class EightSchools(Target):
    r"""Posterior of the eight-schools model.

    .. math:: y_j \sim N(\theta_j, s_j^2), \quad \theta_j \sim N(\mu, \tau^2), \quad \mu \sim N(0, 5^2), \quad
              \tau \sim \mathrm{HalfCauchy}(5)

    Coordinates: :math:`\mu`, :math:`\log \tau` (the Jacobian :math:`\tau` is included) and eight effects: the
    :math:`\theta_j` themselves if centred, else :math:`\eta_j = (\theta_j - \mu)/\tau`. All constants are included, so
    that ``log_z`` is the log evidence, the same for both.

    Attributes:
        centred: Which coordinates.
        effects: ``(8,)`` y.
        errors: ``(8,)`` s.
        log_tau: Posterior law of :math:`\log\tau`.
    """

    centred: bool
    effects: Tensor
    errors: Tensor
    log_tau: Line

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Name of each coordinate."""
        return ("mu", "log_tau", *(f"{'theta' if self.centred else 'eta'}[{j}]" for j in range(8)))

    def constrained(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r""":math:`\mu` ``(M,)``, :math:`\tau` ``(M,)`` and :math:`\theta` ``(M, 8)`` of points ``(M, 10)``."""
        mu, tau, effects = x[:, 0], x[:, 1].exp(), x[:, 2:]
        return mu, tau, effects if self.centred else mu[:, None] + tau[:, None] * effects

    def log_density(self, x: Tensor) -> Tensor:
        """Log likelihood plus log prior plus log Jacobian: ``(M, 10) -> (M,)``."""
        return self.value_and_grad(x)[0]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        mu, log_tau, last = x[:, :1], x[:, 1:2], x[:, 2:]
        tau = log_tau.exp()
        eta = (last - mu) / tau if self.centred else last
        theta = last if self.centred else mu + tau * last
        residual = (self.effects - theta) / self.errors
        pull = residual / self.errors
        # log of HalfCauchy(tau; 5) times tau, with r = tau / 5 written so that neither end overflows.
        r = log_tau[:, 0] - math.log(_TAU_SCALE)
        of_tau = math.log(2.0 / math.pi) + r - torch.nn.functional.softplus(2.0 * r)
        value = (
            -0.5 * (residual.square() + eta.square()).sum(1)
            - torch.log(self.errors).sum()
            - 8.5 * _LOG_2PI
            - 0.5 * (mu[:, 0] / _PRIOR_SD).square()
            - math.log(_PRIOR_SD)
            + of_tau
        )
        by_mu = -mu / _PRIOR_SD**2
        by_log_tau = (1.0 - 2.0 * torch.sigmoid(2.0 * r))[:, None]
        if self.centred:
            value = value - 8.0 * log_tau[:, 0]
            by_mu = by_mu + (eta / tau).sum(1, keepdim=True)
            by_log_tau = by_log_tau + eta.square().sum(1, keepdim=True) - 8.0
            return value, torch.cat([by_mu, by_log_tau, pull - eta / tau], dim=1)
        by_mu = by_mu + pull.sum(1, keepdim=True)
        by_log_tau = by_log_tau + tau * (pull * eta).sum(1, keepdim=True)
        return value, torch.cat([by_mu, by_log_tau, tau * pull - eta], dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        r"""Exact draws: :math:`\log\tau` by inverse CDF on 20,001 nodes, then the other laws, which are Gaussian.

        These are :math:`\mu | \tau` with the effects integrated out, and the effects given both.
        """
        u = uniform(self, (n,), generator)
        z = normal(self, (n, 9), generator)
        log_tau = torch.from_numpy(self.log_tau.quantile(u.cpu().double().numpy())).to(u)[:, None]
        variance = log_tau.exp().square()
        marginal = 1.0 / (self.errors.square() + variance)
        precision = marginal.sum(1, keepdim=True) + 1.0 / _PRIOR_SD**2
        mu = (marginal * self.effects).sum(1, keepdim=True) / precision + z[:, :1] / precision.sqrt()
        # Posterior of eta given mu and tau: precision 1 + tau^2/s^2.
        scaled = log_tau.exp() / self.errors
        precision = 1.0 + scaled.square()
        eta = scaled * (self.effects - mu) / self.errors / precision + z[:, 1:] / precision.sqrt()
        return torch.cat([mu, log_tau, mu + log_tau.exp() * eta if self.centred else eta], dim=1)


def eight_schools(centred: bool = False) -> EightSchools:
    r"""Posterior of the eight-schools model, with its evidence and an exact sampler.

    Ground truth: given :math:`\tau`, the effects integrate out, y ~ N(0, diag(s^2 + tau^2) + 25 11^T); ``log_z`` is
    the trapezoidal sum over :math:`\log\tau` in [-25, 15].

    Args:
        centred: The funnel-shaped parametrisation if True, the easy one if False.

    Source: Rubin (1981), Estimation in parallel randomized experiments, Journal of Educational Statistics 6; priors of
    the example in Gelman et al., Bayesian Data Analysis, as in Stan's and posteriordb's eight_schools.
    """
    nodes = np.linspace(-25.0, 15.0, 20001)
    effects, errors = np.asarray(EFFECTS), np.asarray(ERRORS)
    variance = errors**2 + np.exp(2.0 * nodes)[:, None]
    # Sherman-Morrison for diag(variance) + 25 11^T.
    total, pull = (1.0 / variance).sum(1), (effects / variance).sum(1)
    stretch = 1.0 + _PRIOR_SD**2 * total
    quadratic = (effects**2 / variance).sum(1) - _PRIOR_SD**2 * pull**2 / stretch
    log_det = np.log(variance).sum(1) + np.log(stretch)
    r = nodes - math.log(_TAU_SCALE)
    of_tau = math.log(2.0 / math.pi) + r - np.logaddexp(0.0, 2.0 * r)
    law = Line.of(nodes, -0.5 * (quadratic + log_det + 8.0 * _LOG_2PI) + of_tau)
    return EightSchools(
        name="eight_schools",
        dim=10,
        source="Rubin (1981), Journal of Educational Statistics 6",
        log_z=law.log_z,
        centred=centred,
        effects=torch.from_numpy(effects),
        errors=torch.from_numpy(errors),
        log_tau=law,
    )
