r"""Where a reverse diffusion goes wrong, in nats: the terms of the convergence theorem, estimated from what a run knows anyway.

By the chain rule the divergence of the run's law from the target is at most that of the paths, a sum over levels,

.. math::
    \mathrm{KL}(p_T \,\|\, \text{start})
    + \sum_{t \to s} E_{x_t} \mathrm{KL}\bigl(p(x_s \mid x_t) \,\|\, \text{step}(x_s \mid x_t)\bigr).

The exact reverse kernel is the bridge mixed over q_t. Its mean and covariance follow from those of q_t, which the inner draws show:

.. math::
    E[x_s \mid x_t] = a\, m_t + b\, x_t, \qquad \mathrm{Cov}[x_s \mid x_t] = a^2\, \mathrm{Cov}_{q_t} + v\, I,

with (a, b, v) those of :meth:`rdmc.process.ForwardProcess.bridge`. A step is known by its coefficients
(:func:`rdmc.budget.step_law.law_of`), so that both kernels are compared as Gaussians in closed form, at no evaluation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.budget.step_law import StepLaw
from rdmc.inner.base import Draws
from rdmc.mixture import GaussianMixture
from rdmc.process import ForwardProcess
from rdmc.score import ScoreEstimate
from rdmc.start import MatchedNormal, Start

__all__ = ["FEW", "Errors", "StartError", "between_normals", "error_terms", "start_error"]

FEW = slice(256)
"""Particles of a batch over which the terms are averaged."""
_REMEMBERED = 0.95  # share of the start's error in the draws, from which on they can't tell it
_ROUNDS = 100  # of the fixed point for the covariance
_POINTS = 512  # draws from which the law of x_T is estimated


class Errors(NamedTuple):
    """The terms of one step, ``()`` each, in nats, averaged over particles.

    Attributes:
        discretisation: Of the step with the exact posterior mean.
        score: Of the Monte Carlo noise of the mean, new in every particle: it only widens the step.
        score_bound: The same if the noise were an error fixed once and for all (Girsanov): the theorem's own term.
        draw: Of a draw picked by weight from finitely many; 0 where the step does not use the draw, NaN where chains made it.
    """

    discretisation: Tensor
    score: Tensor
    score_bound: Tensor
    draw: Tensor


class StartError(NamedTuple):
    """The error of the start: in nats, and as errors ``(d,)`` of the mean and ``(d, d)`` of the covariance of x_T.

    ``own`` is what the noise of the draws' moments adds to the nats on average; it is taken off.
    """

    nats: float
    mean: Tensor
    covariance: Tensor
    own: float


def error_terms(
    process: ForwardProcess, law: StepLaw, t: float, s: float, x_t: Tensor, draws: Draws, score: ScoreEstimate
) -> Errors:
    r"""The terms of a step from t to s.

    With R the covariance of the exact kernel in units of the step's variance and D the difference of their means,

    .. math::
        \text{discretisation} = \tfrac12 \bigl(\operatorname{tr} R - d - \log\det R + |D|^2 / v\bigr), \qquad
        \text{score bound} = \tfrac12 \Delta, \qquad
        \text{score} = \tfrac12 \Bigl(k \log\bigl(1 + \tfrac{\Delta}{k}\bigr) - \frac{\Delta}{1 + \Delta / k}\Bigr),

    where Delta is the variance of the step's mean, from the Monte Carlo standard error of m_t, in units of the step's variance v.
    Cov_q enters by its trace and its Frobenius norm, as if it were equal in the k = tr^2 / norm^2 directions in which it is
    spread: no coordinates are preferred, and both are corrected for the number of effective draws.

    The Gaussian form leaves out the entropy that a kernel of several modes lacks, and particles stand for p_t. A step that adds no
    noise, or is more than its coefficients, has no such divergence: NaN.

    Args:
        process: Forward process.
        law: The step's coefficients.
        t: Present time.
        s: Next time.
        x_t: ``(B, d)`` particles.
        draws: From q_t.
        score: What the draws said of the mean.
    """
    nan = x_t.new_full((), torch.nan)
    draw = nan if draws.chains else _resampling(score.ess, draws.x_0.shape[0])
    draw = torch.zeros_like(nan) if law.on_draw == 0.0 else draw
    if not law.compares:
        return Errors(nan, nan, nan, draw)
    bridge = process.bridge(t, s)
    if law.is_exact(process, t, s):
        return Errors(torch.zeros_like(nan), torch.zeros_like(nan), torch.zeros_like(nan), draw)
    trace, directions, n = _spread(draws, score.ess)
    d = x_t.shape[1]
    width = trace / directions  # the variance of q_t in each direction in which it is spread
    v = law.sd**2 + law.on_draw**2 * width
    other = law.sd**2 if law.sd > 0.0 else 1.0
    ratio = (bridge.sd**2 + bridge.on_x_0**2 * width) / v
    rest = torch.full_like(ratio, bridge.sd**2 / other)
    on_mean = bridge.on_x_0 - law.on_mean - law.on_draw
    noise = score.mcse[FEW].square().sum(-1)
    shift = (bridge.on_x_t - law.on_x_t) * x_t[FEW] + on_mean * score.mean[FEW]
    drift = (shift.square().sum(-1) - on_mean**2 * noise) / v
    spread = directions * _excess(ratio) + (d - directions).clamp(min=0.0) * _excess(rest)
    discretisation = 0.5 * (spread + drift).mean().clamp(min=0.0)
    delta = law.on_mean**2 * noise / v if law.on_mean else torch.zeros_like(noise)
    share = delta / directions
    fresh = directions * (torch.log1p(share) - share / (1.0 + share))
    groups = draws.chains if draws.chains > 1 else 2.0 if draws.chains else n
    return Errors(
        discretisation,
        0.5 * fresh.mean() * (groups - 1.0) / (groups + 1.0),  # the square of an estimated variance is too large
        0.5 * delta.mean(),
        draw,
    )


def _excess(ratio: Tensor) -> Tensor:
    """R - 1 - log R."""
    return ratio - 1.0 - ratio.log()


def _spread(draws: Draws, ess: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(b,)`` trace of Cov_q and its number of directions, and the ``()`` effective number of draws."""
    x, w = draws.x_0[:, FEW], draws.weight[:, FEW]
    centred = (x - torch.einsum("nb,nbd->bd", w, x)) * w.sqrt()[..., None]
    rows = centred.movedim(1, 0)  # (b, N, d)
    gram = rows @ rows.mT if rows.shape[1] < rows.shape[2] else rows.mT @ rows
    trace = centred.square().sum((0, 2))
    squared = gram.square().sum((1, 2))
    n = 1.0 / (1.0 / ess[FEW].clamp(min=1.0)).mean()
    squared = (squared - trace.square() / n) / (1.0 + 1.0 / n)
    d = float(x.shape[2])
    directions = (trace.square() / squared.clamp(min=0.0)).nan_to_num(nan=d, posinf=d).clamp(min=1.0, max=d)
    return trace * (n / (n - 1.0).clamp(min=0.5)), directions, n


