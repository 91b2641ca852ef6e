"""The galaxy velocities: the data set on which every Bayesian normal mixture is tried, label switching included."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.base import Target
from targets.orderings import ordering_index, uniform_weights

__all__ = ["VELOCITIES", "GalaxyMixture", "galaxies"]

VELOCITIES: tuple[float, ...] = (
    9.172, 9.350, 9.483, 9.558, 9.775, 10.227, 10.406, 16.084, 16.170, 18.419, 18.552, 18.600, 18.927, 19.052,
    19.070, 19.330, 19.343, 19.349, 19.440, 19.473, 19.529, 19.541, 19.547, 19.663, 19.846, 19.856, 19.863, 19.914,
    19.918, 19.973, 19.989, 20.166, 20.175, 20.179, 20.196, 20.215, 20.221, 20.415, 20.629, 20.795, 20.821, 20.846,
    20.875, 20.986, 21.137, 21.492, 21.701, 21.814, 21.921, 21.960, 22.185, 22.209, 22.242, 22.249, 22.314, 22.374,
    22.495, 22.746, 22.747, 22.888, 22.914, 23.206, 23.241, 23.263, 23.484, 23.538, 23.542, 23.666, 23.706, 23.711,
    24.129, 24.285, 24.289, 24.366, 24.717, 24.990, 25.633, 26.690, 26.995, 32.065, 32.789, 34.279,
)  # fmt: skip
"""Velocities of 82 galaxies in the Corona Borealis region, 1000 km/s, ascending.

