r"""Gaussian mixtures in eigenbasis form: density, draws, responsibilities, and conditioning on a noised observation.

.. math:: g(x) = \sum_k w_k N(x; \mu_k, V_k \operatorname{diag}(\lambda_k) V_k^T)

Held by eigenvectors V_k and eigenvalues lambda_k, because then the posterior under x_t ~ N(alpha x_0, sigma^2 I) is again such a
mixture with the *same* V_k: conditioning at a new noise level costs no factorisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rdmc.linear import spectrum
from rdmc.look import Look, log_sum, look_from, pick
from rdmc.rng import Streams

__all__ = ["GaussianMixture", "squared_norm"]

_BLOCK = 2**18  # numbers at work at a time on the CPU, 2 MiB: what is larger leaves the cache between two operations
_COPIED = 8  # dimension up to which a matrix of its own for every point costs less than sorting points by matrix
_SHORT = 3  # dimension up to which points are on the last axis in memory, and sums over d are made column by column


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of K Gaussians, or one such mixture for each of B particles with shared covariances.

    Shapes: points are ``(..., d)``, or ``(..., B, d)`` for a mixture per particle.
    Cost: ``O(K d^2)`` a point, no evaluation of the target.

    Args:
        log_weight: ``(K,)`` or ``(B, K)`` log weights; normalised on construction.
        mean: ``(K, d)`` or ``(B, K, d)``.
        basis: ``(K, d, d)`` orthonormal columns V_k.
        variance: ``(K, d)`` eigenvalues lambda_k > 0.

    Example:
        >>> pair = GaussianMixture.isotropic(torch.tensor([[-1.0], [1.0]]), torch.tensor([0.1, 0.5]), torch.tensor([1.0, 3.0]))
        >>> pair.log_weight.exp()
        tensor([0.2500, 0.7500])
    """

    log_weight: Tensor
    mean: Tensor
    basis: Tensor
    variance: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_weight", torch.log_softmax(self.log_weight, -1))

    @classmethod
    def from_covariance(cls, mean: Tensor, covariance: Tensor, weight: Tensor) -> GaussianMixture:
        """From ``(K, d)`` means, ``(K, d, d)`` covariances and ``(K,)`` weights of any total."""
        variance, basis = spectrum(covariance)
        tiny = torch.finfo(variance.dtype).eps * variance[..., -1:]
        return cls(weight.log(), mean, basis, torch.maximum(variance, tiny))

    @classmethod
    def isotropic(cls, mean: Tensor, sd: Tensor, weight: Tensor) -> GaussianMixture:
        """From ``(K, d)`` means, ``(K,)`` standard deviations and ``(K,)`` weights of any total."""
        k, d = mean.shape
        basis = torch.eye(d, dtype=mean.dtype, device=mean.device).expand(k, d, d)
        return cls(weight.log(), mean, basis, sd.square()[:, None].expand(k, d))

    @property
    def components(self) -> int:
        """Number K of components."""
        return self.basis.shape[0]

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.basis.shape[-1]

    @cached_property
    def factor(self) -> Tensor:
        """``(K, d, d)`` L_k = V_k diag(lambda_k)^(1/2)."""
        return self.basis * self.variance.sqrt()[:, None, :]

    @cached_property
    def _whitener(self) -> Tensor:
        """``(d, K d)`` the V_k diag(lambda_k)^(-1/2) side by side, so that all components cost one product."""
        return (self.basis * self.variance.rsqrt()[:, None, :]).movedim(0, 1).flatten(1)

    @cached_property
    def _origin(self) -> Tensor:
        """``(K, d)`` or ``(B, K, d)`` the means, each in its own standardised eigenbasis."""
        return self._last(torch.einsum("...ki,kij->...kj", self.mean, self.basis) * self.variance.rsqrt())

    @cached_property
    def log_height(self) -> Tensor:
        """``(K,)`` or ``(B, K)`` log w_k - log det(2 pi Sigma_k) / 2, the components at their means."""
        log_det = self.variance.log().sum(-1) + self.dim * math.log(2.0 * math.pi)
        return self._last(self.log_weight - 0.5 * log_det)

    def _last(self, part: Tensor) -> Tensor:
        """The same, with particles on the last axis in memory where points are."""
        if self.mean.ndim == 2 or self.dim > _SHORT:
            return part
        return part.movedim(0, -1).contiguous().movedim(-1, 0)

    def _white(self, x: Tensor, origin: Tensor) -> Tensor:
        """``(..., K, d)`` standardised coordinates; in memory ``(K, d, ...)`` in few dimensions."""
        k, d = self.components, self.dim
        if d > _SHORT:
            rows = x.reshape(-1, d)
            if origin.ndim == 2:
                return torch.addmm(-origin.flatten(), rows, self._whitener).view(*x.shape[:-1], k, d)
            return (rows @ self._whitener).view(*x.shape[:-1], k, d).sub_(origin)
        # element by element, as the last bits of a product with so few rows depend on how many points there are
        slopes = self._whitener.view(d, k, d, *[1] * (x.ndim - 1))
        columns = [column.contiguous() for column in x.unbind(-1)]
        white = slopes[0] * columns[0]
        for slope, column in zip(slopes[1:], columns[1:], strict=True):
            white = white.addcmul_(slope, column)
        return white.movedim((0, 1), (-2, -1)).sub_(origin)

    def white(self, x: Tensor) -> Tensor:
        """``(..., K, d)`` coordinates of x in each component's standardised eigenbasis; the caller's to change."""
        return self._white(x, self._origin)

    def unwhite(self, pull: Tensor) -> Tensor:
        r"""``(..., d)`` :math:`\sum_k V_k \lambda_k^{-1/2} p_k` of ``(..., K, d)``: slopes in the eigenbases to those in x."""
        if self.dim > _SHORT:
            return pull.flatten(-2) @ self._whitener.T
        slopes = self._whitener.view(self.dim, self.components, self.dim)
        return torch.stack([(pull * slope).sum((-2, -1)) for slope in slopes], -1)

    def in_blocks(self, x: Tensor, f: Callable[[Tensor, Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What ``f(white, log_height)`` gives, block by block of points: a block stays in the cache from one operation to the next.

        Args:
            x: ``(..., d)`` points.
            f: From ``(P, n, K, d)`` coordinates and ``(K,)`` or ``(P, 1, K)`` heights to tensors ``(P, n, ...)``.
        """
        shared, lead = self.mean.ndim == 2, x.shape[:-1]
        points = x.reshape(-1, 1, self.dim) if shared else x.movedim(-2, 0).reshape(lead[-1], -1, self.dim)
        rows = (
            max(1, _BLOCK // (points.shape[1] * self.components * self.dim)) if x.device.type == "cpu" else len(points)
        )
        parts = []
        for begin in range(0, max(1, len(points)), max(1, rows)):
            own = slice(begin, begin + rows)
            origin, height = (part if shared else part[own][:, None] for part in (self._origin, self.log_height))
            parts.append(f(self._white(points[own], origin), height))
        joined = parts[0] if len(parts) == 1 else tuple(torch.cat(part) for part in zip(*parts, strict=True))
        if shared:
            return tuple(part.reshape((*lead, *part.shape[2:])) for part in joined)
        order = (lead[-1], *lead[:-1])
        return tuple(part.reshape(*order, *part.shape[2:]).movedim(0, len(lead) - 1) for part in joined)

    def log_components(self, x: Tensor) -> Tensor:
        """``(..., K)`` log w_k + log N(x; mu_k, Sigma_k)."""
        return self.in_blocks(x, lambda white, height: (_heights(white, height),))[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """``(...)`` normalised log density."""
        return self.in_blocks(x, lambda white, height: (log_sum(_heights(white, height)),))[0]

    def log_responsibilities(self, x: Tensor) -> Tensor:
        """``(..., K)`` log probability that each component made x."""
        if self.components == 1:
            return x.new_zeros(*x.shape[:-1], 1)
        log = self.log_components(x)
        return log - log_sum(log)[..., None]

    def look(self, x: Tensor) -> Look:
        """Log density and responsibilities, with one exponential for each component and point."""
        return Look(*self.in_blocks(x, lambda white, height: look_from(_heights(white, height)).by_rows()))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log density and its ``(..., d)`` gradient, in closed form."""

        def f(white: Tensor, height: Tensor) -> tuple[Tensor, ...]:
            value, share = look_from(_heights(white, height))
            return value, self.unwhite(white.mul_(share.neg_()[..., None]))

        value, grad = self.in_blocks(x, f)
        return value, grad

    def colour(self, z: Tensor, label: Tensor) -> Tensor:
        """``(..., d)`` L_k z with L_k L_k^T = Sigma_k, for one component ``label`` ``(...)`` a point."""
        return _row_times(z, self.factor.mT, label)

    def colour_transpose(self, v: Tensor, label: Tensor) -> Tensor:
        """``(..., d)`` L_k^T v for one component ``label`` ``(...)`` a point."""
        return _row_times(v, self.factor, label)

    def draw(self, rng: Streams, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """``(*lead, B, d)`` draws, one batch of particles for each index of ``lead``, and the ``(*lead, B)`` labels."""
        shape = (*lead, rng.particles)
        label = pick(self.log_weight.exp(), rng.uniform(shape))
        return self.centre(label) + self.colour(rng.normal((*shape, self.dim)), label), label

    def centre(self, label: Tensor) -> Tensor:
        """``(..., d)`` the mean of one component ``label`` ``(...)``, or ``(..., B)`` for a mixture per particle, a point."""
        if self.mean.ndim == 2:
            return self.mean[label]
        index = label[..., None, None].expand(*label.shape, 1, self.dim)
        return self.mean.expand(*label.shape, *self.mean.shape[-2:]).gather(-2, index)[..., 0, :]

    def condition(self, x_t: Tensor, alpha: float, sigma: float) -> GaussianMixture:
        r"""The law of x_0 given ``(B, d)`` x_t = alpha x_0 + sigma eps when x_0 follows this mixture.

        .. math::
            \Sigma_k' = (\Sigma_k^{-1} + \alpha^2/\sigma^2 I)^{-1}, \quad
            \mu_k' = \mu_k + \Sigma_k' \tfrac{\alpha}{\sigma^2} (x_t - \alpha \mu_k), \quad
            w_k' \propto w_k N(x_t; \alpha \mu_k, \alpha^2 \Sigma_k + \sigma^2 I)
        """
        noised = alpha**2 * self.variance + sigma**2
        variance = self.variance * (sigma**2 / noised)
        residual = torch.einsum("bki,kij->bkj", x_t[:, None, :] - alpha * self.mean, self.basis)
        log_weight = self.log_weight - 0.5 * (squared_norm(residual * noised.rsqrt()) + noised.log().sum(-1))
        shift = torch.einsum("bkj,kij->bki", residual * (alpha * self.variance / noised), self.basis)
        return GaussianMixture(log_weight, self.mean + shift, self.basis, variance)

    def moments(self) -> tuple[Tensor, Tensor]:
        """``(d,)`` mean and ``(d, d)`` covariance of the whole mixture (shared means only)."""
        weight = self.log_weight.exp()
        mean = weight @ self.mean
        centred = self.mean - mean
        between = torch.einsum("k,ki,kj->ij", weight, centred, centred)
        return mean, between + self.within()

    def within(self) -> Tensor:
        """``(d, d)`` weighted average of the components' covariances."""
        return torch.einsum("k,kij,kj,klj->il", self.log_weight.exp(), self.basis, self.variance, self.basis)

    @classmethod
    def pooled(cls, parts: Sequence[tuple[float, GaussianMixture]]) -> GaussianMixture:
        """Of several mixtures with shared means, each with its share: a draw is from the i-th with probability ``share_i``."""
        return cls(
            torch.cat([part.log_weight + math.log(share) for share, part in parts]),
            torch.cat([part.mean for _, part in parts]),
            torch.cat([part.basis for _, part in parts]),
            torch.cat([part.variance for _, part in parts]),
        )

    def widened(self, factor: float) -> GaussianMixture:
        """Every component ``factor`` times as wide."""
        return GaussianMixture(self.log_weight, self.mean, self.basis, self.variance * factor**2)

    def rounded(self) -> GaussianMixture:
        """Every component as wide in all directions as it was in its widest."""
        widest = self.variance.amax(-1, keepdim=True).expand_as(self.variance)
        return GaussianMixture(self.log_weight, self.mean, self.basis, widest)

    def gathered(self) -> GaussianMixture:
        """One round component about the mean of all, as wide in every direction as the mixture in its widest."""
        mean, covariance = self.moments()
        widest = torch.linalg.eigvalsh(covariance)[-1:].expand(1, self.dim)
        return GaussianMixture(torch.zeros_like(mean[:1]), mean[None], self.basis[:1], widest)

    def levelled(self, share: float) -> GaussianMixture:
        r"""Weights moved by ``share`` towards :math:`\sqrt{w_k}`: one that is wrong must not be wrong by orders of magnitude."""
        root = torch.softmax(0.5 * self.log_weight, -1)
        weight = (1.0 - share) * self.log_weight.exp() + share * root
        return GaussianMixture(weight.log(), self.mean, self.basis, self.variance)

    def affine(self, centre: Tensor, inverse: Tensor) -> GaussianMixture:
        """The mixture of ``inverse @ (x - centre)``."""
        # from factors, as a covariance would lose every direction of less than 1e-8 of the greatest width
        basis, sd, _ = torch.linalg.svd(inverse @ (self.basis * self.variance.sqrt()[:, None, :]))
        return GaussianMixture(self.log_weight, (self.mean - centre) @ inverse.T, basis, sd.square())


def _heights(white: Tensor, height: Tensor) -> Tensor:
    """``(..., K)`` log components of standardised coordinates."""
    return torch.add(height, squared_norm(white), alpha=-0.5)


def squared_norm(v: Tensor) -> Tensor:
    """``(...)`` sum of squares over the last axis, without a copy of all squares."""
    if v.shape[-1] > _SHORT:
        return torch.linalg.vector_norm(v, dim=-1).square()
    total = v[..., 0].square()
    for part in v.unbind(-1)[1:]:
        total = total.addcmul_(part, part)
    return total


def _row_times(v: Tensor, matrix: Tensor, label: Tensor) -> Tensor:
    """``(..., d)`` rows v, each times the one of ``(K, d, d)`` matrices that its ``(...)`` label names."""
    d = v.shape[-1]
    if len(matrix) == 1:
        return v @ matrix[0]
    if d <= _COPIED or v.device.type != "cpu":
        return torch.einsum("...i,...ij->...j", v, matrix[label])
    # on the CPU reading counts back is free, while a copy of a matrix for every point is more work than its product
    order = label.flatten().argsort()
    sizes = torch.bincount(label.flatten(), minlength=len(matrix)).tolist()
    rows = v.reshape(-1, d).index_select(0, order).split(sizes)
    product = torch.cat([part @ own for part, own in zip(rows, matrix, strict=True)])
    return torch.empty_like(product).index_copy_(0, order, product).view(v.shape)
