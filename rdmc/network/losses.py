r"""What the network is fitted by: losses with one minimum, the posterior mean m(x) = E[x_0 | x].

All are squared errors of F, that is squared errors of D times 1 / c_out^2 = (1 + sigma^2) / sigma^2. The first two have
the same expectation for every D,

.. math::
    E |D - x_0|^2 = E\bigl[ |D - x|^2 + 2 \sigma^2 \operatorname{tr} \nabla D - d \sigma^2 \bigr]
                  = E |D - m|^2 + E \operatorname{tr} \operatorname{Var}(x_0 \mid x),

by partial integration (Stein's unbiased risk estimate); the others replace the last term by the variance of what they
regress on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from rdmc.coordinates import Affine, InCoordinates
from rdmc.density import Density, HasLogDensity, as_density
from rdmc.inner.base import InnerSampler, Warm, require_count
from rdmc.inner.chains import Chains
from rdmc.network.module import inverse_gain
from rdmc.network.noise import Levels
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams
from rdmc.score import ScoreEstimator, SteinControlVariate
from rdmc.typing import LogDensity

__all__ = ["DenoisingLoss", "ImplicitLoss", "Loss", "Pool", "ScoreRegression", "TargetScoreLoss"]

_SHORT = Chains(chains=1, burn_in=0, steps=2)

Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``(x (B, d), sigma (B,)) -> (B, d)``."""


class Pool(NamedTuple):
    """Examples to learn from.

    Attributes:
        rows: Tensors with one row an example, whatever the loss needs.
        gradients: Gradient evaluations of the target that they took.
    """

    rows: tuple[Tensor, ...]
    gradients: int = 0


class Loss(Protocol):
    """A way to fit the network; every implementation is a frozen dataclass."""

    def pool(self, z: Tensor, affine: Affine, levels: Levels, seed: int) -> Pool:
        """Examples from ``(n, d)`` whitened draws."""
        ...

    def __call__(
        self, denoise: Denoise, rows: tuple[Tensor, ...], levels: Levels, generator: torch.Generator
    ) -> Tensor:
        """``(B,)`` losses of some examples, each at a noise level and with noise of its own."""
        ...

    def signature(self, z: Tensor, affine: Affine) -> str:
        """What tells this loss from another: a checkpoint is only continued with the same."""
        ...


@dataclass(frozen=True)
class DenoisingLoss:
    r"""Denoising score matching: predict the draw that was noised.

    .. math:: E\, \frac{1 + \sigma^2}{\sigma^2} |D(x_0 + \sigma z, \sigma) - x_0|^2

    Cost: one evaluation of the network an example; none of the target.
    Source: Vincent (2011), Neural Computation 23(7); the weight of Karras et al. (2022), arXiv:2206.00364.
    """

    def pool(self, z: Tensor, affine: Affine, levels: Levels, seed: int) -> Pool:
        """The draws."""
        return Pool((z.float(),))

    def __call__(
        self, denoise: Denoise, rows: tuple[Tensor, ...], levels: Levels, generator: torch.Generator
    ) -> Tensor:
        """``(B,)`` losses."""
        (x_0,) = rows
        sigma, noise = _noise(x_0, levels, generator)
        error = denoise(x_0 + sigma[:, None] * noise, sigma) - x_0
        return inverse_gain(sigma) * error.square().sum(-1)

    def signature(self, z: Tensor, affine: Affine) -> str:
        """Its ``repr``."""
        return repr(self)


