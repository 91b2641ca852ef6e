"""The BlackJAX adapters: what crosses to JAX arrives to the bit, and draws are those of BlackJAX used directly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import targets
from rdmc.baselines import NUTS, TemperedSMC
from rdmc.baselines.foreign import words
from rdmc.baselines.jax_bridge import Jax
from rdmc.baselines.starts import overdispersed
from rdmc.density import Density, as_density
from rdmc.journal import Journal
from rdmc.rng import Streams
from tests.baselines.cases import PILOT
from tests.laws.cases import F, generator, skewed

blackjax = pytest.importorskip("blackjax")
jax = pytest.importorskip("jax")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_density_crosses_batched_counted_and_to_the_bit(dtype: torch.dtype) -> None:
    density = Density(skewed(3).log_density, 3, skewed(3).gradient, dtype=dtype)
    sizes = []
    assert density.gradient is not None
    closed = density.gradient

    def seen(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(x.shape[0])
        return closed(x)

    density = Density(density.log_density, 3, seen, dtype=dtype)
    x = torch.randn(7, 3, generator=generator(0), dtype=F).to(dtype)
    runtime = Jax.at(density, "test")
    with runtime.scope():
        f = runtime.log_density(density)
        value, grad = jax.jit(jax.vmap(jax.value_and_grad(f)))(runtime.array(x))
        alone = jax.jit(jax.vmap(f))(runtime.array(x))
        one = jax.value_and_grad(f)(runtime.array(x[0]))
        found = [runtime.tensor(part) for part in (value, grad, alone, *one)]
    wanted_value, wanted_grad = closed(x)
    assert sizes == [7, 1] and (density.counter.gradients, density.counter.densities) == (8, 7)
    assert (
        torch.equal(found[0], wanted_value)
        and torch.equal(found[1], wanted_grad)
        and torch.equal(found[2], wanted_value)
    )
    torch.testing.assert_close(found[3:], [wanted_value[0], wanted_grad[0]])
    assert all(part.dtype == dtype for part in found)
    assert not jax.config.jax_enable_x64


def test_infinities_and_nan_cross_unchanged() -> None:
    values = torch.tensor([-torch.inf, torch.nan, torch.inf, -0.0, 5e-324], dtype=F)
    density = Density(lambda x: x[:, 0], 1)
    runtime = Jax.at(density, "test")
    with runtime.scope():
        got = runtime.tensor(jax.jit(jax.vmap(runtime.log_density(density)))(runtime.array(values[:, None])))
    assert np.array_equal(got.numpy().view(np.int64)[[0, 2, 3]], values.numpy().view(np.int64)[[0, 2, 3]])
    assert bool(got[1].isnan())


def native(affine: Any) -> Any:
    """The skewed law in JAX, in the coordinates of a pilot."""
    centre, factor = affine.centre.numpy(), affine.factor.numpy()

    def log_density(z: Any) -> Any:
        x = centre + factor @ z
        return (x - jax.numpy.exp(x)).sum()

    return log_density


def test_nuts_is_blackjax_on_a_native_density() -> None:
    """Chain by chain, without vmap and without torch, to 1e-9: JAX's exp and torch's differ in the last bit."""
    density, chains, draws = as_density(skewed(2)), 2, 20
    engine = NUTS(budget=60, pilot=PILOT)
    plan = engine.prepare(density, 0, Journal(density.counter))
    rng = Streams.seeded(0, [1] * chains, [(c, 0) for c in range(chains)])
    warm = begin = engine.start(density, plan, rng, draws)
    starts = begin.chains.position
    while warm.parameters is None:
        warm = engine.advance(density, plan, warm, rng)
    assert warm.warm == engine.warmup_steps(draws)  # not cut short
    state = engine.advance(density, plan, warm, rng)
    path = torch.cat(state.positions)
    again = Streams.seeded(0, [1] * chains, [(c, 0) for c in range(chains)])
    overdispersed(plan.found, again)  # the seeds come after the starting points
    with plan.detail.jax.scope():
        seeds = plan.detail.jax.keys(words(again, 2))
        f = native(plan.found.affine)
        window = blackjax.window_adaptation(blackjax.nuts, f, target_acceptance_rate=0.8)
        nuts = jax.jit(lambda key, chain, p: blackjax.nuts(f, **p, max_num_doublings=10).step(key, chain))
        for c in range(chains):
            first, key = jax.random.split(seeds[c])
            (chain, parameters), _ = window.run(first, starts[c], num_steps=engine.warmup_steps(draws))
            parameters = {name: parameters[name] for name in ("step_size", "inverse_mass_matrix")}
            np.testing.assert_allclose(warm.parameters[0][c], parameters["step_size"], rtol=1e-9)
            np.testing.assert_allclose(warm.parameters[1][c], parameters["inverse_mass_matrix"], rtol=1e-9)
            for step in range(min(10, state.steps)):
                key, now = jax.random.split(key)
                chain, _ = nuts(now, chain, parameters)
                np.testing.assert_allclose(path[step, c].numpy(), np.asarray(chain.position), rtol=1e-9, atol=1e-9)


def test_tempered_smc_is_blackjax_on_a_native_density() -> None:
    """The same particles and evidence increments to 1e-9 as BlackJAX's own top-level sampler on the same keys."""
    density = as_density(skewed(2))
    engine = TemperedSMC(budget=100, particles=64, inflation=8.0, pilot=PILOT)  # far enough for three temperatures
    plan = engine.prepare(density, 0, Journal(density.counter))
    rng = Streams.seeded(0, [1], [(0, 0)])
    state = begin = engine.start(density, plan, rng, 64)
    moves, states = [], []
    for _ in range(2):
        moves.append(engine._moves(state.rows, (state.total - state.spent) / 64, False))
        state = engine.advance(density, plan, state, rng)
        states.append(state)
    assert float(states[0].particles.tempering_param) < 1.0
    reference, runtime = plan.detail.reference, plan.detail.jax
    with runtime.scope():
        f = native(reference.affine)

        def prior(u: Any) -> Any:
            return -0.5 * (u * u).sum() - math.log(2.0 * math.pi)

        particles, key, log_step, evidence = begin.particles, begin.key, begin.log_step, 0.0
        for count, after in zip(moves, states, strict=True):
            key, now, jitter = jax.random.split(key, 3)
            width = reference.width(torch.tensor(float(particles.tempering_param), dtype=F)).square().numpy()
            parameters = {
                "step_size": math.exp(log_step) * jax.random.uniform(jitter, (64,), np.float64, 0.8, 1.2),
                "inverse_mass_matrix": jax.numpy.array(width)[None],
                "num_integration_steps": jax.numpy.array([5]),
            }
            direct = blackjax.adaptive_tempered_smc(
                prior,
                lambda u: f(u) - prior(u),
                blackjax.hmc.build_kernel(),
                blackjax.hmc.init,
                parameters,
                blackjax.smc.resampling.systematic,
                target_ess=0.5,
                num_mcmc_steps=count,
            )
            particles, info = direct.step(now, particles)
            evidence += float(info.log_likelihood_increment)
            log_step += float(info.update_info.acceptance_rate.mean()) - 0.8
            np.testing.assert_allclose(
                np.asarray(after.particles.particles), np.asarray(particles.particles), rtol=1e-8, atol=1e-8
            )
            np.testing.assert_allclose(np.asarray(after.particles.weights), np.asarray(particles.weights), rtol=1e-8)
            assert after.log_evidence == pytest.approx(evidence, abs=1e-9)


def test_final_draws_are_equally_weighted() -> None:
    """BlackJAX leaves weights behind its last temperature; after the last stage there must be none."""
    density = as_density(targets.two_modes(2))
    engine = TemperedSMC(budget=120, pilot=PILOT)
    plan = engine.prepare(density, 0, Journal(density.counter))
    rng = Streams.seeded(0, [1])
    state = engine.start(density, plan, rng, 100)
    weighted = False
    while (progress := engine.progress(plan, state)).done < progress.total:
        state = engine.advance(density, plan, state, rng)
        weights = np.asarray(state.particles.weights)
        weighted |= bool(weights.max() > 1.5 * weights.min())
    assert weighted and float(state.particles.tempering_param) == 1.0
    np.testing.assert_allclose(weights, 1.0 / 256, rtol=1e-9)
    assert engine.collect(density, plan, state).samples.shape == (1, 100, 2)
