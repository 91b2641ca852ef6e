r"""What the errors of a reverse diffusion's steps have become at its end, in the first two moments of the draws.

The sum over levels in :mod:`rdmc.budget.terms` bounds the divergence of whole paths, and is far above that of the draws: errors
of one step are forgotten in later ones, and those of neighbouring x_t cancel. To first order an error of x_s ends as

.. math::
    \delta = E[G_s(x_s)\, \delta_s(x_s)], \qquad \Delta = G_s\, \Delta_s\, G_s^T, \qquad
    G_s = \frac{\partial E[x_e \mid x_s]}{\partial x_s} = b\, I + a\, \frac{\alpha_s}{\sigma_s^2}\, \mathrm{Cov}_{q_s},

with (a, b) of the bridge from s to the end e. It is exact where the target is Gaussian. A step without noise forgets nothing: an
error of x_s then goes to the end with the probability flow, on a Gaussian by the factor J with

.. math::
    J^2 = \frac{\alpha_e^2}{\alpha_s} G + \frac{\sigma_e^2}{\sigma_s^2} (I - \alpha_s G), \qquad
    G = \frac{\alpha_s}{\sigma_s^2} E\, \mathrm{Cov}_{q_s} .

In the end the moments are compared with those of the draws as normal laws. Where modes are known this is done twice. Of the whole:
where q_t spreads over modes G is large, and an error of x_t becomes one of their weights, which moves the mean. And within the mode
that a particle's draw is in, since the distance between modes would hide every error of their shape.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.budget.step_law import StepLaw
from rdmc.budget.terms import FEW, between_normals
from rdmc.capture import Modes
from rdmc.inner.base import Draws
from rdmc.process import ForwardProcess
from rdmc.score import ScoreEstimate

__all__ = ["Look", "Transport", "centres", "members", "within"]


class Look(NamedTuple):
    """One use of the inner sampler: the ``(B, d)`` particles at time t, what it drew, and what that says of the means."""

    t: float
    x_t: Tensor
    draws: Draws
    score: ScoreEstimate


class Fresh(NamedTuple):
    """Errors that the last step made, whose way to the end is known at the next level.

    Attributes:
        mean: ``(b, d)`` of the mean of each particle.
        covariance: ``(d, d)`` of the covariance.
        noise: ``(d, d)`` covariance of the noise of the posterior mean.
        gain: How much of that noise the step took.
        cross: ``(d, d)`` covariance of that noise with the errors at the end so far.
    """

    mean: Tensor
    covariance: Tensor
    noise: Tensor
    gain: float
    cross: Tensor


class Transport(NamedTuple):
    """Errors of the moments at the end of the run.

    Attributes:
        mean: ``(M, d)`` of the mean of each of M modes, by the steps.
        covariance: ``(d, d)`` of the covariance, by the steps.
        noise: ``(d, d)`` covariance that the noise of the posterior means adds.
        slope: ``(d, d)`` what is left of an error of the start; None before the first level.
        fresh: What is still on its way.
    """

    mean: Tensor
    covariance: Tensor
    noise: Tensor
    slope: Tensor | None = None
    fresh: Fresh | None = None

    def step(
        self, process: ForwardProcess, law: StepLaw, s: float, end: float, look: Look, modes: Modes | None
    ) -> Transport:
        """One step on, from the time of the look to s.

        Args:
            process: Forward process.
            law: The step's coefficients.
            s: Next time.
            end: Last time, of x_t or of a draw of x_0.
            look: At the present level.
            modes: What tells modes apart, or None to treat the target as one mode.
        """
        x_t, mean = look.x_t[FEW], look.score.mean[FEW]
        centred, factor, member = _spread(look, modes)
        eye = torch.eye(x_t.shape[1], dtype=x_t.dtype, device=x_t.device)
        flat = centred.flatten(0, 1)
        spread = flat.T @ flat * (factor / len(x_t))
        on_x, on_spread = 1.0, 0.0
        if look.t > end:
            way = process.bridge(look.t, end)
            on_x, on_spread = way.on_x_t, way.on_x_0 * process.alpha(look.t) / process.sigma(look.t) ** 2
        onward = on_x * eye + on_spread * spread
        if law.flows and s > 0.0:
            onward = _flow(process, look.t, end, spread)
        arrived, reached = self._arrive(onward, centred * (on_spread * factor).sqrt(), on_x, member)

        bridge = process.bridge(look.t, s)
        if law.compares and s > 0.0:  # a coarse step forgets less of earlier noise than the exact kernel
            slope = process.alpha(look.t) / process.sigma(look.t) ** 2 * spread
            exact = bridge.on_x_t * eye + bridge.on_x_0 * slope
            kept = torch.linalg.solve_ex(exact, law.on_x_t * eye + (law.on_mean + law.on_draw) * slope).result
            arrived, reached = arrived._replace(noise=kept @ arrived.noise @ kept.T), kept @ reached
        exact = bridge.on_x_0 * mean + bridge.on_x_t * x_t
        own = (law.on_mean + law.on_draw) * mean + law.on_x_t * x_t
        variance = torch.diag(look.score.mcse[FEW].square().mean(0))
        variance = variance.masked_fill(torch.isinf(variance), torch.nan)
        source = (law.on_draw**2 - bridge.on_x_0**2) * spread + (law.sd**2 - bridge.sd**2) * eye
        source = source + within(own, member) - within(exact, member)
        used = (law.on_mean + law.on_draw) ** 2 - bridge.on_x_0**2
        if used:
            source = source - used * variance
        rhat = look.draws.rhat
        goes_on = look.draws.continued and rhat is not None
        cross = (1.0 - 1.0 / rhat.square()) * reached.T if goes_on and rhat is not None else torch.zeros_like(eye)
        return arrived._replace(
            slope=onward if self.slope is None else self.slope,
            fresh=Fresh(own - exact, source, variance, law.on_noise, cross),
        )

    def _arrive(self, onward: Tensor, root: Tensor, on_x: float | Tensor, member: Tensor) -> tuple[Transport, Tensor]:
        """With what is on its way at the end, and the ``(d, d)`` covariance of all with the last noise."""
        fresh = self.fresh
        if fresh is None:
            return self, torch.zeros_like(onward)
        along = torch.einsum("nbi,bi->nb", root, fresh.mean)
        mean = on_x * fresh.mean + torch.einsum("nb,nbi->bi", along, root)
        covariance = self.covariance + onward @ fresh.covariance @ onward.T
        if not fresh.gain:
            here = self._replace(mean=self.mean + centres(mean, member), covariance=covariance, fresh=None)
            return here, torch.zeros_like(onward)
        taken = fresh.gain * onward
        both = taken @ fresh.cross
        noise = self.noise + taken @ fresh.noise @ taken.T + both + both.T
        here = self._replace(mean=self.mean + centres(mean, member), covariance=covariance, noise=noise, fresh=None)
        return here, fresh.cross.T + taken @ fresh.noise

    def arrived(self, x: Tensor, modes: Modes | None = None) -> Transport:
        """With the last step's errors in it too, given the ``(n, d)`` draws."""
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        return self._arrive(eye, x.new_zeros(1, *x[FEW].shape), 1.0, members(x, modes)[FEW])[0]

    def left(
        self,
        x: Tensor,
        start: tuple[Tensor, Tensor],
        modes: Modes | None = None,
        seen: Tensor | None = None,
        exact: Tensor | None = None,
    ) -> tuple[float, float, float]:
        """Divergence of the target from the draws by the start, the steps and the noise, each alone, as normal laws.

        Args:
            x: ``(n, d)`` draws.
            start: Errors of the start's mean and covariance.
            modes: What tells modes apart, or None to treat the target as one mode.
            seen: ``(d, r)`` directions to which all is restricted, or None.
            exact: ``(m, d)`` draws without the errors of steps and noise, or None.

        Returns:
            Nats; NaN where an error is not known, and infinite where it exceeds the covariance itself.
        """
        member = members(x, modes)
        covariance, weight = within(x, member), member.mean(0)
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        done = self.arrived(x, modes)
        slope = eye if self.slope is None else self.slope
        noise, steps = done.noise, 0.5 * (done.covariance + done.covariance.T)
        with_steps = with_noise = covariance
        if exact is not None:  # each alone
            covariance = within(exact, members(exact, modes))
            with_steps, with_noise = covariance + steps, covariance + noise
        errors = (
            (covariance, (slope @ start[0]).expand_as(done.mean), slope @ start[1] @ slope.T),
            (with_steps, done.mean, steps),
            (with_noise, torch.zeros_like(done.mean), noise),
        )
        p = eye if seen is None else seen
        found = [
            _divergence(p.T @ wide @ p, weight, gap @ p, p.T @ excess @ p) if p.shape[1] else 0.0 * float(gap.sum())
            for wide, gap, excess in errors
        ]
        return found[0], found[1], found[2]


