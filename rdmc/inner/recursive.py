"""Recursive score estimation: the inner posterior sampled by way of an intermediate noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rdmc.inner.base import Draws, InnerSampler, Warm, require_count
from rdmc.inner.chains import Chains
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams

__all__ = ["Recursive"]


@dataclass(frozen=True)
class Recursive:
    r"""Langevin on a less noisy point z, whose score comes from posteriors that are easier than q.

    With tau = sigma / alpha and y = x_t / alpha, the noise is split: x_0 - z - y with z ~ N(x_0, tau_u^2 I) and y ~
    N(z, v I), where tau_u = tau exp(-log_snr_gain / 2) and v = tau^2 - tau_u^2. Then

    .. math::
        z \mid y \propto p_u(z) N(y; z, v I), \qquad
        z' = z + h s^2 \Bigl[ \frac{E[x_0 \mid z] - z}{\tau_u^2} + \frac{y - z}{v} \Bigr] + \sqrt{2 h}\, s\, \xi, \qquad
        x_0 \mid z \sim q_u(\cdot \mid z)

    and E[x_0 | z] is the mean of what ``inner`` draws from q_u at that z. The same draws give x_0. q depends on alpha,
    sigma and x_t through y and tau alone, so this serves every linear process, and no process is asked for. Depth is
    nesting: ``Recursive(Recursive(Chains()))`` splits the gain in two segments.

    Law: q up to O(h) and to the error of the inner mean, which enters the drift like a noise of its own. The point of
    the split is that both posteriors are closer to log-concave than q is.
    Cost: ``chains x (burn_in + steps)`` runs of ``inner`` a particle, so the number of segments is in the exponent:
    [chains x (burn_in + steps)]^segments x cost of the innermost. No gradients of log q are returned.

    Args:
        inner: Sampler of q_u; its warm start is carried along the Langevin steps.
        log_snr_gain: How much higher the log-SNR of the intermediate level is; > 0.
        chains: Langevin chains per particle.
        burn_in: Langevin steps discarded.
        steps: Langevin steps kept, at least 1; each gives one draw of x_0.
        step_size: Dimensionless h > 0, in units of s^2 = 1 / (1 / v + 1 / (tau_u^2 + 1)), the variance of z where pi
            has unit scale.

    Raises:
        ValueError: If an argument is out of range.
    Source: Huang, Zou, Dong, Ma and Zhang (COLT 2024, arXiv:2401.06325), algorithm 2.

    Example:
        >>> Recursive(Chains(chains=2), log_snr_gain=1.0).steps
        8
    """

    inner: InnerSampler = Chains()
    log_snr_gain: float = 1.0
    chains: int = 2
    burn_in: int = 8
    steps: int = 8
    step_size: float = 0.2

    def __post_init__(self) -> None:
        for name in ("log_snr_gain", "step_size"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"`{name}` must be a positive float, got {getattr(self, name)!r}")
        require_count("chains", self.chains, 1)
        require_count("burn_in", self.burn_in, 0)
        require_count("steps", self.steps, 1)

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """Run the chains on z from the bridge between x_t and the warm start's x_0, or from y alone."""
        tau = q.sigma / q.alpha
        tau_u = tau * math.exp(-0.5 * self.log_snr_gain)
        v = -(tau**2) * math.expm1(-self.log_snr_gain)
        s = 1.0 / math.sqrt(1.0 / v + 1.0 / (tau_u**2 + 1.0))
        wide = replace(rng, sizes=tuple(self.chains * size for size in rng.sizes))
        # particle by particle, chain after chain: the chains of a shard stay together, as its generator wants them
        y = (q.x_t / q.alpha).repeat_interleave(self.chains, 0)
        z = self._begin(y, tau, tau_u, v, wide, start)
        warm: Warm | None = None
        kept, acceptance, jumps, nonfinite = [], [], [], []
        for k in range(self.burn_in + self.steps):
            found = self.inner.draw(InnerPosterior(q.target, z, 1.0, tau_u, q.surrogate), wide, warm)
            warm = found.warm
            nonfinite.append(found.nonfinite)
            acceptance += [] if found.acceptance is None else [found.acceptance]
            jumps += [] if found.jump_acceptance is None else [found.jump_acceptance]
            if k >= self.burn_in:
                kept.append(self._by_chain(found.draw))
            drift = (found.average(found.x_0) - z) / tau_u**2 + (y - z) / v
            z = z + self.step_size * s**2 * drift + math.sqrt(2.0 * self.step_size) * s * wide.normal(z.shape)
        last = kept[-1]
        return Draws(
            x_0=torch.stack(kept, 1).flatten(0, 1),
            draw=last[0],
            grad=None,
            log_weight=None,
            chains=self.chains,
            acceptance=self._mean(acceptance),
            jump_acceptance=self._mean(jumps),
            nonfinite=torch.stack(nonfinite).mean(),
            warm=Warm(last),
        )

    def _begin(self, y: Tensor, tau: float, tau_u: float, v: float, wide: Streams, start: Warm | None) -> Tensor:
        noise = wide.normal(y.shape)
        if start is None:
            return y + math.sqrt(v) * noise
        x_0 = start.for_chains(self.chains).x.movedim(0, 1).flatten(0, 1)
        return (v * x_0 + tau_u**2 * y) / tau**2 + tau_u * math.sqrt(v) / tau * noise

    def _by_chain(self, values: Tensor) -> Tensor:
        """``(C, B, ...)`` from ``(B C, ...)``."""
        return values.view(-1, self.chains, *values.shape[1:]).movedim(1, 0)

    def _mean(self, recorded: list[Tensor]) -> Tensor | None:
        return self._by_chain(torch.stack(recorded).mean(0)).mean(0) if recorded else None
