"""Random mixtures whose components are unlike: narrow and wide, thin and round, curved, skewed, with light and heavy tails."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.draws import normal, rotation, seeded
from targets.mixture import Mixture, pick_components, with_mode_weights

__all__ = ["UnlikeMixture", "unlike_mixture"]

_DIMS = (1, 2, 3, 5, 8, 12, 20)
_COMPONENTS = (1, 2, 3, 5, 8)
_SMALLEST = 0.03  # weight
_MOST_DF = 8


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class UnlikeMixture(Mixture):
    r"""Mixture of images of spherical laws under smooth maps, each with a law and a map of its own.

    With :math:`u = W_k (x - \mu_k)`, bent to :math:`v = u + b_k (u_1^2 - 1) e_2` and skewed to
    :math:`z_j = \sinh(\operatorname{asinh} v_j - s_k)`,

    .. math:: \log p_k(x) = c_k + \phi_k(|z|^2) + \sum_j \log \frac{\cosh(\operatorname{asinh} v_j - s_k)}{\sqrt{1 + v_j^2}},

    where :math:`\phi(h) = -h/2` for light tails and :math:`-\frac{\nu+d}{2} \log(1 + h/\nu)` for heavy ones.

    The modes have no representative points: a bent or skewed component does not have its peak at :math:`\mu_k`.

    Attributes:
        locations: ``(K, d)`` the :math:`\mu_k`.
        whitening: ``(K, d, d)`` the :math:`W_k`.
        factors: ``(K, d, d)`` their inverses.
        bend: ``(K,)`` the :math:`b_k`.
        skew: ``(K,)`` the :math:`s_k`.
        df: ``(K,)`` degrees of freedom :math:`\nu`, infinite for light tails.
        log_heights: ``(K,)`` :math:`\log w_k + c_k`.
    """

    locations: Tensor
    whitening: Tensor
    factors: Tensor
    bend: Tensor
    skew: Tensor
    df: Tensor
    log_heights: Tensor

    def component_log_density(self, x: Tensor) -> Tensor:
        r"""``(M, d) -> (M, K)``: :math:`\log w_k + \log p_k(x)`."""
        return self._look(x)[0]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient, the responsibility-weighted mean of the components' gradients."""
        logs, slope, u = self._look(x)
        value = torch.logsumexp(logs, dim=1)
        slope = slope * torch.exp(logs - value[:, None])[:, :, None]
        if self.dim > 1:
            first = slope[..., 0] + 2.0 * self.bend * u[..., 0] * slope[..., 1]
            slope = torch.cat([first[..., None], slope[..., 1:]], -1)
        return value, torch.einsum("mki,kij->mj", slope, self.whitening)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact draws: a component, then its spherical law and the maps backwards."""
        component = pick_components(self, n, generator)
        z = normal(self, (n, self.dim), generator)
        df = self.df[component]
        further = normal(self, (n, _MOST_DF), generator).square()
        chi_square = torch.where(torch.arange(_MOST_DF, device=z.device) < df[:, None], further, 0.0).sum(1)
        z = z * torch.where(df.isfinite(), (df / chi_square).sqrt(), 1.0)[:, None]
        u = (z.asinh() + self.skew[component, None]).sinh()
        if self.dim > 1:
            u[:, 1] -= self.bend[component] * (u[:, 0].square() - 1.0)
        return self.locations[component] + (self.factors[component] @ u[:, :, None])[..., 0]

    def _look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted log densities ``(M, K)``, their slopes in v and u, ``(M, K, d)``."""
        u = torch.einsum("kij,mkj->mki", self.whitening, x[:, None, :] - self.locations)
        v = u
        if self.dim > 1:
            bent = u[..., 1] + self.bend * (u[..., 0].square() - 1.0)
            v = torch.cat([u[..., :1], bent[..., None], u[..., 2:]], -1)
        a = v.asinh() - self.skew[:, None]
        root = (1.0 + v.square()).sqrt()
        z, rate = a.sinh(), a.cosh() / root
        h = z.square().sum(-1)
        heavy = self.df.isfinite()
        df = torch.where(heavy, self.df, 1.0)
        log_law = torch.where(heavy, -0.5 * (df + self.dim) * torch.log1p(h / df), -0.5 * h)
        fall = torch.where(heavy, -(df + self.dim) / (df + h), -1.0)
        slope = fall[..., None] * z * rate + (a.tanh() - v / root) / root
        return self.log_heights + log_law + rate.log().sum(-1), slope, u


def unlike_mixture(seed: int = 0, dim: int | None = None, components: int | None = None) -> UnlikeMixture:
    r"""A problem drawn at random: nothing about it is known beforehand but the seed.

    Locations are uniform on :math:`[-10, 10]^d`, weights uniform on the simplex with a floor of .03. Each component has a width,
    log-uniform on [.3, 3] in up to five dimensions and, beyond, such that volumes differ by as much as in five; a random rotation;
    coordinate scales log-uniform over a factor of up to 10. A third of the components are bent, a third skewed, and a third
    have heavy tails of 3 to 8 degrees of freedom, independently. Ground truth: closed form, ``log_z`` = 0; the mode
    weights are those of the largest-responsibility regions.

    Args:
        seed: Of everything.
        dim: Dimension d; None draws one of 1, 2, 3, 5, 8, 12, 20.
        components: Number of components K; None draws one of 1, 2, 3, 5, 8.

    Source: ours.
    """
    g = seeded(seed)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=g, dtype=torch.float64)

    d = _DIMS[int(torch.randint(len(_DIMS), (), generator=g))] if dim is None else dim
    k = _COMPONENTS[int(torch.randint(len(_COMPONENTS), (), generator=g))] if components is None else components
    share = -uniform(k).log()
    weights = _SMALLEST + (1.0 - k * _SMALLEST) * share / share.sum()
    width = 10.0 ** ((uniform(k) - 0.5) * min(1.0, 5.0 / d))
    factors = torch.empty(k, d, d, dtype=torch.float64)
    for each in range(k):
        scales = 10.0 ** (uniform() * (uniform(d) - 0.5))
        factors[each] = width[each] * rotation(d, g) * scales
    bend, skew, df = uniform(3, k), uniform(3, k), uniform(2, k)
    bend = torch.where(bend[0] < 1 / 3, 0.3 + bend[1], 0.0) if d > 1 else torch.zeros(k, dtype=torch.float64)
    skew = torch.where(skew[0] < 1 / 3, torch.where(skew[1] < 0.5, 1.0, -1.0) * (0.3 + 0.7 * skew[2]), 0.0)
    df = torch.where(df[0] < 1 / 3, 3.0 + (df[1] * (_MOST_DF - 2)).floor(), torch.inf)
    locations = 20.0 * uniform(k, d) - 10.0
    heavy = df.isfinite()
    finite = torch.where(heavy, df, 1.0)
    log_norm = torch.where(
        heavy,
        torch.lgamma(0.5 * (finite + d)) - torch.lgamma(0.5 * finite) - 0.5 * d * (finite * math.pi).log(),
        -0.5 * d * math.log(2.0 * math.pi),
    )
    return with_mode_weights(
        UnlikeMixture(
            name="unlike_mixture",
            dim=d,
            source="random",
            log_z=0.0,
            weights=weights,
            locations=locations,
            whitening=torch.linalg.inv(factors),
            factors=factors,
            bend=bend,
            skew=skew,
            df=df,
            log_heights=weights.log() - torch.linalg.slogdet(factors).logabsdet + log_norm,
        )
    )