def _flow(process: ForwardProcess, t: float, end: float, spread: Tensor) -> Tensor:
    """``(d, d)`` J of the probability flow from t to the end, from E Cov_q."""
    if not bool(torch.isfinite(spread).all()):
        return torch.full_like(spread, math.nan)
    alpha, sigma = process.alpha(t), process.sigma(t)
    values, vectors = torch.linalg.eigh(spread / sigma**2)
    share = alpha**2 * values.clamp(min=0.0)  # of x_t's variance that is signal
    square = (process.alpha(end) / alpha) ** 2 * share + (process.sigma(end) / sigma) ** 2 * (1.0 - share).clamp(
        min=0.0
    )
    return (vectors * square.sqrt()) @ vectors.T


def _spread(look: Look, modes: Modes | None) -> tuple[Tensor, Tensor, Tensor]:
    """``(N, b, d)`` deviations whose squares add to Cov_q, the factor that corrects it, and ``(b, M)`` who is in which mode."""
    x, w = look.draws.x_0[:, FEW], look.draws.weight[:, FEW]
    if modes is not None:  # only the draws in the mode that the particle is in
        w = w * (modes.label(x) == modes.label(look.draws.draw[FEW]))
        w = w / w.sum(0).clamp(min=torch.finfo(w.dtype).tiny)
    centred = (x - torch.einsum("nb,nbd->bd", w, x)) * w.sqrt()[..., None]
    n = 1.0 / (1.0 / look.score.ess[FEW].clamp(min=1.0)).mean()
    return centred, n / (n - 1.0).clamp(min=0.5), members(look.draws.draw[FEW], modes)


