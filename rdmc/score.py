r"""From draws of the inner posterior to its mean, the score of p_t, and their Monte Carlo standard error.

Every estimator here is one formula with its own scalar gain A per particle,

.. math::
    \hat m = \sum_j w_j \bigl[ x_j + A \nabla \log q(x_j) \bigr], \qquad
    \nabla \log p_t(x_t) \approx (\alpha \hat m - x_t) / \sigma^2 .

By Stein's identity E_q[grad log q] = 0 every A is right in expectation, so A only decides the variance: 0 is Tweedie's
formula, sigma^2 / alpha^2 the target-score identity, and the best A is about the variance of q. Gradients of log q are
a by-product of inner chains; nothing is evaluated here.

Standard errors are right on average over repeats, but no estimator knows of a mode that its draws missed; and since a
control variate removes what varies within a mode, its standard error can then be far too small, down to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rdmc.inner.base import Draws
from rdmc.mixture import squared_norm
from rdmc.posterior import InnerPosterior

__all__ = [
    "KnownScale",
    "MinimumVariance",
    "ScoreEstimate",
    "ScoreEstimator",
    "SteinControlVariate",
    "TargetScore",
    "Tweedie",
]


class ScoreEstimate(NamedTuple):
    """What draws say about q_t(x_0 | x_t) and p_t(x_t).

    Attributes:
        mean: ``(B, d)`` estimate of E[x_0 | x_t].
        score: ``(B, d)`` estimate of grad log p_t(x_t), Tweedie's formula of the mean.
        mcse: ``(B, d)`` Monte Carlo standard error of the mean; of the score it is alpha / sigma^2 times this.
        ess: ``(B,)`` effective number of draws behind it.
    """

    mean: Tensor
    score: Tensor
    mcse: Tensor
    ess: Tensor


class ScoreEstimator(Protocol):
    """A way to estimate the posterior mean from draws, at no evaluation of the target."""

    def __call__(self, q: InnerPosterior, draws: Draws) -> ScoreEstimate:
        """The estimate for every particle of ``q``."""
        ...


@dataclass(frozen=True)
class Tweedie:
    """The plain average: A = 0.

    Law: unbiased (weighted draws: O(1/ess)). Variance of the score alpha^2 Var_q / (n sigma^4), which grows as 1 / (n
    sigma^2) near the data. Needs no gradients. Source: Huang et al. (ICLR 2024, arXiv:2307.02037), lemma 2.
    """

    def __call__(self, q: InnerPosterior, draws: Draws) -> ScoreEstimate:
        """The estimate for every particle of ``q``."""
        return _estimate(q, draws, draws.x_0)


@dataclass(frozen=True)
class TargetScore:
    r"""The target-score identity: A = sigma^2 / alpha^2.

    .. math:: \alpha \nabla \log p_t(x_t) = E_q[\nabla \log \pi(x_0)] .

    Law: unbiased (weighted draws: O(1/ess)). Exact where pi is log-linear over the width of q, so best at small sigma;
    its error explodes at large sigma. Source: De Bortoli et al. (2024, arXiv:2402.08667).

    Raises:
        ValueError: If the draws come without gradients.
    """

    def __call__(self, q: InnerPosterior, draws: Draws) -> ScoreEstimate:
        """The estimate for every particle of ``q``."""
        return _corrected(q, draws, draws.x_0.new_full(draws.x_0.shape[1:2], _largest(q)), _gradients(self, draws))


@dataclass(frozen=True)
class KnownScale:
    r"""The gain of a Gaussian pi of known length scale: 1 / A = 1 / length^2 + alpha^2 / sigma^2.

    Law: unbiased (weighted draws: O(1/ess)), since A doesn't depend on the draws; exact with a single draw where pi =
    N(m, length^2 I).

    Args:
        length: Length scale of pi > 0, 1 in whitened coordinates.

    Raises:
        ValueError: If ``length`` is not positive, or on use if the draws come without gradients.
    """

    length: float = 1.0

    def __post_init__(self) -> None:
        if not self.length > 0.0:
            raise ValueError(f"`length` must be a positive float, got {self.length!r}")

    def __call__(self, q: InnerPosterior, draws: Draws) -> ScoreEstimate:
        """The estimate for every particle of ``q``."""
        gain = 1.0 / (1.0 / self.length**2 + 1.0 / _largest(q))
        return _corrected(q, draws, draws.x_0.new_full(draws.x_0.shape[1:2], gain), _gradients(self, draws))


@dataclass(frozen=True)
class SteinControlVariate:
    r"""The isotropic Fisher gain, estimated from the same draws.

    .. math:: A = \min\bigl( d / E_q |\nabla \log q|^2,\ \sigma^2 / \alpha^2 \bigr) .

    Since Cov_q(x, grad log q) = -I (Stein), it has the least variance of all gains for independent draws; the cap only
    guards against few draws. Law: bias O(1/n) from estimating A.

    Raises:
        ValueError: If the draws come without gradients.
    """

    def __call__(self, q: InnerPosterior, draws: Draws) -> ScoreEstimate:
        """The estimate for every particle of ``q``."""
        grad = _gradients(self, draws)
        information = draws.average(squared_norm(grad))
        return _corrected(q, draws, (q.dim / information).clamp(max=_largest(q)), grad)


@dataclass(frozen=True)
class MinimumVariance:
    r"""The mixture of Tweedie and target score whose variance, as the draws show it, is least.

    .. math::
        A = -\frac{\operatorname{tr} \widehat{\operatorname{Cov}}(x, \nabla \log q)}
                  {\operatorname{tr} \widehat{\operatorname{Var}}(\nabla \log q)}, \quad
        \text{clipped to } [0, \sigma^2 / \alpha^2]

    Covariances are pooled over all draws, as if they were independent: chain means are too few to fit anything to. Law:
    bias O(1/n). Exact with two draws where q is an isotropic Gaussian; with one draw it is :class:`Tweedie`.
    Source: Kahouli et al. (2025, arXiv:2512.20003) for the idea of combining the two identities by their variance.

    Raises:
        ValueError: If the draws come without gradients.
    """

    def __call__(self, q: InnerPosterior, draws: Draws) -> ScoreEstimate:
        """The estimate for every particle of ``q``."""
        grad = _gradients(self, draws)
        centred = grad - draws.average(grad)
        across = draws.average((centred * (draws.x_0 - draws.average(draws.x_0))).sum(-1))
        spread = draws.average(centred.square().sum(-1))
        gain = torch.where(spread > 0.0, -across / spread, torch.zeros_like(spread))
        return _corrected(q, draws, gain.clamp(0.0, _largest(q)), grad)


def _largest(q: InnerPosterior) -> float:
    """sigma^2 / alpha^2: the variance of q under a flat pi, and the gain of the target-score identity."""
    return (q.sigma / q.alpha) ** 2


def _gradients(estimator: object, draws: Draws) -> Tensor:
    if draws.grad is None:
        raise ValueError(
            f"{type(estimator).__name__} needs the gradients of log q at the draws, got `grad=None`; use an inner "
            "sampler that evaluates them (chains, or Importance(gradients=True)), or Tweedie()"
        )
    return draws.grad


def _corrected(q: InnerPosterior, draws: Draws, gain: Tensor, grad: Tensor) -> ScoreEstimate:
    """The formula, with one gain ``(B,)`` a particle."""
    return _estimate(q, draws, torch.addcmul(draws.x_0, gain[:, None], grad))


def _estimate(q: InnerPosterior, draws: Draws, values: Tensor) -> ScoreEstimate:
    mean = draws.average(values)
    return ScoreEstimate(mean, q.score(mean), draws.average_variance(values).sqrt(), draws.ess)