@dataclass(frozen=True)
class ImplicitLoss:
    r"""Implicit score matching of the noised draws: no draw is predicted, the divergence of D takes its place.

    .. math:: E\, \frac{1 + \sigma^2}{\sigma^2} \bigl[ |D - x|^2 + 2 \sigma^2 \operatorname{tr} \nabla D - d \sigma^2 \bigr]

    The value is that of :class:`DenoisingLoss` in expectation, whatever D is; its noise is larger where sigma is.
    The trace is exact for d up to ``exact``, by d products with the Jacobian; above that it is Hutchinson's estimate
    with one random vector of signs.

    Cost: one evaluation of the network with 1 (or d) products with its Jacobian an example; none of the target.

    Args:
        exact: Largest dimension for which the trace is exact, at least 0.

    Raises:
        ValueError: If ``exact`` is out of range.
    Source: Hyvärinen (2005), JMLR 6; Song et al. (2019), arXiv:1905.07088 (random projections).
    """

    exact: int = 2

    def __post_init__(self) -> None:
        require_count("exact", self.exact, 0)

    def pool(self, z: Tensor, affine: Affine, levels: Levels, seed: int) -> Pool:
        """The draws."""
        return Pool((z.float(),))

    def __call__(
        self, denoise: Denoise, rows: tuple[Tensor, ...], levels: Levels, generator: torch.Generator
    ) -> Tensor:
        """``(B,)`` losses."""
        (x_0,) = rows
        sigma, noise = _noise(x_0, levels, generator)
        x, d = x_0 + sigma[:, None] * noise, x_0.shape[-1]
        if d <= self.exact:
            probes = torch.eye(d, dtype=x.dtype, device=x.device)[:, None].expand(d, *x.shape)
        else:
            coin = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
            probes = torch.where(coin < 0.5, -1.0, 1.0).to(x)[None]
        mean, pull = torch.func.vjp(lambda y: denoise(y, sigma), x)[:2]
        trace = sum(((probe * pull(probe)[0]).sum(-1) for probe in probes), torch.zeros_like(sigma))
        square = sigma.square()
        return inverse_gain(sigma) * ((mean - x).square().sum(-1) + 2.0 * square * trace - d * square)

    def signature(self, z: Tensor, affine: Affine) -> str:
        """Its ``repr``."""
        return repr(self)


