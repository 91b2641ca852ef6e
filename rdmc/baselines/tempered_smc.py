"""Adaptive tempered sequential Monte Carlo with HMC moves, by BlackJAX, on the same footing as the other baselines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdmc.baselines.foreign import require, words
from rdmc.baselines.jax_bridge import Jax
from rdmc.baselines.reference import Reference
from rdmc.coordinates import InCoordinates
from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.locate.pilot import Pilot
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit, located

__all__ = ["TemperedSMC", "TemperedSMCState"]

_STAGES = 50
_MOST_MOVES = 16  # powers of two up to here, as every number of moves is compiled anew
_GUESS = 6.0  # temperatures still to come, before anything is known
_POLISH = 2.0  # shares of the budget for moves on pi itself, where the share of a temperature is 1
_DENSITY = 0.5  # cost of a value relative to that of value and gradient
_NEVER = -1e30  # log pi/g outside the support: finite, because BlackJAX multiplies it by a beta of 0


class Engine(NamedTuple):
    """The plan's detail: the reference, JAX, and the compiled steps of BlackJAX.

    ``adaptive(key, particles, moves, parameters)`` finds the next beta itself; ``fixed(key, particles, moves, beta,
    parameters)`` goes to the one given.
    """

    reference: Reference
    jax: Jax
    adaptive: Callable[..., Any]
    fixed: Callable[..., Any]


class _Row(NamedTuple):
    """What one stage was like."""

    beta: float
    acceptance: float
    step_size: float
    evaluations: float


@dataclass(frozen=True, eq=False)
class TemperedSMCState:
    """Everything a population needs between two stages.

    Attributes:
        particles: BlackJAX's state: N particles with weights, and beta.
        key: JAX key.
        log_step: Log step size of HMC, in units of an average mode's width at beta.
        log_evidence: Sum of the increments so far.
        rows: Diagnostics of the stages.
        spent: Gradient evaluations and half the density evaluations so far.
        total: The same, allowed.
        finished: Whether the particles are on pi, with equal weights, and the budget is used.
        pick: ``(draws,)`` which of the N particles are the draws.
    """

    particles: Any
    key: Any
    log_step: float
    log_evidence: float
    rows: tuple[_Row, ...]
    spent: float
    total: float
    finished: bool
    pick: Tensor


@dataclass(frozen=True)
class TemperedSMC:
    r"""Tempered SMC from the Gaussian with the pilot's moments to pi; each population runs its own.

    Each temperature is the largest step that keeps ``target_ess`` of the particles; they are resampled and moved by
    HMC, whose metric is that of an average mode on the path and whose step size follows its acceptance from stage to
    stage. BlackJAX moves first and weighs afterwards, so that its last weights are *not* uniform: a last resampling,
    with all moves that the budget still allows, makes equally weighted draws of them.

    Law: pi in the limit of many particles. With few moves a temperature, particles share ancestors, which the effective
    sample size (draws stand in the order of their ancestors) and the spread between populations show.
    Evidence: of each population, the product of its mean weights; unbiased but for the adaptation.
    Trace: a row a stage: ``beta``, ``acceptance``, ``step_size``, ``evaluations``.
    Cost: ``budget`` evaluations a draw, plus the pilot, where a value without gradient counts half: 2 + moves x
    leapfrogs a particle and temperature. Moves follow from the budget; if it can't pay for another temperature, the
    next step goes to pi at once.

    Args:
        budget: Gradient evaluations per draw.
        target_ess: Effective fraction of the particles after each step of beta, in (0, 1).
        leapfrogs: Leapfrog steps of an HMC move, at least 1.
        particles: Each population has at least this many, and at least one a draw.
        inflation: Standard deviation of the reference relative to the pilot's mixture, >= 1.
        target_acceptance: In (0, 1); where the step size is steered to.
        pilot: How coordinates and the reference are found.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: At the run, if BlackJAX is missing.

    Source: Del Moral, Doucet and Jasra (2006), JRSS B 68(3), 411-436; Jasra et al. (2011), Scand. J. Statist. 38, 1-22
    (adaptation); BlackJAX, arXiv:2402.10797.

    Example:
        >>> TemperedSMC(budget=200).leapfrogs
        5
    """

    budget: float = 100.0
    target_ess: float = 0.5
    leapfrogs: int = 5
    particles: int = 256
    inflation: float = 1.5
    target_acceptance: float = 0.8
    pilot: Pilot = Pilot()

    def __post_init__(self) -> None:
        if not self.budget > 0.0:
            raise ValueError(
                f"`budget` must be a positive number of gradient evaluations per draw, got {self.budget!r}"
            )
        for name in ("target_ess", "target_acceptance"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"`{name}` must be in (0, 1), got {getattr(self, name)!r}")
        for name in ("leapfrogs", "particles"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be an integer of at least 1, got {value!r}")
        if not self.inflation >= 1.0:
            raise ValueError(f"`inflation` must be at least 1, got {self.inflation!r}")

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """A population a batch: each has temperatures of its own."""
        return tuple((Unit(chain, 0, 1),) for chain in range(chains))

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Run the pilot, and have BlackJAX's steps ready to compile."""
        require("blackjax", "tempered-smc")
        runtime = Jax.at(density, "tempered-smc")
        survey = located(self.pilot, density, seed, journal)
        reference = Reference.of(survey, self.inflation)
        return Plan(survey, self.engine(density, reference, runtime))

    def engine(self, density: Density, reference: Reference, runtime: Jax) -> Engine:
        """BlackJAX's adaptive and fixed steps on the path from the reference to the density."""
        smc = require("blackjax.smc", "tempered-smc")
        resampling = require("blackjax.smc.resampling", "tempered-smc")
        hmc = require("blackjax", "tempered-smc").hmc
        jnp = runtime.jax.numpy
        f = runtime.log_density(InCoordinates(density, reference.affine))
        constant = -0.5 * density.dim * math.log(2.0 * math.pi)

        def log_reference(u: Any) -> Any:
            return constant - 0.5 * (u * u).sum()

        def log_ratio(u: Any) -> Any:
            ratio = f(u) - log_reference(u)
            return jnp.where(ratio > _NEVER, ratio, _NEVER)  # NaN compares false

        parts = (log_reference, log_ratio, hmc.build_kernel(), hmc.init, resampling.systematic)
        adaptive = smc.adaptive_tempered.build_kernel(*parts, self.target_ess)
        return Engine(
            reference,
            runtime,
            runtime.jax.jit(adaptive, static_argnums=2),
            runtime.jax.jit(smc.tempered.build_kernel(*parts), static_argnums=2),
        )

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> TemperedSMCState:
        """Draws of the reference."""
        engine: Engine = plan.detail
        number = max(draws, self.particles)
        u = engine.reference.draw(rng, (number,))[:, 0]
        chosen = rng.uniform((number, 1))[:, 0].argsort()[:draws].sort().values
        with engine.jax.scope():
            smc = require("blackjax.smc", "tempered-smc")
            particles = smc.tempered.init(engine.jax.array(u))
            # as an array of its final type, beta doesn't make the second step compile anew
            particles = particles._replace(tempering_param=engine.jax.array(torch.zeros(())))
            key = engine.jax.keys(words(rng, 2))[0]
        log_step = math.log(0.5) - math.log(density.dim) / 4.0
        return TemperedSMCState(particles, key, log_step, 0.0, (), 0.0, self.budget * draws, False, chosen)

    def advance(self, density: Density, plan: Plan, state: TemperedSMCState, rng: Streams) -> TemperedSMCState:
        """One temperature, or at pi some more moves."""
        engine: Engine = plan.detail
        before = density.counter.gradients + _DENSITY * density.counter.densities
        number, beta = state.particles.weights.shape[0], float(state.particles.tempering_param)
        affordable = (state.total - state.spent) / number
        on_pi = beta >= 1.0
        moves = self._moves(state.rows, affordable, on_pi)
        one = 2.0 + self.leapfrogs  # a stage with one move, a particle
        hurry = not on_pi and affordable < 2.0 * one
        with engine.jax.scope():
            jax = engine.jax.jax
            key, now, jitter = jax.random.split(state.key, 3)
            width = engine.reference.width(torch.tensor(beta, dtype=density.dtype, device=density.device))
            uniform = jax.random.uniform(jitter, (number,), engine.jax.numpy_dtype, 0.8, 1.2)
            parameters = {
                "step_size": math.exp(state.log_step) * uniform,
                "inverse_mass_matrix": engine.jax.array(width.square())[None],
                "num_integration_steps": jax.numpy.array([self.leapfrogs]),
            }
            if on_pi or hurry:
                end = engine.jax.array(torch.ones(()))
                particles, info = engine.fixed(now, state.particles, moves, end, parameters)
            else:
                particles, info = engine.adaptive(now, state.particles, moves, parameters)
            increment, acceptance = float(info.log_likelihood_increment), float(info.update_info.acceptance_rate.mean())
            after = float(jax.block_until_ready(particles).tempering_param)
        cost = density.counter.gradients + _DENSITY * density.counter.densities - before
        row = _Row(beta, acceptance, math.exp(state.log_step), cost)
        left = (state.total - state.spent - cost) / number
        return replace(
            state,
            particles=particles,
            key=key,
            log_step=state.log_step + (acceptance - self.target_acceptance),
            log_evidence=state.log_evidence + increment,
            rows=(*state.rows, row),
            spent=state.spent + cost,
            finished=on_pi and after >= 1.0 and left < one,
        )

    def _moves(self, rows: tuple[_Row, ...], affordable: float, on_pi: bool) -> int:
        """HMC moves of the next stage: what each stage still to come could have, rounded down to a power of two."""
        betas = [row.beta for row in rows]
        stages = 0.0 if on_pi else _GUESS
        if not on_pi and len(betas) >= 2 and betas[-2] > 0.0:
            growth = max(1.2, betas[-1] / betas[-2])
            stages = max(1.0, math.log(1.0 / betas[-1]) / math.log(growth) - 1.0)
        share = affordable if on_pi else affordable / (stages + _POLISH)
        moves = max(1.0, min(float(_MOST_MOVES), (share - 2.0) / self.leapfrogs))
        return int(2 ** int(math.log2(moves)))

    def progress(self, plan: Plan, state: TemperedSMCState) -> Progress:
        """Share of the budget that is used."""
        label = f"beta {state.rows[-1].beta:.2g}" if state.rows else "reference"
        done = _STAGES if state.finished else min(_STAGES - 1, int(_STAGES * state.spent / state.total))
        return Progress(done, _STAGES, label)

    def collect(self, density: Density, plan: Plan, state: TemperedSMCState) -> Block:
        """The draws, evidence and the course of the population; of an unfinished one, the particles at their present beta."""
        engine: Engine = plan.detail
        affine = engine.reference.affine
        u = engine.jax.tensor(state.particles.particles)
        columns = np.array(state.rows, dtype=np.float64).reshape(-1, len(_Row._fields)).T
        inner = dict(zip(_Row._fields, columns, strict=True))
        evidence = affine.log_det() + (state.log_evidence if state.finished else math.nan)
        return Block(affine.to_user(u[state.pick.to(u.device)])[None], inner, evidence[None])