Source: Postman, Huchra, Geller (1986), Astronomical Journal 92; listed by Roeder (1990), JASA 85, table 1. Older
copies, R's MASS package among them, misprint the 78th value as 26.960; it is 26.690 here, as in the paper.
"""

_LOG_2PI = math.log(2.0 * math.pi)
_MOST_COMPONENTS = 6


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GalaxyMixture(Target):
    r"""Posterior of a K-component normal mixture in unconstrained coordinates.

    .. math:: y_i \sim \sum_k w_k N(\mu_k, v_k), \quad \mu_k \sim N(\xi, R^2), \quad
              v_k \sim \mathrm{InvGamma}(a, \beta), \quad w \sim \mathrm{Dirichlet}(1, \dots, 1)

    Coordinates: :math:`\mu_1..\mu_K`, :math:`\log v_1..\log v_K`, :math:`\eta_k = \log(w_k / w_K)` for k < K. Their
    Jacobians are :math:`\prod_k v_k` and :math:`\prod_k w_k`, so that with all constants of prior and likelihood

    .. math:: \ell(x) = \sum_i \log \sum_k w_k N(y_i; \mu_k, v_k) + \sum_k \log N(\mu_k; \xi, R^2)
              + \sum_k \left[ a \log \beta - \log\Gamma(a) - a \log v_k - \beta / v_k \right]
              + \log\Gamma(K) + \sum_k \log w_k

    and ``log_z`` would be the log evidence. The law is exactly invariant under relabelling the components, so each of
    the K! orderings of the means has probability 1/K!: they are the modes (orderings, not points).

    Attributes:
        components: K.
        data: ``(n,)`` observations y.
        location: :math:`\xi`.
        spread: R.
        shape: a.
        rate: :math:`\beta`.
    """

    components: int
    data: Tensor
    location: float
    spread: float
    shape: float
    rate: float

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Name of each coordinate."""
        k = self.components
        return (
            *(f"mean[{i}]" for i in range(k)),
            *(f"log_variance[{i}]" for i in range(k)),
            *(f"log_weight_ratio[{i}]" for i in range(k - 1)),
        )

    def constrained(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means, variances and weights, each ``(M, K)``, of points ``(M, 3K-1)``."""
        means, log_variances, log_weights = self._split(x)
        return means, log_variances.exp(), log_weights.exp()

    def log_density(self, x: Tensor) -> Tensor:
        """Log likelihood plus log prior plus log Jacobian: ``(M, 3K-1) -> (M,)``."""
        means, log_variances, log_weights = self._split(x)
        logs, _ = self._logs(means, log_variances, log_weights)
        return torch.logsumexp(logs, dim=2).sum(1) + self._log_prior(means, log_variances, log_weights)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Log density and gradient.

        With responsibilities :math:`\rho_{ik}` and :math:`z_{ik} = (y_i - \mu_k)/\sqrt{v_k}`: sums over i of
        :math:`\rho_{ik} z_{ik}/\sqrt{v_k}`, :math:`\rho_{ik} (z_{ik}^2 - 1)/2` and :math:`\rho_{ik} - w_k`, plus the
        derivatives of the prior terms.
        """
        means, log_variances, log_weights = self._split(x)
        logs, z = self._logs(means, log_variances, log_weights)
        per_point = torch.logsumexp(logs, dim=2)
        responsibility = torch.exp(logs - per_point[:, :, None])
        weights = log_weights.exp()
        count = responsibility.sum(1)
        by_mean = (responsibility * z).sum(1) * torch.exp(-0.5 * log_variances)
        by_log_variance = 0.5 * ((responsibility * z.square()).sum(1) - count)
        # The Jacobian acts as one more pseudo-observation for each component.
        by_ratio = (count + 1.0) - (self.data.shape[0] + self.components) * weights
        grad = torch.cat(
            [
                by_mean - (means - self.location) / self.spread**2,
                by_log_variance - self.shape + self.rate * torch.exp(-log_variances),
                by_ratio[:, :-1],
            ],
            dim=1,
        )
        return per_point.sum(1) + self._log_prior(means, log_variances, log_weights), grad

    def mode_of(self, x: Tensor) -> Tensor:
        """Ordering of the means: ``(M, 3K-1) -> (M,)``."""
        return ordering_index(x[:, : self.components])

    def permuted(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        """The same mixtures with component ``order[k]`` renamed to k: ``(M, 3K-1) -> (M, 3K-1)``."""
        means, log_variances, log_weights = (part[:, list(order)] for part in self._split(x))
        return torch.cat([means, log_variances, log_weights[:, :-1] - log_weights[:, -1:]], dim=1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means, log variances and log weights, each ``(M, K)``."""
        k = self.components
        ratios = torch.nn.functional.pad(x[:, 2 * k :], (0, 1))
        return x[:, :k], x[:, k : 2 * k], torch.log_softmax(ratios, dim=1)

    def _logs(self, means: Tensor, log_variances: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
        """``(M, n, K)`` logs of weight times component density, and standardised residuals."""
        z = (self.data[:, None] - means[:, None, :]) * torch.exp(-0.5 * log_variances)[:, None, :]
        return (log_weights - 0.5 * log_variances - 0.5 * _LOG_2PI)[:, None, :] - 0.5 * z.square(), z

    def _log_prior(self, means: Tensor, log_variances: Tensor, log_weights: Tensor) -> Tensor:
        """``(M,)`` log prior in the unconstrained coordinates."""
        of_means = -0.5 * ((means - self.location) / self.spread).square() - math.log(self.spread) - 0.5 * _LOG_2PI
        of_variances = -self.shape * log_variances - self.rate * torch.exp(-log_variances)
        constant = self.shape * math.log(self.rate) - math.lgamma(self.shape)
        per_component = of_means + of_variances + log_weights + constant
        return per_component.sum(1) + math.lgamma(self.components)


def galaxies(
    components: int = 3,
    location: float | None = None,
    spread: float | None = None,
    shape: float = 2.0,
    rate: float = 1.0,
) -> GalaxyMixture:
    r"""Posterior of a normal mixture for the 82 galaxy velocities.

    Ground truth: exact symmetry, each ordering of the means has probability 1/K!; evidence and moments aren't known
    in closed form. A mean of a component that holds almost no data roams over its prior: those are the hard modes.

    Args:
        components: K, 1 to 6; the dimension is 3K - 1.
        location: Prior mean :math:`\xi` of a component mean; None for the midrange of the data.
        spread: Prior standard deviation R of it; None for the range of the data.
        shape: Of the inverse-gamma prior of the variances.
        rate: Of the same, in (1000 km/s)^2; Richardson and Green give it a gamma law, here it is fixed.

    Raises:
        ValueError: If ``components`` isn't in 1..6, or a scale isn't positive.

    Source: data of Postman, Huchra, Geller (1986) and Roeder (1990), see :data:`VELOCITIES`; priors after Richardson,
    Green (1997), On Bayesian analysis of mixtures with an unknown number of components, JRSS B 59, section 2.
    """
    if not 1 <= components <= _MOST_COMPONENTS:
        raise ValueError(f"`components` must be in 1..{_MOST_COMPONENTS}, got {components}")
    low, high = VELOCITIES[0], VELOCITIES[-1]
    spread = high - low if spread is None else spread
    if min(spread, shape, rate) <= 0.0:
        raise ValueError(f"`spread`, `shape` and `rate` must be positive, got {spread}, {shape}, {rate}")
    return GalaxyMixture(
        name="galaxies",
        dim=3 * components - 1,
        source="Postman, Huchra, Geller (1986), AJ 92; Roeder (1990), JASA 85; priors after Richardson, Green (1997)",
        mode_weights=uniform_weights(components),
        components=components,
        data=torch.tensor(VELOCITIES, dtype=torch.float64),
        location=0.5 * (low + high) if location is None else location,
        spread=spread,
        shape=shape,
        rate=rate,
    )
