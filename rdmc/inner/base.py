"""What it means to draw from the inner posterior: ``Draws`` out, a warm start in, both explicit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rdmc.kernels.base import State
from rdmc.mixture import squared_norm
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams

__all__ = ["Draws", "InnerSampler", "Started", "Warm", "choose", "require_count", "resample", "weighted_draws"]


def require_count(name: str, value: int, minimum: int) -> None:
    """Refuse anything but an integer of at least ``minimum``.

    Raises:
        ValueError: Naming the argument, what was wanted and what came.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"`{name}` must be an integer of at least {minimum}, got {value!r}")


class Warm(NamedTuple):
    """Where chains on one inner posterior stood, for chains on the next: the only thing carried between levels.

    Values and gradients are those of the target alone, which do not depend on the noise level: a warm start costs no
    evaluation.

    Shapes: ``x`` and ``grad`` are ``(C, B, d)``, ``value`` is ``(C, B)`` for C chains; ``tuning`` is the kernel's own,
    ``stage`` says which stage of a :class:`Staged` it belongs to (None outside of one), and ``witness`` holds the second chains
    of :class:`GuidedChains`.
    """

    x: Tensor
    value: Tensor | None = None
    grad: Tensor | None = None
    tuning: Tensor | None = None
    stage: int | None = None
    witness: State | None = None

    def for_chains(self, chains: int) -> Warm:
        """The same for another number of chains: the leading ones, repeated in turn where there are too few."""
        have = self.x.shape[0]
        if have == chains:
            return self
        index = torch.arange(chains, device=self.x.device) % have
        per_chain = self.tuning is not None and self.tuning.shape == self.x.shape[:-1]
        return self._replace(
            x=self.x[index],
            value=None if self.value is None else self.value[index],
            grad=None if self.grad is None else self.grad[index],
            tuning=self.tuning[index] if per_chain and self.tuning is not None else self.tuning,
        )


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws from q_t(. | x_t) for each of B particles.

    Attributes:
        x_0: ``(N, B, d)`` draws; of chains, chain after chain.
        draw: ``(B, d)`` one draw from q, the state an exact bridge continues from.
        grad: ``(N, B, d)`` grad log q at the draws, or None where gradients were not needed.
        log_weight: ``(N, B)`` log weights, or None for equal weights. A particle whose weights are all 0 is told by
            ``ess`` 0; its draws then count equally, so that they stay finite.
        chains: Number C of Markov chains behind the draws (N = C x kept); 0 for independent draws.
        acceptance: ``(B,)`` mean acceptance of the local moves, or None where nothing is accepted or refused.
        jump_acceptance: ``(B,)`` mean acceptance of the global moves, or None without any.
        nonfinite: ``()`` fraction of evaluations that gave NaN or ``+inf``.
        warm: What the next level may start from.
        rhat: ``()`` R-hat of the chains' ends (:func:`rdmc.inner.mixing.endpoint_rhat`), or None without chains.
        continued: Whether the chains went on from the previous level's warm start.
    """

    x_0: Tensor
    draw: Tensor
    grad: Tensor | None
    log_weight: Tensor | None
    chains: int
    acceptance: Tensor | None
    jump_acceptance: Tensor | None
    nonfinite: Tensor
    warm: Warm
    rhat: Tensor | None = None
    continued: bool = False

    @property
    def weight(self) -> Tensor:
        """``(N, B)`` weights that sum to 1 for each particle."""
        if self.log_weight is None:
            n = self.x_0.shape[0]
            return self.x_0.new_full(self.x_0.shape[:2], 1.0 / n)
        log_weight = self.log_weight.masked_fill(self._lost(self.log_weight), 0.0)
        return torch.softmax(_to_last(log_weight), -1).movedim(-1, 0)

    @staticmethod
    def _lost(log_weight: Tensor) -> Tensor:
        """``(B,)`` particles without any weight."""
        return (log_weight == -torch.inf).all(0)

    @property
    def ess(self) -> Tensor:
        """``(B,)`` effective number of draws.

        Of weighted draws the inverse sum of squared weights, 0 where no draw has weight; of chains the variance of the
        draws over that of their mean, summed over coordinates, at most N.
        """
        n = self.x_0.shape[0]
        if self.chains == 0:
            ess = 1.0 / _to_last(self.weight).square().sum(-1)
            return ess if self.log_weight is None else ess.masked_fill(self._lost(self.log_weight), 0.0)
        mean = self.average(self.x_0)
        spread = _added(torch.stack([squared_norm(part - mean) for part in self.x_0])) / n
        of_mean = self.average_variance(self.x_0).sum(-1)
        return torch.where(of_mean > 0.0, spread / of_mean, torch.zeros_like(spread)).clamp(max=float(n))

    def average(self, values: Tensor) -> Tensor:
        """``(B, ...)`` weighted average over the draws of ``(N, B, ...)`` values."""
        if self.log_weight is None:
            return _added(values) / values.shape[0]
        return torch.einsum("nb,nb...->b...", self.weight, values)

    def average_variance(self, values: Tensor) -> Tensor:
        """``(B, d)`` estimated variance of :meth:`average` of ``(N, B, d)`` values.

        From the spread of the chains' means where there are two chains or more; from the spread of two halves for one
        chain; by the delta method of self-normalised importance sampling for weighted or independent draws. Infinite
        where one draw (or none) has all the weight: a single value says nothing about its own error.
        """
        if self.x_0.shape[0] == 1:
            return torch.full_like(values[0], torch.inf)
        if self.chains == 0:
            centred = values - self.average(values)
            squared = torch.einsum("nb,nbd->bd", self.weight.square(), centred.square())
            ess = self.ess[:, None]
            return torch.where(ess > 1.0 + 1e-6, squared * (ess / (ess - 1.0)), torch.inf)
        chains = self.by_chain(values)
        means = _added(chains.movedim(1, 0)) / chains.shape[1]
        groups = len(means)
        return _added((means - _added(means) / groups).square()) / (groups * (groups - 1))

    def by_chain(self, values: Tensor) -> Tensor:
        """``(C', n, B, ...)`` values by chain; a single chain is split into its two halves, so that C' is at least 2."""
        kept = values.shape[0] // self.chains
        if self.chains > 1:
            return values.view(self.chains, kept, *values.shape[1:])
        half = max(1, kept // 2)
        return (
            values[-2 * half :].view(2, half, *values.shape[1:])
            if kept > 1
            else values.expand(2, *values.shape)[:, None, 0]
        )


class InnerSampler(Protocol):
    """A way to draw from inner posteriors, pure apart from advancing ``rng``."""

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """Draw for every particle of ``q``; ``start`` is the previous level's :attr:`Draws.warm`, which may be ignored."""
        ...


@dataclass(frozen=True)
class Started:
    """Let one sampler find starting points for another: ``Started(Importance(128), Chains(MALA()))``.

    The first sampler's draws are resampled by their weights to one starting point per chain of the second. Both run at
    every noise level, so nothing is carried between levels.

    Args:
        first: Any inner sampler; it should be global.
        then: Any inner sampler that uses a warm start.
        chains: Starting points to hand over, the chains of ``then``.

    Raises:
        ValueError: If ``chains`` is not a positive integer.
    """

    first: InnerSampler
    then: InnerSampler
    chains: int = 4

    def __post_init__(self) -> None:
        require_count("chains", self.chains, 1)

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """Draw with ``first``, resample, draw with ``then``."""
        found = self.first.draw(q, rng, None)
        x = resample(found, rng, self.chains)
        drawn = self.then.draw(q, rng, Warm(x))
        return replace(drawn, nonfinite=torch.maximum(found.nonfinite, drawn.nonfinite), continued=False)


def _to_last(values: Tensor) -> Tensor:
    """``(..., N)`` from ``(N, ...)``, contiguous.

    Reducing the first axis gives bits that depend on how many particles there are, since torch sums the columns that fill its
    vector registers in another order than the rest; reducing the last axis doesn't.
    """
    return values.movedim(0, -1).contiguous()


def _added(values: Tensor) -> Tensor:
    """``(...)`` sum of ``(N, ...)`` over the first axis, one draw after the other: bits as good as :func:`_to_last`'s, no copy."""
    total = values[0]
    for k, part in enumerate(values[1:]):
        total = total.add_(part) if k else total + part
    return total


def choose(weight: Tensor, rng: Streams, n: int) -> Tensor:
    """``(n, B)`` indices into the first axis of ``(N, B)`` weights, drawn with replacement, independently for each particle."""
    cumulative = torch.cumsum(_to_last(weight), -1)  # (B, N)
    u = rng.uniform((n, weight.shape[1])) * cumulative[:, -1]
    # the first index whose cumulative weight exceeds u: never a draw of weight 0, even at u = 0
    index = torch.searchsorted(cumulative, u.T.contiguous(), right=True).T
    last = (weight > 0.0).to(torch.int64).mul(torch.arange(weight.shape[0], device=weight.device)[:, None]).amax(0)
    return torch.minimum(index, last)


def resample(draws: Draws, rng: Streams, n: int) -> Tensor:
    """``(n, B, d)`` equally weighted points, drawn with replacement by weight, independently for each particle."""
    return _take(draws.x_0, choose(draws.weight, rng, n))


def weighted_draws(
    x_0: Tensor,
    log_weight: Tensor,
    rng: Streams,
    *,
    handed_on: int,
    nonfinite: Tensor,
    grad: Tensor | None = None,
    acceptance: Tensor | None = None,
) -> Draws:
    """:class:`Draws` of weighted points that are independent of each other; the one draw and the warm start are resampled.

    Args:
        x_0: ``(N, B, d)`` points.
        log_weight: ``(N, B)`` their log weights; no NaN.
        rng: For the resampling.
        handed_on: Points resampled for chains that start from these.
        nonfinite: ``()`` fraction of evaluations that gave NaN or ``+inf``.
        grad: ``(N, B, d)`` grad log q at the points, or None.
        acceptance: ``(B,)`` mean acceptance of whatever was accepted on the way, or None.
    """
    drawn = Draws(x_0, x_0[0], grad, log_weight, 0, acceptance, None, nonfinite, Warm(x_0))
    x = resample(drawn, rng, handed_on)
    return replace(drawn, draw=x[0], warm=Warm(x))


def _take(values: Tensor, index: Tensor) -> Tensor:
    """``(n, B, d)`` rows of ``(N, B, d)`` values, by ``(n, B)`` index."""
    return values.gather(0, index[..., None].expand(*index.shape, values.shape[-1]))