def members(x: Tensor, modes: Modes | None) -> Tensor:
    """``(n, M)`` 1 where a point is in a mode, else 0."""
    if modes is None:
        return torch.ones_like(x[:, :1])
    return (modes.label(x)[:, None] == torch.arange(modes.count + 1, device=x.device)).to(x.dtype)


def centres(x: Tensor, member: Tensor) -> Tensor:
    """``(M, d)`` means of the points in each mode, 0 in a mode without any."""
    return (member.T @ x) / member.sum(0).clamp(min=1.0)[:, None]


def within(x: Tensor, member: Tensor) -> Tensor:
    """``(d, d)`` covariance of ``(n, d)`` points about the means of their modes."""
    centred = x - member @ centres(x, member)
    return centred.T @ centred / max(1, len(x) - 1)


def _divergence(covariance: Tensor, weight: Tensor, gap: Tensor, excess: Tensor) -> float:
    """KL(N(0, covariance - excess) || N(gap, covariance)), averaged over the modes' gaps: the draws have the errors."""
    true = covariance - 0.5 * (excess + excess.T)
    if not bool(torch.isfinite(true).all() & torch.isfinite(gap).all()):
        return math.nan
    if min(float(torch.linalg.eigvalsh(part)[0]) for part in (true, covariance)) <= 0.0:
        return math.inf
    origin = torch.zeros_like(gap[0])
    shift = 0.5 * (weight * (gap * torch.linalg.solve(covariance, gap.T).T).sum(-1)).sum()
    return max(0.0, float(between_normals(origin, true, origin, covariance) + shift))