def _resampling(ess: Tensor, n: int) -> Tensor:
    """``()`` divergence of q from the law of one of n proposals picked by weight, as if the weights were lognormal.

    To leading order half the variance of the weight under q, over n^2; and never more than that of the proposal itself.
    """
    excess = n / ess.clamp(min=1.0)
    return torch.minimum(0.5 * excess.log(), 0.5 * excess.square() * (excess - 1.0) / n**2).clamp(min=0.0).mean()


def start_error(
    start: Start,
    process: ForwardProcess,
    surrogate: GaussianMixture | None,
    x_0: Tensor,
    x_T: tuple[Tensor, Tensor] | None,
    slope: Tensor | None = None,
) -> StartError | None:
    r"""KL(p_T || start), from draws of the target.

    Of a normal start it is that of p_T from the normal of its own moments, in which p_T is the mixture of the forward process over
    the draws, plus that between the two normals, with the moments' own errors taken off. Of any other start only the second part is
    known, from the moments of its particles: a lower bound.

    The draws carry what is left of the start's error e themselves, about ``slope @ e``, so that the p_T made of them is too near to
    the start; this is solved for e, unless they remember nearly all of it.

    Args:
        start: How x_T was drawn.
        process: Forward process.
        surrogate: The mixture that the start saw.
        x_0: ``(n, d)`` draws of the target, in the process's coordinates.
        x_T: ``(d,)`` mean and ``(d, d)`` covariance of the particles at the horizon; not needed of a normal start.
        slope: ``(d, d)`` what is left in the draws of an error of x_T (:class:`rdmc.budget.transport.Transport`), or None.

    Returns:
        The error; None with fewer than d + 2 draws.

    Cost: ``O(n^2 d)``, n at most 512; no evaluation.
    """
    n, d = x_0.shape
    if n < d + 2 or not bool(torch.isfinite(x_0).all()):
        return None
    alpha, sigma = process.alpha(process.horizon), process.sigma(process.horizon)
    signal = alpha**2 * torch.cov(x_0.T).reshape(d, d)
    mean, covariance = alpha * x_0.mean(0), signal + sigma**2 * torch.eye(d, dtype=x_0.dtype, device=x_0.device)
    if isinstance(start, MatchedNormal):
        law = start.law(process, surrogate, x_0[0])
    elif x_T is not None:
        law = x_T
    else:
        return None
    if not all(bool(torch.isfinite(part).all()) for part in law):
        return None
    relative, eye = torch.linalg.solve(covariance, signal), torch.eye(d, dtype=x_0.dtype, device=x_0.device)
    own = _own_error(relative, relative, n)
    if isinstance(start, MatchedNormal):
        beyond = _beyond_normal(x_0, alpha, sigma, mean, covariance)
    else:
        own, beyond = own + _own_error(eye, eye, n), 0.0
    gap, excess = law[0] - mean, law[1] - covariance
    if (
        slope is not None
        and bool(torch.isfinite(slope).all())
        and float(torch.linalg.eigvals(alpha * slope).abs().max()) < _REMEMBERED
    ):
        kept = alpha * slope
        gap = torch.linalg.solve(eye - kept, gap)
        # the noise grows with the errors
        of_mean, of_covariance = (torch.linalg.solve(eye - part, relative) for part in (kept, kept @ kept))
        own += _own_error(torch.linalg.solve(eye - kept, of_mean), of_covariance, n) - _own_error(relative, relative, n)
        first = excess
        for _ in range(_ROUNDS):
            excess = first + alpha**2 * slope @ excess @ slope.T
    true = law[1] - excess
    if float(torch.linalg.eigvalsh(true)[0]) <= 0.0:  # too far off for a first-order correction
        gap, excess, true = law[0] - mean, law[1] - covariance, covariance
    nats = max(0.0, float(between_normals(law[0] - gap, true, *law)) - own) + max(0.0, beyond)
    return StartError(nats, gap, excess, own)


