"""Mixtures of products of Student-t laws: heavy tails, where a Gaussian reference loses its importance weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.draws import normal, seeded
from targets.mixture import Mixture, pick_components, with_mode_weights

__all__ = ["StudentMixture", "student_mixture"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StudentMixture(Mixture):
    r"""Mixture whose components are products of d unit-scale Student-t laws.

    With :math:`u = x - \mu_k` and :math:`\nu` degrees of freedom,

    .. math:: \log p_k(x) = \sum_j \left[ c_\nu - \frac{\nu+1}{2} \log(1 + u_j^2/\nu) \right], \qquad
              \partial_j \log p_k = -\frac{(\nu+1) u_j}{\nu + u_j^2}.

    Attributes:
        locations: ``(K, d)`` the :math:`\mu_k`.
        df: Degrees of freedom :math:`\nu`.
        log_heights: ``(K,)`` :math:`\log w_k + d c_\nu`.
    """

    locations: Tensor
    df: int
    log_heights: Tensor

    def component_log_density(self, x: Tensor) -> Tensor:
        r"""``(M, d) -> (M, K)``: :math:`\log w_k + \log p_k(x)`."""
        return self._log_heights_at(x[:, None, :] - self.locations)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient, the responsibility-weighted mean of the components' gradients."""
        u = x[:, None, :] - self.locations
        logs = self._log_heights_at(u)
        value = torch.logsumexp(logs, dim=1)
        responsibility = torch.exp(logs - value[:, None])
        return value, -(responsibility[:, :, None] * ((self.df + 1.0) * u / (self.df + u.square()))).sum(1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact draws: a component, then normals over root mean squares of ``df`` further normals."""
        component = pick_components(self, n, generator)
        z = normal(self, (self.df + 1, n, self.dim), generator)
        return self.locations[component] + z[0] / z[1:].square().mean(0).sqrt()

    def _log_heights_at(self, u: Tensor) -> Tensor:
        return self.log_heights - 0.5 * (self.df + 1.0) * torch.log1p(u.square() / self.df).sum(-1)


def student_mixture(dim: int = 10, components: int = 10, df: int = 2, seed: int = 0) -> StudentMixture:
    r"""Equal mixture of product Student-t laws at random places.

    Locations uniform on :math:`[-10, 10]^d` from the seed, unit scales. Ground truth: closed form, ``log_z`` = 0; at
    the default of two degrees of freedom the variance is infinite. In low dimension the components overlap, and the
    mode weights are those of the largest-responsibility regions.

    Args:
        dim: Dimension d.
        components: Number of components K.
        df: Degrees of freedom, a positive integer.
        seed: Of the locations.

    Raises:
        ValueError: If ``df`` is below 1.

    Source: the Student-t mixture of the VSM benchmark (Blessing et al., 2024, Beyond ELBOs, ICML, arXiv:2406.07423).
    """
    if df < 1:
        raise ValueError(f"`df` must be a positive integer, got {df}")
    locations = 20.0 * torch.rand(components, dim, generator=seeded(seed), dtype=torch.float64) - 10.0
    weights = torch.full((components,), 1.0 / components, dtype=torch.float64)
    log_norm = math.lgamma(0.5 * (df + 1.0)) - math.lgamma(0.5 * df) - 0.5 * math.log(df * math.pi)
    return with_mode_weights(
        StudentMixture(
            name="student_mixture",
            dim=dim,
            source="Blessing et al. (2024), arXiv:2406.07423, mixture of Student-t",
            log_z=0.0,
            modes=locations,
            weights=weights,
            locations=locations,
            df=df,
            log_heights=weights.log() + dim * log_norm,
        )
    )
