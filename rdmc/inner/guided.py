"""Chains on the inner posterior guided by a mixture near the target: jumps between modes, moves at each mode's scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.conditioned import Conditioned
from rdmc.inner.base import Draws, Warm, require_count
from rdmc.inner.chains import Record, begin
from rdmc.inner.mixing import endpoint_rhat
from rdmc.kernels.base import State, evaluate
from rdmc.kernels.guided import IndependenceJump, MixtureMALA
from rdmc.kernels.metric import Isotropic
from rdmc.mixture import GaussianMixture
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams

__all__ = ["GuidedChains"]


@dataclass(frozen=True)
class GuidedChains:
    """One chain per particle on q, guided by the surrogate.

    At every noise level the surrogate, conditioned on x_t in closed form, is a Gaussian mixture near q. Each round is one
    :class:`IndependenceJump` from it and ``steps`` of :class:`MixtureMALA`. Where the surrogate is good the jumps alone give
    independent draws, at any distance between modes; where it is not, they are refused and the local moves remain.

    One chain is enough for the one draw that a bridge needs. To see whether it mixes, the first ``witnesses`` particles of every
    shard have a second chain with a beginning of its own; R-hat compares the two (:func:`rdmc.inner.mixing.endpoint_rhat`).

    Law: q in the limit of many rounds, whatever the surrogate.
    Cost: ``rounds x (1 + steps)`` gradient evaluations a particle and as many a witness, plus 2 each for a cold start.

    Args:
        rounds: Rounds of one jump and ``steps`` local moves, at least 1; all are kept.
        steps: Local moves a round.
        witnesses: Particles of each shard with a second chain.
        gain: Robbins-Monro gain of the pooled step sizes; adaptation goes on, with an effect O(1/B) (see :class:`MixtureMALA`).

    Raises:
        ValueError: If a count is out of range, or on use if ``q`` has no surrogate.
    """

    rounds: int = 2
    steps: int = 5
    witnesses: int = 32
    gain: float = 0.3

    def __post_init__(self) -> None:
        require_count("rounds", self.rounds, 1)
        require_count("steps", self.steps, 0)
        require_count("witnesses", self.witnesses, 0)

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """Run the chains from ``start``, or from draws of the conditioned surrogate."""
        rows = _Rows.of(rng, self.witnesses)
        followed = replace(q, x_t=q.x_t[rows.particle])
        mixture = followed.guide()
        jump, local = IndependenceJump(mixture), MixtureMALA(mixture)
        if start is None:
            state = _cold(followed, mixture, rows.rng)
        else:
            state = begin(local, followed, rows.rng, rows.join(start.for_chains(1)), 1)
        tuning = start.tuning if start is not None and start.tuning is not None else local.tuning(state, rows.rng)
        metric = Isotropic(q.scale)
        record = Record(state.x)
        for _ in range(self.rounds):
            state, info = jump.step(followed, state, rows.rng, tuning, metric)
            record.keep(state)
            record.watch(info, jump=True)
            for _ in range(self.steps):
                state, info = local.step(followed, state, rows.rng, tuning, metric)
                tuning = local.adapt(tuning, info, self.gain)
                record.keep(state)
                record.watch(info)
        return rows.split(record.draws(followed, state, tuning, 1, continued=start is not None), record.begin)


def _cold(q: InnerPosterior, mixture: Conditioned | GaussianMixture, rng: Streams) -> State:
    """Draws of the mixture; where one falls outside the support, its component's mean, which is inside or nearly so."""
    x, label = mixture.draw(rng, (1,))
    drawn = evaluate(q, x)
    outside = drawn.value == -torch.inf
    return evaluate(q, torch.where(outside[..., None], mixture.centre(label), x))


class _Rows(NamedTuple):
    """A batch in which some particles stand twice: once for themselves, once as their own witness.

    Attributes:
        particle: ``(R,)`` the particle of each row; the rows of a shard stand together, as its random numbers do.
        own: ``(B,)`` the row of each particle; for a single shard the leading rows, which need no copy.
        witness: ``(W,)`` the rows of the witnesses.
        watched: ``(W,)`` the rows of the particles they watch.
        rng: Streams over rows.
    """

    particle: Tensor
    own: Tensor | slice
    witness: Tensor
    watched: Tensor
    rng: Streams

    @classmethod
    def of(cls, rng: Streams, witnesses: int) -> _Rows:
        """Rows for the particles of ``rng`` and up to ``witnesses`` more of every shard."""
        rows = partial(torch.arange, device=rng.device)
        particle, own, witness, watched = [], [], [], []
        first, row = 0, 0
        for size in rng.sizes:
            extra = min(witnesses, size)
            particle += [rows(first, first + size), rows(first, first + extra)]
            own.append(rows(row, row + size))
            watched.append(rows(row, row + extra))
            witness.append(rows(row + size, row + size + extra))
            first, row = first + size, row + size + extra
        p, o, w, v = (torch.cat(part) for part in (particle, own, witness, watched))
        leading = slice(rng.particles) if len(rng.sizes) == 1 else o
        return cls(p, leading, w, v, replace(rng, sizes=tuple(size + min(witnesses, size) for size in rng.sizes)))

    def join(self, start: Warm) -> Warm:
        """A warm start for the rows; a witness that has none of its own begins where its particle is."""
        beside = start.witness

        def joined(part: Tensor | None, of_witness: Tensor | None) -> Tensor | None:
            if part is None:
                return None
            rows = part[:, self.particle]
            return rows if of_witness is None else rows.index_copy(1, self.witness, of_witness)

        x = joined(start.x, None if beside is None else beside.x)
        assert x is not None
        value = joined(start.value, None if beside is None else beside.value)
        grad = joined(start.grad, None if beside is None else beside.grad)
        return start._replace(x=x, value=value, grad=grad)

    def split(self, draws: Draws, first: Tensor) -> Draws:
        """The particles' draws, with the witnesses kept aside for the next level and R-hat between the two."""
        warm = draws.warm
        assert warm.value is not None and warm.grad is not None and draws.grad is not None
        aside = State(*(part[:, self.witness] for part in (warm.x, warm.value, warm.grad)))
        kept = Warm(warm.x[:, self.own], warm.value[:, self.own], warm.grad[:, self.own], warm.tuning, witness=aside)
        pairs = [torch.stack([x[0, self.watched], x[0, self.witness]]) for x in (first, warm.x)]
        return replace(
            draws,
            x_0=draws.x_0[:, self.own],
            draw=draws.draw[self.own],
            grad=draws.grad[:, self.own],
            acceptance=None if draws.acceptance is None else draws.acceptance[self.own],
            jump_acceptance=None if draws.jump_acceptance is None else draws.jump_acceptance[self.own],
            warm=kept,
            rhat=endpoint_rhat(*pairs) if len(self.witness) else None,
        )
