"""Rejection sampling of the inner posterior: exact draws, zeroth order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.errors import RejectionBoundError
from rdmc.inner.base import Draws, Warm, require_count, weighted_draws
from rdmc.inner.importance import FromLikelihood, weigh
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams

__all__ = ["Rejection"]


@dataclass(frozen=True)
class Rejection:
    r"""Draw from the likelihood of x_0 and accept by pi: the inner sampler of ZOD-MC.

    .. math::
        x \sim N(x_t / \alpha, (\sigma / \alpha)^2 I), \qquad
        \text{accept with probability } \pi(x) e^{-\text{log\_bound}}

    Law: q exactly, and the accepted draws are independent. Proposals come in a fixed number of rounds, so the time is
    bounded and known; of the accepted ones the first ``keep`` are returned. A bound that turns out to be none, and
    particles for which nothing was accepted, are errors and never a number. NaN and ``+inf`` are refused and counted.
    Cost: ``rounds x proposals`` density evaluations a particle, no gradient; one read-back to the host, for the errors.

    Args:
        log_bound: An upper bound of log pi, as unnormalised as the density is; the nearer to the supremum, the more is
            accepted.
        proposals: Proposals a round and particle, at least 1.
        rounds: Rounds, at least 1; they only bound the memory.
        keep: Accepted draws returned at most, at least 1.
        handed_on: Points handed to chains that may follow at the next level.

    Raises:
        ValueError: If ``log_bound`` is not finite or a count is out of range.
        RejectionBoundError: On use, if log pi exceeds the bound, or if some particles get no draw.
    Source: He, Rojas and Tao (NeurIPS 2024, arXiv:2402.17886), algorithm 2.

    Example:
        >>> Rejection(log_bound=0.0, proposals=512)
        Rejection(log_bound=0.0, proposals=512, rounds=4, keep=64, handed_on=4)
    """

    log_bound: float
    proposals: int = 256
    rounds: int = 4
    keep: int = 64
    handed_on: int = 4

    def __post_init__(self) -> None:
        if not math.isfinite(self.log_bound):
            raise ValueError(f"`log_bound` must be a finite float, got {self.log_bound!r}")
        for name in ("proposals", "rounds", "keep", "handed_on"):
            require_count(name, getattr(self, name), 1)

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """Propose in rounds and keep the first accepted points; ``start`` is not used."""
        law = FromLikelihood().law(q)
        # the supremum computed along another path may differ in the last bits
        slack = 64.0 * torch.finfo(q.x_t.dtype).eps * (1.0 + abs(self.log_bound))
        x_0 = q.x_t.new_zeros((0, *q.x_t.shape))
        log_weight = q.x_t.new_zeros((0, q.particles))
        accepted = q.x_t.new_zeros(q.particles)
        bad = q.x_t.new_zeros(())
        excess = q.x_t.new_full((q.particles,), -torch.inf)
        for _ in range(self.rounds):
            x = law.draw(rng, self.proposals)
            value, wrong = weigh(*[q.target(x)] * 2)
            accept = rng.log_uniform(value.shape) < value - self.log_bound
            accepted = accepted + accept.sum(0)
            bad = bad + wrong.sum()
            excess = torch.maximum(excess, (value - self.log_bound).amax(0))
            x_0, log_weight = _first_accepted(x_0, log_weight, x, accept, self.keep)
        tried = self.rounds * self.proposals
        self._refuse(q, excess > slack, excess, accepted == 0, tried)
        return weighted_draws(
            x_0,
            log_weight,
            rng,
            handed_on=self.handed_on,
            nonfinite=bad / (tried * q.particles),
            acceptance=accepted / tried,
        )

    def _refuse(self, q: InnerPosterior, broken: Tensor, excess: Tensor, empty: Tensor, tried: int) -> None:
        """The one host check of a draw: raise if the bound was broken or a particle has no draw."""
        if broken.device.type == "meta" or not bool((broken | empty).any()):
            return
        log_snr = 2.0 * math.log(q.alpha / q.sigma)
        if bool(broken.any()):
            over = float(excess.amax())
            raise RejectionBoundError(
                f"`log_bound` = {self.log_bound:g} is not a bound: log_density exceeds it by {over:g} "
                f"for {int(broken.sum())} of {q.particles} particles at log-SNR {log_snr:.3g}; "
                f"pass at least {self.log_bound + over:g}",
                particles=torch.nonzero(broken)[:, 0],
            )
        raise RejectionBoundError(
            f"rejection accepted none of {tried} proposals for {int(empty.sum())} of {q.particles} particles "
            f"at log-SNR {log_snr:.3g}; use it at higher log-SNR only (`Staged`), a tighter `log_bound` than "
            f"{self.log_bound:g}, or more rounds",
            particles=torch.nonzero(empty)[:, 0],
        )


def _first_accepted(kept: Tensor, log_weight: Tensor, x: Tensor, accept: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The first ``keep`` accepted points of each particle, with log weight 0; what fills the array up has ``-inf``."""
    new = torch.zeros_like(accept, dtype=kept.dtype).masked_fill(~accept, -torch.inf)
    points, weights = torch.cat([kept, x]), torch.cat([log_weight, new])
    order = torch.argsort(weights, dim=0, descending=True, stable=True)[:keep]
    return points.gather(0, order[..., None].expand(*order.shape, points.shape[-1])), weights.gather(0, order)
