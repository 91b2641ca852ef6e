r"""Mixtures: :math:`\pi(x) = \sum_k w_k p_k(x)`, normalised, sampled by drawing the component first."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from targets.base import Target
from targets.draws import normal, seeded

__all__ = ["GaussianMixture", "Mixture", "gaussian_mixture", "pick_components", "with_mode_weights"]

_REGION_DRAWS = 2**16
_REGION_CHUNK = 2**12
_BLOCK = 2**17  # numbers at work at a time on the CPU, 1 MiB: what is larger leaves the cache between two operations
_SHORT = 8  # dimension up to which points are on the last axis in memory, so that sums over d and K run along them


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Mixture(Target):
    r"""A normalised mixture whose modes are its components.

    :meth:`mode_of` is the component of largest responsibility
    :math:`r_k(x) = w_k p_k(x) / \sum_l w_l p_l(x)`; ``modes`` are the component centres. Where components overlap,
    the probability of "k is the largest" differs from :math:`w_k`; ``mode_weights`` is the former
    (see :func:`with_mode_weights`), ``weights`` the latter.

    Attributes:
        weights: ``(K,)`` component probabilities.
    """

    weights: Tensor

    @abstractmethod
    def component_log_density(self, x: Tensor) -> Tensor:
        r"""``(M, d) -> (M, K)``: :math:`\log w_k + \log p_k(x)`."""

    def log_density(self, x: Tensor) -> Tensor:
        """Log density, normalised: ``(M, d) -> (M,)``."""
        return torch.logsumexp(self.component_log_density(x), dim=1)

    def mode_of(self, x: Tensor) -> Tensor:
        """Component of largest responsibility: ``(M, d) -> (M,)``."""
        return self.component_log_density(x).argmax(dim=1)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GaussianMixture(Mixture):
    r"""Gaussian mixture with a full covariance :math:`F_k F_k^T` for each component.

    With :math:`z_k = F_k^{-1}(x - \mu_k)`,

    .. math:: \log p_k(x) = -|z_k|^2/2 - \log|\det F_k| - (d/2)\log 2\pi, \qquad
              \nabla \log \pi(x) = -\sum_k r_k(x) F_k^{-T} z_k.

    All :math:`F_k^{-1}` are stacked into one matrix, so a batch costs one matrix product each way, and one exponential for each
    component and point.

    Attributes:
        means: ``(K, d)``.
        factors: ``(K, d, d)`` any square roots :math:`F_k` of the covariances, Cholesky or not.
        whitening: ``(K d, d)`` the inverses of the factors, stacked.
        offsets: ``(K d,)`` the stacked :math:`F_k^{-1} \mu_k`.
        log_heights: ``(K,)`` :math:`\log w_k p_k(\mu_k)`.
    """

    means: Tensor
    factors: Tensor
    whitening: Tensor
    offsets: Tensor
    log_heights: Tensor

    def component_log_density(self, x: Tensor) -> Tensor:
        r"""``(M, d) -> (M, K)``: :math:`\log w_k + \log p_k(x)`."""
        return self._log_heights_at(self._whitened(x))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient, the responsibility-weighted mean of the components' gradients."""
        rows = max(1, _BLOCK // len(self.whitening)) if x.device.type == "cpu" else len(x)
        if len(x) <= rows:
            return self._block(x)
        values, grads = zip(*map(self._block, x.split(rows)), strict=True)
        return torch.cat(values), torch.cat(grads)

    def _block(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self._whitened(x)
        logs = self._log_heights_at(z)
        top = logs.amax(1, keepdim=True)
        limits = torch.finfo(logs.dtype)
        # so far below the largest nothing is left of a share, but the exponential takes 20 times as long where it underflows
        share = logs.sub_(top.clamp(min=limits.min)).clamp_(min=0.5 * math.log(limits.tiny)).exp_()
        total = share.sum(1, keepdim=True)
        z.mul_(share.div_(-total)[:, :, None])
        slope = z.permute(1, 2, 0).reshape(len(self.whitening), -1).T if self.dim <= _SHORT else z.flatten(1)
        return total.log().add_(top)[:, 0], slope @ self.whitening

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact draws: a component, then its Gaussian."""
        component = pick_components(self, n, generator)
        z = normal(self, (n, self.dim), generator)
        draws = self.means[component]
        for k, factor in enumerate(self.factors):
            rows = (component == k).nonzero().squeeze(1)
            draws[rows] += z[rows] @ factor.T
        return draws

    def _whitened(self, x: Tensor) -> Tensor:
        if self.dim > _SHORT:
            return torch.addmm(-self.offsets, x, self.whitening.T).view(x.shape[0], *self.means.shape)
        z = torch.addmm(-self.offsets[:, None], self.whitening, x.T)
        return z.view(*self.means.shape, x.shape[0]).permute(2, 0, 1)

    def _log_heights_at(self, z: Tensor) -> Tensor:
        if self.dim > _SHORT:
            return torch.add(self.log_heights, torch.linalg.vector_norm(z, dim=-1).square(), alpha=-0.5)
        square = z[..., 0].square()
        for part in z.unbind(-1)[1:]:
            square = square.addcmul_(part, part)
        return torch.add(self.log_heights, square, alpha=-0.5)


def gaussian_mixture(
    means: Tensor,
    factors: Tensor | float | Sequence[float],
    weights: Tensor | Sequence[float] | None = None,
    *,
    name: str = "gaussian_mixture",
    source: str = "closed form",
) -> GaussianMixture:
    """A Gaussian mixture from its parameters; normalised, so ``log_z`` is 0.

    Args:
        means: ``(K, d)`` floating point, taken to float64.
        factors: ``(K, d, d)`` square roots F of the covariances F F^T, or one standard deviation for all components,
            or one for each.
        weights: ``(K,)`` positive, normalised here; None for equal weights.
        name: Name of the target.
        source: Where it comes from.

    Returns:
        The target, float64 on the CPU.

    Raises:
        ValueError: If the shapes don't agree, a weight isn't positive, or a factor is singular.
    """
    means = torch.as_tensor(means, dtype=torch.float64)
    if means.ndim != 2:
        raise ValueError(f"`means` must have shape (K, d), got {tuple(means.shape)}")
    components, dim = means.shape
    factors = torch.as_tensor(factors, dtype=torch.float64)
    if factors.ndim < 2:
        factors = factors.expand(components)[:, None, None] * torch.eye(dim, dtype=torch.float64)
    if factors.shape != (components, dim, dim):
        raise ValueError(f"`factors` must have shape {(components, dim, dim)}, got {tuple(factors.shape)}")
    weights = torch.ones(components) if weights is None else weights
    weights = torch.as_tensor(weights, dtype=torch.float64)
    if weights.shape != (components,) or not bool((weights > 0).all()):
        raise ValueError(f"`weights` must be {components} positive numbers, got {weights.tolist()}")
    weights = weights / weights.sum()
    log_det = torch.linalg.slogdet(factors).logabsdet
    if not bool(torch.isfinite(log_det).all()):
        raise ValueError("`factors` must be invertible")
    whitening = torch.linalg.inv(factors)
    return with_mode_weights(
        GaussianMixture(
            name=name,
            dim=dim,
            source=source,
            log_z=0.0,
            modes=means,
            weights=weights,
            means=means,
            factors=factors,
            whitening=whitening.reshape(components * dim, dim),
            offsets=(whitening @ means[:, :, None]).flatten(),
            log_heights=weights.log() - log_det - 0.5 * dim * math.log(2.0 * math.pi),
        )
    )


def pick_components(mixture: Mixture, n: int, generator: torch.Generator) -> Tensor:
    """``(n,)`` component indices drawn with the mixture's weights."""
    weights = mixture.weights.to(generator.device)
    if n == 0:
        return torch.zeros(0, dtype=torch.int64, device=mixture.device)
    return torch.multinomial(weights, n, replacement=True, generator=generator).to(mixture.device)


_M = TypeVar("_M", bound=Mixture)


def with_mode_weights(mixture: _M) -> _M:
    r"""The mixture with ``mode_weights[k]`` = P(k has the largest responsibility).

    Since :math:`E[r_k(X)] = w_k` exactly, that probability is
    :math:`w_k + E[1\{k = \arg\max_l r_l(X)\} - r_k(X)]`; the expectation is a mean over 65,536 exact draws from a
    fixed seed. It vanishes term by term where components don't overlap, so that well separated mixtures get
    :math:`w_k` to rounding error. The standard error is 4e-4 in the worst case, the overlapping pair of ``gmm40``. Of a component
    that is the largest nowhere the estimate may fall below 0; it is 0 then.
    """
    if mixture.weights.shape[0] == 1:
        return replace(mixture, mode_weights=mixture.weights)
    excess = torch.zeros_like(mixture.weights)
    for x in torch.split(mixture.sample(_REGION_DRAWS, seeded(0)), _REGION_CHUNK):
        logs = mixture.component_log_density(x)
        hard = torch.nn.functional.one_hot(logs.argmax(dim=1), logs.shape[1])
        excess += (hard - torch.softmax(logs, dim=1)).sum(0)
    share = (mixture.weights + excess / _REGION_DRAWS).clamp(min=0.0)
    return replace(mixture, mode_weights=share / share.sum())
