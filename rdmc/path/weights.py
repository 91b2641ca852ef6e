r"""Weights along the diffusion path, as pure functions of the Gaussian reverse laws and of x.

Times are :math:`T = t_K > \dots > t_0 = 0`, and :math:`N(x_k; r_k x_{k-1}, v_k I)` is the exact forward transition of the
process. A particle starts at :math:`x_K \sim p_{ref}` and goes down by :math:`x_{k-1} \sim q_k(\cdot \mid x_k, u_k)`, a
Gaussian whose mean and covariance come from inner draws :math:`u_k`. Its weight is

.. math::
    \log w = \log \pi(x_0) + \sum_k \log N(x_k; r_k x_{k-1}, v_k I) - \log p_{ref}(x_K) - \sum_k \log q_k(x_{k-1} \mid x_k, u_k) .

*The inner draws are auxiliary variables.* Let :math:`R_k(u_k \mid \text{past})` be their law given everything before: the
particle's own path and inner chains, and those of all other particles of the population. The target of the extended space is
:math:`\pi(x_0) \prod_k N(x_k; r_k x_{k-1}, v_k I)\, R_k(u_k \mid \text{past})`; each :math:`R_k` integrates to 1 and stands in
the proposal too, so it cancels. Nothing is asked of the inner draws: they may be few, biased, correlated, started where the
ancestor's chain stood, and their step sizes may be adapted to the whole population. They decide the variance of w, never its
mean.

*Potentials telescope.* Between levels the particles carry any positive numbers :math:`\gamma_k`, with
:math:`\gamma_0 = \pi(x_0)`, and are weighed by the increments

.. math::
    w_k = \frac{\gamma_{k-1} \, N(x_k; r_k x_{k-1}, v_k I)}{\gamma_k \, q_k(x_{k-1} \mid x_k, u_k)}, \qquad
    w_{K+1} = \frac{\gamma_K}{p_{ref}(x_K)} .

Why that is right for a whole population: let W_i be the particles' weights since the last resampling, and

.. math::
    V_k(x) = \int \pi(x_0) N(x; \alpha_k x_0, \sigma_k^2 I)\, dx_0 = Z p_k(x), \qquad
    M_k = \hat Z_{\text{so far}} \cdot \frac1N \sum_i W_i \frac{V_k(x_k^i)}{\gamma_k^i} ,

with the product of the mean weights at all resamplings so far. Given all that is past, :math:`u_k` of every particle included,

.. math:: E\Bigl[ w_k \frac{V_{k-1}(x_{k-1})}{\gamma_{k-1}} \Bigr] = \frac{V_k(x_k)}{\gamma_k} ,

because the Gaussian q_k integrates out, :math:`\gamma_{k-1}` cancels, and the forward transition takes :math:`V_{k-1}`
to :math:`V_k`. So M is a martingale, also over a resampling that keeps expectations, whenever it is done: its mean is
:math:`E[V_K(x_K) / p_{ref}(x_K)] = Z` at the start, and it ends as :math:`\hat Z`. Hence :math:`E[\hat Z] = Z` for any gamma,
*random or not*, for any rule of when to resample, any number of levels and any number of particles.

Source: path weights: Doucet, Grathwohl, Matthews and Strathmann (2022), arXiv:2208.07698 (annealed importance sampling with
time reversal); noisy kernels and potentials inside SMC: Wu, Han, Naesseth and Cunningham (2025), arXiv:2508.05926 (RDSMC);
random weights: Fearnhead, Papaspiliopoulos and Roberts (2008), JRSS B 70(4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.mixture import GaussianMixture, squared_norm
from rdmc.path.kernels import Moments
from rdmc.process import ForwardProcess

__all__ = [
    "ReverseLaw",
    "log_transition",
    "noised",
    "positive",
    "reverse_law",
    "without_nan",
]


@dataclass(frozen=True, eq=False)
class ReverseLaw:
    """A Gaussian law of x_s for each particle.

    Attributes:
        mean: ``(B, d)`` its mean.
        factor: Square root of its covariance: ``(B, 1)`` or ``(B, d)`` standard deviations, or ``(B, d, d)`` lower triangles.
    """

    mean: Tensor
    factor: Tensor

    def at(self, index: Tensor) -> ReverseLaw:
        """The laws of the particles ``index``."""
        return ReverseLaw(self.mean[index], self.factor[index])

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, d)`` draws made of standard normal ``noise``, and their ``(B,)`` log densities."""
        d = noise.shape[-1]
        if self.factor.ndim == 3:
            x = self.mean + torch.einsum("bij,bj->bi", self.factor, noise)
            log_det = torch.diagonal(self.factor, dim1=-2, dim2=-1).log().sum(-1)
        else:
            x = self.mean + self.factor * noise
            log_det = self.factor.expand_as(noise).log().sum(-1)
        return x, -0.5 * squared_norm(noise) - log_det - 0.5 * d * math.log(2.0 * math.pi)


def reverse_law(process: ForwardProcess, moments: Moments, x_t: Tensor, t: float, s: float) -> ReverseLaw:
    r"""The Gaussian with the moments that x_s has given x_t, by those of x_0 given x_t.

    .. math:: N\bigl(b_0 m + b_t x_t,\; b_0^2 C + b^2 I\bigr)

    with the bridge :math:`x_s \mid x_0, x_t \sim N(b_0 x_0 + b_t x_t, b^2 I)`. At s = 0 it is N(m, C). Exact where q_t is
    Gaussian and its moments are.

    Args:
        process: Forward process.
        moments: Of x_0 given x_t.
        x_t: ``(B, d)`` particles.
        t: Present time.
        s: Next time, ``0 <= s < t``.
    """
    bridge = process.bridge(t, s)
    mean = bridge.on_x_0 * moments.mean + bridge.on_x_t * x_t
    spread = bridge.on_x_0**2 * moments.covariance
    if spread.ndim < 3:
        deviation = (spread + bridge.sd**2).sqrt()
        return ReverseLaw(mean, deviation[:, None] if deviation.ndim == 1 else deviation)
    total = spread + bridge.sd**2 * torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    return ReverseLaw(mean, torch.linalg.cholesky_ex(total)[0])


def log_transition(process: ForwardProcess, x_t: Tensor, x_s: Tensor, t: float, s: float) -> Tensor:
    """``(B,)`` log N(x_t; r x_s, v I) of the forward process."""
    r, sd = process.transition(t, s)
    return -0.5 * squared_norm((x_t - r * x_s) / sd) - x_t.shape[-1] * math.log(sd * math.sqrt(2.0 * math.pi))


def noised(mixture: GaussianMixture, alpha: float, sigma: float) -> GaussianMixture:
    """The law of alpha x_0 + sigma eps when x_0 follows the mixture: covariances alpha^2 S + sigma^2 I."""
    return GaussianMixture(
        mixture.log_weight, alpha * mixture.mean, mixture.basis, alpha**2 * mixture.variance + sigma**2
    )


def positive(log_potential: Tensor) -> Tensor:
    """``(U, N)`` potentials that are positive everywhere: where there is none, the least of the population.

    A potential of 0 would end a path whose target is not 0, and so a share of Z.
    """
    lost = torch.isnan(log_potential) | log_potential.isinf()
    least = log_potential.masked_fill(lost, torch.inf).amin(-1, keepdim=True)
    return torch.where(lost, least.masked_fill(least.isinf(), 0.0), log_potential)


def without_nan(log_weight: Tensor) -> Tensor:
    """The same, with a weight of 0 for a path that has come to where numbers end."""
    return log_weight.masked_fill(torch.isnan(log_weight), -torch.inf)
