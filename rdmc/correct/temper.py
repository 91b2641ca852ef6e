r"""Tempered sequential Monte Carlo from a reference to the target, learnt once and then repeated without adaptation.

A *trial* run chooses the temperatures, so that each step keeps a given effective share of the particles, and tunes the step sizes.
Every population that follows repeats the trial's ladder with particles of its own and adapts nothing, so that its estimate of the
evidence is unbiased given the trial, and populations are independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.correct.judge import Judgement, forward_efficiency, jump_acceptance, log_mean_exp, reverse_efficiency
from rdmc.correct.reference import Law, Reference
from rdmc.correct.tempered import Tempered
from rdmc.errors import DensityError
from rdmc.kernels import IndependenceJump, Isotropic, MixtureMALA
from rdmc.particles import ancestral_variance, in_batch, systematic
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Ladder", "Population", "Rung", "Stage", "Tempering", "Trial", "log_ratio", "next_beta"]

_LONGEST = 64  # temperatures of a trial; a reference that needs more is no reference
_BISECTIONS = 40
_TELLING = 0.1  # nats


class Population(NamedTuple):
    """Particles with equal weights: U populations of N, one a shard, that have nothing to do with each other.

    Attributes:
        x: ``(U N, d)`` points.
        value: ``(U N,)`` log pi there.
        grad: ``(U N, d)`` its gradient.
        origin: ``(U N,)`` which of its population's draws of the reference each descends from.
    """

    x: Tensor
    value: Tensor
    grad: Tensor
    origin: Tensor


class Rung(NamedTuple):
    """One temperature of a ladder: beta, rounds of moves there, ``(1, K)`` log step sizes of local moves, and these a round."""

    beta: float
    rounds: int
    tuning: Tensor
    local: int


@dataclass(frozen=True, eq=False)
class Ladder:
    """What a trial learnt, and populations repeat: the rungs, the last of them at beta = 1."""

    rungs: tuple[Rung, ...]

    def moving(self, local: int) -> Ladder:
        """The same with no fewer than so many local moves a round."""
        return Ladder(tuple(rung._replace(local=max(local, rung.local)) for rung in self.rungs))


class Stage(NamedTuple):
    """What one temperature was like for each of U populations, as ``(U,)`` tensors: reading them is left to the end.

    Attributes:
        increment: Log of the mean weight: the step of the log evidence.
        ess: Effective share of the particles after the step.
        acceptance: Of local moves.
        jump_acceptance: Of jumps.
        nonfinite: Evaluations that gave NaN or ``+inf``.
        spread: Estimated relative variance of the evidence up to here (:func:`rdmc.particles.ancestral_variance`).
    """

    increment: Tensor
    ess: Tensor
    acceptance: Tensor
    jump_acceptance: Tensor
    nonfinite: Tensor
    spread: Tensor


@dataclass(frozen=True, eq=False)
class Trial:
    """A run that learnt its own ladder.

    Attributes:
        population: Particles with law pi, up to the error of one run.
        ladder: To be repeated by other populations.
        log_evidence: Log of the normalising constant; slightly biased, as the ladder is learnt from the same particles.
        judgement: How near the reference was.
        variance: Estimated relative variance of the evidence times the number of particles: of N particles, the standard error of
            the log evidence is about sqrt(variance / N).
    """

    population: Population
    ladder: Ladder
    log_evidence: float
    judgement: Judgement
    variance: float


@dataclass(frozen=True)
class Tempering:
    r"""Sequential Monte Carlo along :math:`g^{1-\beta} \pi^\beta`.

    At each temperature the particles are weighed, resampled (systematic) and moved by rounds of one independence jump from g and
    preconditioned Langevin moves; all moves leave the law of the temperature invariant. A round of a trial has ``local`` of
    these, as they find what the reference leaves out; one of a population has a single one at temperatures where jumps renew it.

    Law: pi in the limit of many particles, whatever g (with wider support). Error O(1/N) in law, O(1/sqrt N) in estimates.
    Evidence: the product of the mean weights; unbiased on the natural scale for a ladder that was learnt elsewhere.
    Cost: ``1 + (1 + local) x rounds`` gradient evaluations a particle, summed over the temperatures; ``1 + 2 x rounds`` where one
    local move a round is enough.

    Args:
        keep: Effective share of the particles that a temperature step keeps, in (0, 1).
        local: Local moves a round, where fewer than ``renewed`` of the jumps are expected to be accepted.
        rounds: Rounds at each temperature but the last.
        last: Least and greatest number of rounds at beta = 1; between them as many as leave ``stale`` of the particles unjumped.
        stale: Share of the particles that may be left where resampling put them, in (0, 1).
        gain: Robbins-Monro gain of the step sizes, while learning.
        renewed: Acceptance of jumps from which on one local move a round is enough, in (0, 1].

    Raises:
        ValueError: If an argument is out of range.

    Source: Del Moral, Doucet and Jasra (2006), JRSS B 68(3), 411-436; Beskos et al. (2016), Ann. Appl. Probab. 26(2) (adaptation).
    """

    keep: float = 0.5
    local: int = 3
    rounds: int = 2
    last: tuple[int, int] = (4, 12)
    stale: float = 0.02
    gain: float = 0.4
    renewed: float = 0.1

    def __post_init__(self) -> None:
        for name in ("keep", "stale"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"`{name}` must be in (0, 1), got {getattr(self, name)!r}")
        if not 0.0 < self.renewed <= 1.0:
            raise ValueError(f"`renewed` must be in (0, 1], got {self.renewed!r}")
        if self.local < 0 or self.rounds < 1:
            raise ValueError(f"`local` and `rounds` must be at least 0 and 1, got {self.local!r} and {self.rounds!r}")
        if not 1 <= self.last[0] <= self.last[1]:
            raise ValueError(f"`last` must be two positive integers in increasing order, got {self.last!r}")

    def begin(self, target: BatchedDensity, law: Law, rng: Streams) -> Population:
        """Draws of the reference, a population for each shard of equal size. Cost: one gradient evaluation a particle."""
        x, _ = law.draw(rng)
        value, grad = target.value_and_grad(x)
        return Population(x, value, grad, torch.arange(rng.sizes[0], device=x.device).repeat(len(rng.sizes)))

    def learn(self, target: BatchedDensity, reference: Reference, rng: Streams) -> Trial:
        """Go from the reference to the target, choosing temperatures and step sizes on the way.

        Raises:
            DensityError: If the density is finite at none of the draws of the reference.
        """
        population = self.begin(target, reference.law, rng)
        start = log_ratio(*population[:2], reference.law)
        forward = float(forward_efficiency(start))
        if math.isnan(forward):
            raise DensityError(
                f"`log_density` must be finite at some of the {len(start)} draws of the reference ({reference.name}), got "
                f"{population.value.unique().tolist()[:4]}; the reference lies outside the support"
            )
        local = MixtureMALA(reference.guide)
        at = Tempered(target, reference.law, 1.0).state(*population[:3])
        tuning, log_evidence, beta = local.tuning(at, rng), 0.0, 0.0
        rungs: list[Rung] = []
        jump = 0.0
        while beta < 1.0:
            ratio = log_ratio(*population[:2], reference.law)
            step = next_beta(ratio, beta, self.keep) if len(rungs) < _LONGEST else 1.0
            rounds = self.rounds if step < 1.0 else self.last[0]
            jumps = float(jump_acceptance(step * start, step * ratio, (step - beta) * ratio))
            few = min(self.local, 1) if jumps >= self.renewed else self.local
            rung = Rung(step, rounds, tuning, self.local)  # a trial's local moves find what the reference leaves out
            population, tuning, stage = self.step(target, reference, population, beta, rung, rng, self.gain)
            beta, log_evidence = step, log_evidence + float(stage.increment)
            jump = float(stage.jump_acceptance)
            rungs.append(rung._replace(tuning=tuning, local=few))
        rungs[-1] = rungs[-1]._replace(rounds=self.last_rounds(jump))
        end = log_ratio(*population[:2], reference.law)
        reverse = float(reverse_efficiency(end, torch.tensor(log_evidence, dtype=end.dtype)))
        judgement = Judgement(forward, reverse, jump)
        variance = float(stage.spread) * len(population.x)
        return Trial(population, Ladder(tuple(rungs)), log_evidence, judgement, variance)

    def last_rounds(self, jump: float) -> int:
        """Rounds at beta = 1 after which no more than ``stale`` of the particles have not jumped."""
        low, high = self.last
        if not 0.0 < jump < 1.0:
            return low if jump >= 1.0 else high
        return min(high, max(low, math.ceil(math.log(self.stale) / math.log1p(-jump))))

    def step(
        self,
        target: BatchedDensity,
        reference: Reference,
        population: Population,
        beta: float,
        rung: Rung,
        rng: Streams,
        gain: float = 0.0,
    ) -> tuple[Population, Tensor, Stage]:
        """From ``beta`` to the rung: weigh, resample, move.

        Args:
            target: log pi.
            reference: g and its guide.
            population: Particles at ``beta``.
            beta: Where they are, in [0, 1).
            rung: Where they go.
            rng: A shard of N particles for each population.
            gain: Of the adaptation of step sizes, of each population by its own particles; 0 leaves them.

        Returns:
            The particles at the rung's beta, the ``(U, K)`` step sizes at the end, and what the stage was like.
        """
        u = len(rng.sizes)
        log_weight = ((rung.beta - beta) * log_ratio(*population[:2], reference.law)).view(u, -1)
        chosen = in_batch(systematic(log_weight, rng.uniform((rng.particles,)).view(u, -1)[:, :1]))
        x, value, grad, origin = (part[chosen] for part in population)
        f = Tempered(target, reference.law, rung.beta)
        state, tuning, metric = f.state(x, value, grad), rung.tuning.expand(u, -1), Isotropic()
        jump, local = IndependenceJump(reference.law), MixtureMALA(reference.guide)
        jumped, moved, wrong = [], [], []
        for _ in range(rung.rounds):
            state, info = jump.step(f, state, rng, tuning, metric)
            jumped.append(info.acceptance.view(u, -1).mean(1))
            wrong.append(info.nonfinite.view(u, -1).sum(1))
            for _ in range(rung.local):
                state, info = local.step(f, state, rng, tuning, metric)
                if gain:
                    tuning = local.adapt(tuning, info, gain)
                moved.append(info.acceptance.view(u, -1).mean(1))
                wrong.append(info.nonfinite.view(u, -1).sum(1))
        value, grad = f.target_part(state)
        stage = Stage(
            log_mean_exp(log_weight),
            forward_efficiency(log_weight),
            torch.stack(moved or [value.new_full((u,), math.nan)]).mean(0),
            torch.stack(jumped).mean(0),
            torch.stack(wrong).sum(0),
            ancestral_variance(log_weight, population.origin.view(u, -1)),
        )
        return Population(state.x, value, grad, origin), tuning, stage


def log_ratio(x: Tensor, value: Tensor, law: Law) -> Tensor:
    """``(N,)`` log pi/g at ``(N, d)`` points where log pi is ``value``; ``-inf`` where pi is 0 or not a number.

    It is ``-inf`` too where a tenth of a nat is less than the last digit of log pi: there all points would seem equally likely. A
    move can't have accepted such points, but a first draw can meet them.
    """
    ratio = value - law.log_prob(x)
    unknown = torch.isnan(ratio) | (ratio == torch.inf) | (value.abs() * torch.finfo(value.dtype).eps > _TELLING)
    return ratio.masked_fill(unknown, -torch.inf)


def next_beta(ratio: Tensor, beta: float, keep: float) -> float:
    """The largest beta that keeps the share, by bisection on the logarithm of the step."""
    if float(forward_efficiency((1.0 - beta) * ratio)) >= keep:
        return 1.0
    low, high = math.log(1e-12), math.log(1.0 - beta)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if float(forward_efficiency(math.exp(middle) * ratio)) >= keep:
            low = middle
        else:
            high = middle
    return beta + math.exp(low)