def _own_error(of_mean: Tensor, of_covariance: Tensor, n: int) -> float:
    """Expected divergence by errors of moments from n draws; the arguments are the parts of the covariance that are estimated."""
    trace = float(torch.diagonal(of_covariance).sum())
    square = float((of_covariance * of_covariance.mT).sum())
    return 0.5 * (float(torch.diagonal(of_mean).sum()) + 0.5 * (square + trace**2)) / n


def between_normals(mean: Tensor, covariance: Tensor, other: Tensor, spread: Tensor) -> Tensor:
    """KL(N(mean, covariance) || N(other, spread))."""
    ratio = torch.linalg.solve(spread, covariance)
    gap = mean - other
    return 0.5 * (
        torch.diagonal(ratio).sum() - len(mean) - torch.linalg.slogdet(ratio)[1] + gap @ torch.linalg.solve(spread, gap)
    )


def _beyond_normal(x_0: Tensor, alpha: float, sigma: float, mean: Tensor, covariance: Tensor) -> float:
    """KL(p_T || N(mean, covariance)): a mean of log ratios over noised draws, each left out of the mixture it is held against."""
    centre = alpha * x_0[:_POINTS]
    n, d = centre.shape
    # randomness of its own, the same in every run: the streams of the run are not touched
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(centre)
    factor = torch.linalg.cholesky(covariance)
    ratios = []
    for x in (centre + sigma * z, centre - sigma * z):
        kernel = -0.5 * torch.cdist(x, centre).square() / sigma**2
        kernel = kernel.fill_diagonal_(-math.inf)
        log_p = torch.logsumexp(kernel, 1) - math.log(n - 1) - d * math.log(sigma)
        white = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False)
        log_normal = -0.5 * white.square().sum(0) - torch.diagonal(factor).log().sum()
        ratios.append((log_p - log_normal).mean())
    return float(torch.stack(ratios).mean())
