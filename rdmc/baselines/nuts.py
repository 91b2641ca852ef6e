"""The No-U-Turn sampler of BlackJAX, chains side by side, on the same footing as the other baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdmc.baselines.foreign import require, words
from rdmc.baselines.jax_bridge import Jax
from rdmc.baselines.starts import overdispersed
from rdmc.baselines.windows import Windows, WindowsState
from rdmc.coordinates import InCoordinates
from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.locate.pilot import Pilot
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit, located

__all__ = ["NUTS", "NUTSState"]

_STAGES = 50
_LEAPFROGS = 24.0  # evaluations a step that the warm-up is planned with: many chains in lockstep take 25, four take 10
_LONGEST_WARMUP = 1000  # Stan's


class _Engine(NamedTuple):
    """The plan's detail: JAX, the adaptation, and compiled functions.

    ``init`` evaluates ``(B, d)`` points; ``step`` takes keys, chains, step sizes and metrics; ``split`` takes ``(B,)``
    keys to ``(2, B)``.
    """

    jax: Jax
    windows: Windows
    init: Callable[..., Any]
    step: Callable[..., Any]
    split: Callable[..., Any]


class _Sums(NamedTuple):
    """``(B,)`` sums over the steps after the warm-up."""

    acceptance: Any
    divergences: Any
    leapfrogs: Any


@dataclass(frozen=True, eq=False)
class NUTSState:
    """Everything the chains need between two stages.

    Attributes:
        chains: BlackJAX's state, one chain a row.
        windows: State of the adaptation.
        warmup_keys: ``(B, W)`` JAX keys of the warm-up's steps.
        keys: ``(B,)`` JAX keys of the steps after it.
        warm: Steps of the warm-up done; W once it is over.
        parameters: Step sizes ``(B,)`` and inverse mass matrices ``(B, d)`` after the warm-up; None before.
        positions: ``(n, B, d)`` pieces of the path after the warm-up, every step of it.
        sums: Sums of diagnostics over these steps.
        steps: Their number.
        spent: Evaluations so far, of all chains.
        total: Evaluations allowed.
        draws: Wanted of each chain.
    """

    chains: Any
    windows: WindowsState
    warmup_keys: Any
    keys: Any
    warm: int
    parameters: tuple[Any, Any] | None
    positions: tuple[Tensor, ...]
    sums: _Sums | None
    steps: int
    spent: int
    total: float
    draws: int


@dataclass(frozen=True)
class NUTS:
    """NUTS with window adaptation, by BlackJAX.

    Chains run in the pilot's coordinates from over-dispersed points; step size and diagonal metric are adapted per
    chain in Stan's windows. The torch density crosses to JAX in one batch for all chains. Chains go in lockstep: while
    one still builds its tree the others are evaluated too, and this is counted, as it is spent. After the warm-up,
    steps go on until the budget is used; the draws are taken from all of them at even distances. If there are fewer
    steps than draws, some are repeated, and the effective sample size shows it.

    Law: pi in the limit of a long chain. Between separated modes that limit is out of reach.
    Cost: ``budget`` gradient evaluations a draw, warm-up included, plus the pilot; the last step may overrun it by one
    tree.

    Args:
        budget: Gradient evaluations per draw.
        warmup: Fraction of the budget for the warm-up, in (0, 1). It takes at most 1000 steps, and is cut short where
            trees are so large that its share is used up before.
        doublings: Trees have at most 2^doublings - 1 leapfrogs.
        target_acceptance: In (0, 1); where the step size is steered to.
        pilot: How coordinates and starting points are found.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: At the run, if BlackJAX is missing.

    Source: Hoffman and Gelman (2014), JMLR 15, 1593-1623; BlackJAX, arXiv:2402.10797.

    Example:
        >>> NUTS(budget=200).doublings
        10
    """

    budget: float = 100.0
    warmup: float = 0.5
    doublings: int = 10
    target_acceptance: float = 0.8
    pilot: Pilot = Pilot()

    def __post_init__(self) -> None:
        if not self.budget > 0.0:
            raise ValueError(
                f"`budget` must be a positive number of gradient evaluations per draw, got {self.budget!r}"
            )
        if isinstance(self.doublings, bool) or not isinstance(self.doublings, int) or self.doublings < 1:
            raise ValueError(f"`doublings` must be an integer of at least 1, got {self.doublings!r}")
        for name in ("warmup", "target_acceptance"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"`{name}` must be in (0, 1), got {getattr(self, name)!r}")

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """All chains side by side in one batch, each with its own streams."""
        return (tuple(Unit(chain, 0, 1) for chain in range(chains)),)

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        """Run the pilot, and have JAX ready."""
        blackjax = require("blackjax", "nuts")
        runtime = Jax.at(density, "nuts")
        jax = runtime.jax
        survey = located(self.pilot, density, seed, journal)
        f = runtime.log_density(InCoordinates(density, survey.affine))
        kernel = blackjax.nuts.build_kernel()

        def step(keys: Any, chains: Any, step_size: Any, metric: Any) -> Any:
            def one(key: Any, chain: Any, size: Any, inverse_mass: Any) -> Any:
                chain, info = kernel(key, chain, f, size, inverse_mass, max_num_doublings=self.doublings)
                return chain, _Sums(info.acceptance_rate, info.is_divergent, info.num_integration_steps)

            return jax.vmap(one)(keys, chains, step_size, metric)

        init = jax.jit(jax.vmap(lambda x: blackjax.nuts.init(x, f)))
        split = jax.jit(lambda keys: jax.vmap(jax.random.split, out_axes=1)(keys))
        return Plan(survey, _Engine(runtime, Windows.of(runtime, self.target_acceptance), init, jax.jit(step), split))

    def warmup_steps(self, draws: int) -> int:
        """Steps of the warm-up, if it isn't cut short."""
        return max(1, min(_LONGEST_WARMUP, int(self.warmup * self.budget * draws / _LEAPFROGS)))

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> NUTSState:
        """Evaluate over-dispersed starting points."""
        engine: _Engine = plan.detail
        jax = engine.jax.jax
        with engine.jax.scope():
            x = engine.jax.array(overdispersed(plan.found, rng))
            warm, keys = engine.split(engine.jax.keys(words(rng, 2)))
            warm = jax.vmap(lambda key: jax.random.split(key, self.warmup_steps(draws)))(warm)
            chains = jax.block_until_ready(engine.init(x))
            windows = engine.windows.init(x)
        total = self.budget * draws * rng.particles
        return NUTSState(chains, windows, warm, keys, 0, None, (), None, 0, rng.particles, total, draws)

    def advance(self, density: Density, plan: Plan, state: NUTSState, rng: Streams) -> NUTSState:
        """A fiftieth of the budget, of the warm-up or after it."""
        engine: _Engine = plan.detail
        with engine.jax.scope():
            goal = min(state.total, state.spent + state.total / _STAGES)
            if state.parameters is None:
                return self._adapt(density, engine, state, goal)
            return _draw(density, engine, state, state.parameters, goal)

    def _adapt(self, density: Density, engine: _Engine, state: NUTSState, goal: float) -> NUTSState:
        """Steps of the warm-up until ``goal`` evaluations are spent."""
        before, spent, warm = density.counter.gradients, state.spent, state.warm
        chains, windows, steps = state.chains, state.windows, state.warmup_keys.shape[1]
        schedule = engine.windows.schedule(steps)
        while warm < steps and spent < goal:
            chains, info = engine.step(state.warmup_keys[:, warm], chains, windows.step_size, windows.metric)
            slow, closes = (bool(flag) for flag in schedule[warm])
            windows = engine.windows.update(windows, chains.position, info.acceptance, slow, closes)
            engine.jax.jax.block_until_ready(chains)  # so that the step's evaluations are counted
            spent, warm = state.spent + density.counter.gradients - before, warm + 1
        over = warm == steps or spent >= self.warmup * state.total
        parameters = (engine.windows.final(windows), windows.metric) if over else None
        return replace(state, chains=chains, windows=windows, warm=warm, parameters=parameters, spent=spent)

    def progress(self, plan: Plan, state: NUTSState) -> Progress:
        """Share of the budget that is used."""
        finished = state.steps > 0 and state.spent >= state.total
        done = _STAGES if finished else min(_STAGES - 1, int(_STAGES * state.spent / state.total))
        return Progress(done, _STAGES, "warm-up" if state.parameters is None else "sampling")

    def collect(self, density: Density, plan: Plan, state: NUTSState) -> Block:
        """The draws, at even distances along the path; before the first step, the present points."""
        engine: _Engine = plan.detail
        if state.sums is None or state.parameters is None:
            return Block(plan.found.affine.to_user(engine.jax.tensor(state.chains.position))[:, None, :])
        path = torch.cat(state.positions)
        at = torch.arange(1, state.draws + 1, dtype=torch.float64) * (state.steps / state.draws)
        picked = path[(at.ceil().to(torch.int64) - 1).clamp(0, state.steps - 1).to(path.device)]
        inner = {
            "acceptance": np.array(state.sums.acceptance, np.float64)[:, None] / state.steps,
            "divergences": np.array(state.sums.divergences, np.float64)[:, None],
            "leapfrogs": np.array(state.sums.leapfrogs, np.float64)[:, None] / state.steps,
            "step_size": np.array(state.parameters[0], np.float64)[:, None],
        }
        return Block(plan.found.affine.to_user(picked.transpose(0, 1)), inner)


def _draw(density: Density, engine: _Engine, state: NUTSState, parameters: tuple[Any, Any], goal: float) -> NUTSState:
    """Steps after the warm-up, at least one, until ``goal`` evaluations are spent."""
    before, spent, sums = density.counter.gradients, state.spent, state.sums
    path: list[Any] = []
    chains, keys = state.chains, state.keys
    while not path or spent < goal:
        keys, now = engine.split(keys)
        chains, info = engine.step(now, chains, *parameters)
        path.append(np.array(chains.position))  # waits for the step, so that its evaluations are counted
        sums = info if sums is None else _Sums(*(a + b for a, b in zip(sums, info, strict=True)))
        spent = state.spent + density.counter.gradients - before
    positions = (*state.positions, engine.jax.tensor(np.stack(path)))
    steps = state.steps + len(path)
    return replace(state, chains=chains, keys=keys, positions=positions, sums=sums, steps=steps, spent=spent)
