"""Annealed importance sampling of the inner posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.inner.base import Draws, Warm, require_count, weighted_draws
from rdmc.inner.importance import FromLikelihood, Law, Proposal, weigh
from rdmc.kernels.base import Kernel, State
from rdmc.kernels.mala import MALA
from rdmc.kernels.metric import Isotropic
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams

__all__ = ["Annealed"]


@dataclass(frozen=True)
class Annealed:
    r"""Chains led from a proposal g to q along a geometric path, and weighted for what they missed.

    .. math::
        f_k \propto g^{1 - b_k} q^{b_k}, \quad b_k = (k / K)^p, \qquad
        \log w = \sum_{k=1}^{K} (b_k - b_{k-1}) \log \tfrac{q}{g}(x_{k-1}), \quad
        x_k \sim \text{kernel on } f_k \text{ from } x_{k-1}

    Law: averages tend to those of q as n grows, whatever the kernel does as long as it leaves f_k invariant (so not
    :class:`ULA`). Step sizes are fixed: adapting them to the chains would break the weights.
    Cost: ``n x (1 + temperatures x kernel.gradients)`` gradient evaluations a particle.

    Args:
        n: Chains per particle, at least 1.
        temperatures: Steps K of the path, at least 1.
        kernel: The kernel; its step size is relative to the scale of f_k where pi has the scale ``length``.
        proposal: The law g that the path begins with.
        power: Exponent p > 0; above 1 the path lingers near g, which helps where g is much wider than q.
        length: Length scale of pi, 1 in whitened coordinates.
        handed_on: Points resampled for chains that may follow.

    Raises:
        ValueError: If an argument is out of range.
    Source: Neal (2001), Statistics and Computing 11, 125-139.

    Example:
        >>> Annealed(n=16, temperatures=8).kernel
        MALA(step_size=0.5, target_acceptance=0.574)
    """

    n: int = 32
    temperatures: int = 16
    kernel: Kernel = MALA()
    proposal: Proposal = FromLikelihood()
    power: float = 2.0
    length: float = 1.0
    handed_on: int = 4

    def __post_init__(self) -> None:
        for name in ("n", "temperatures", "handed_on"):
            require_count(name, getattr(self, name), 1)
        for name in ("power", "length"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"`{name}` must be a positive float, got {getattr(self, name)!r}")

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """Lead every chain from g to q; ``start`` is not used."""
        law = self.proposal.law(q)
        x = law.draw(rng, self.n)
        value, grad = q.value_and_grad(x)
        state = State(x, value, grad)  # on q itself, that is at b = 1
        b, log_weight = 1.0, torch.zeros_like(value)
        tuning = self.kernel.tuning(state, rng)
        log_weight, wrong = weigh(log_weight, value)
        acceptance, nonfinite = [], [wrong.to(x.dtype).mean()]
        for k in range(1, self.temperatures + 1):
            before = ((k - 1) / self.temperatures) ** self.power
            after = (k / self.temperatures) ** self.power
            state, log_ratio = _reheat(state, law, b, after)
            log_weight, _ = weigh(log_weight + (after - before) * log_ratio, log_ratio)
            b = after
            scale = 1.0 / math.hypot(math.sqrt(b) / self.length, q.alpha / q.sigma)
            state, info = self.kernel.step(_Path(q, law, b), state, rng, tuning, Isotropic(scale))
            acceptance.append(info.acceptance.mean(0))
            nonfinite.append(info.nonfinite.to(x.dtype).mean())
        return weighted_draws(
            state.x,
            log_weight,
            rng,
            handed_on=self.handed_on,
            nonfinite=torch.stack(nonfinite).mean(),
            grad=state.grad.masked_fill((log_weight == -torch.inf)[..., None], 0.0),
            acceptance=torch.stack(acceptance).mean(0),
        )


@dataclass(frozen=True, eq=False)
class _Path:
    """g^(1 - b) q^b for each particle."""

    q: InnerPosterior
    law: Law
    b: float

    @property
    def dim(self) -> int:
        return self.q.dim

    def __call__(self, x_0: Tensor) -> Tensor:
        base = self.law(x_0)
        return base + self.b * (self.q(x_0) - base)

    def value_and_grad(self, x_0: Tensor) -> tuple[Tensor, Tensor]:
        base, base_grad = self.law.value_and_grad(x_0)
        value, grad = self.q.value_and_grad(x_0)
        return base + self.b * (value - base), base_grad + self.b * (grad - base_grad)


def _reheat(state: State, law: Law, b: float, after: float) -> tuple[State, Tensor]:
    """The state on g^(1 - b) q^b seen on g^(1 - after) q^after, and log q / g there, at no evaluation of the target."""
    base, base_grad = law.value_and_grad(state.x)
    log_ratio = (state.value - base) / b
    ratio_grad = (state.grad - base_grad) / b
    return State(state.x, base + after * log_ratio, base_grad + after * ratio_grad), log_ratio