@dataclass(frozen=True)
class ScoreRegression:
    r"""Regression on estimates of m from the target itself: chains on the inner posterior q(x_0 | x) with a control variate.

    .. math:: E\, w(\sigma) \frac{1 + \sigma^2}{\sigma^2} |D(x, \sigma) - \hat m|^2, \qquad
              w = \Bigl( 1 + \frac{\overline{mcse^2} / c_{out}^2}{\text{floor}} \Bigr)^{-1}

    The x_0 that was noised is an exact draw from q, so the chain starts in equilibrium: even one that never leaves its mode
    has the right mean over the x_0 that lead to the same x. So many examples with short chains teach more than few with
    long ones. The weight depends on the noise level alone (the mean of mcse^2 over its points): a weight of each point
    would trust most what its chain found narrow, and so tilt the weights of unequal modes.

    Cost: ``repeats`` inner runs a draw when the examples are made, by default 96 gradient evaluations a draw; none in
    training.

    Args:
        log_density: The log density of the draws: a batched callable ``(M, d) -> (M,)``, a :class:`rdmc.Density`, or an
            object with ``dim`` and ``log_density``.
        repeats: How often each draw is noised, at least 1.
        levels: Noise levels, at least 1.
        inner: Any inner sampler that uses a warm start and evaluates gradients.
        estimator: Any score estimator.
        chains: Starting points for ``inner``, each the x_0 itself, at least 1.
        floor: Variance of an estimate, in units of F, that counts as nothing; > 0.

    Raises:
        ValueError: If a number is out of range.
    """

    log_density: LogDensity | Density | HasLogDensity = field(repr=False)
    repeats: int = 32
    levels: int = 64
    inner: InnerSampler = _SHORT
    estimator: ScoreEstimator = SteinControlVariate()
    chains: int = 1
    floor: float = 0.1

    def __post_init__(self) -> None:
        for name in ("repeats", "levels", "chains"):
            require_count(name, getattr(self, name), 1)
        if not self.floor > 0.0:
            raise ValueError(f"`floor` must be a positive float, got {self.floor!r}")

    def pool(self, z: Tensor, affine: Affine, levels: Levels, seed: int) -> Pool:
        """Points with estimates of m and weights: rows x, sigma, m, w."""
        density = as_density(self.log_density, z.shape[-1], device=z.device)
        white, points = InCoordinates(density, affine), -(-self.repeats * len(z) // self.levels)
        rng = Streams.seeded(seed, [points], [(0xD157,)], device=z.device)
        u = (torch.arange(self.levels, device=z.device) + rng.uniform((points,))[0]) / self.levels
        parts = []
        for sigma in levels.at(u).tolist():
            x_0 = z[rng.integers((points,), len(z))]
            x = x_0 + sigma * rng.normal(x_0.shape)
            q = InnerPosterior(white, x, 1.0, sigma)
            start = Warm(x_0.expand(self.chains, *x_0.shape).contiguous())
            found = self.estimator(q, self.inner.draw(q, rng, start))
            level = x.new_full((points,), sigma)
            weight = 1.0 / (1.0 + inverse_gain(level) * found.mcse.square().mean() / self.floor)
            parts.append((x, level, found.mean, weight))
        rows = tuple(torch.cat(part).float() for part in zip(*parts, strict=True))
        _require_finite(*rows)
        return Pool(rows, density.counter.gradients)

    def __call__(
        self, denoise: Denoise, rows: tuple[Tensor, ...], levels: Levels, generator: torch.Generator
    ) -> Tensor:
        """``(B,)`` losses."""
        x, sigma, mean, weight = rows
        return weight * inverse_gain(sigma) * (denoise(x, sigma) - mean).square().sum(-1)

    def signature(self, z: Tensor, affine: Affine) -> str:
        """Its ``repr`` and a digest of the log density at some draws."""
        return f"{self!r} of {_digest(self.log_density, z, affine)}"


@dataclass(frozen=True)
class TargetScoreLoss:
    r"""Denoising with the gradients of the target at the draws as control variate: the same minimum at less noise.

    .. math:: E\, \frac{1 + \sigma^2}{\sigma^2} \bigl| D(x, \sigma) - x_0 - A\, \nabla_{x_0} \log q(x_0 \mid x) \bigr|^2, \qquad
              \nabla \log q = \nabla \log \pi(x_0) + z / \sigma, \qquad 1 / A = E |\nabla \log \pi|^2 / d + 1 / \sigma^2

    with x = x_0 + sigma z. By Stein's identity the gradient has mean 0 under q(x_0 | x), so every A is right; this one
    is Fisher's, and removes the noise whole for a normal pi.

    Cost: one gradient evaluation of the target a draw when the examples are made; none in training.

    Args:
        log_density: As in :class:`ScoreRegression`.

    Source: De Bortoli et al. (2024), arXiv:2402.08667, for the idea; the gain A is that of
    :class:`rdmc.score.SteinControlVariate`, in expectation.
    """

    log_density: LogDensity | Density | HasLogDensity = field(repr=False)

    def pool(self, z: Tensor, affine: Affine, levels: Levels, seed: int) -> Pool:
        """The draws with the gradients of the log density there."""
        density = as_density(self.log_density, z.shape[-1], device=z.device)
        grad = InCoordinates(density, affine).value_and_grad(z)[1]
        _require_finite(grad)
        information = grad.square().mean().expand(len(z))
        return Pool((z.float(), grad.float(), information.float()), density.counter.gradients)

    def __call__(
        self, denoise: Denoise, rows: tuple[Tensor, ...], levels: Levels, generator: torch.Generator
    ) -> Tensor:
        """``(B,)`` losses."""
        x_0, grad, information = rows
        sigma, noise = _noise(x_0, levels, generator)
        gain = 1.0 / (information + sigma.square().reciprocal())
        mean = x_0 + gain[:, None] * (grad + noise / sigma[:, None])
        return inverse_gain(sigma) * (denoise(x_0 + sigma[:, None] * noise, sigma) - mean).square().sum(-1)

    def signature(self, z: Tensor, affine: Affine) -> str:
        """Its ``repr`` and a digest of the log density at some draws."""
        return f"{self!r} of {_digest(self.log_density, z, affine)}"


def _digest(log_density: LogDensity | Density | HasLogDensity, z: Tensor, affine: Affine) -> str:
    """What tells one density from another: its values at a few draws."""
    density = as_density(log_density, z.shape[-1], device=z.device)
    values = density(affine.to_user(z[: 3 if z.shape[-1] != 3 else 4])).tolist()
    return hashlib.blake2b(repr(values).encode(), digest_size=16).hexdigest()


def _require_finite(*rows: Tensor) -> None:
    if not all(bool(row.isfinite().all()) for row in rows):
        raise ValueError(
            "`log_density` must have finite gradients at the draws and near them, got some that are not; is it the density "
            "of the draws?"
        )


def _noise(x_0: Tensor, levels: Levels, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``(B,)`` noise levels, one in each of B equally likely intervals, and ``(B, d)`` standard normal noise."""
    n = len(x_0)
    u = torch.rand(n, generator=generator, dtype=x_0.dtype, device=x_0.device)
    sigma = levels.at((torch.arange(n, device=x_0.device) + u) / n)
    return sigma, torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype, device=x_0.device)
