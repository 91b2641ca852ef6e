"""`init` and `step` in BlackJAX's way: invariance, and the generator is the only source of randomness."""

from __future__ import annotations

import math

import pytest
import torch

import rdmc
from rdmc.interop.blackjax import algorithm
from rdmc.kernels import HMC, MALA, ULA, Diagonal
from tests.stats import assert_within


def log_density(x: torch.Tensor) -> torch.Tensor:
    """The logarithm of a standard exponential variable, in each coordinate: mean -0.5772, variance pi^2 / 6."""
    return (x - x.exp()).sum(-1)


EULER = 0.5772156649015329


@pytest.mark.parametrize("kernel", [MALA(step_size=0.8), HMC(step_size=0.6, leapfrogs=4)], ids=["MALA", "HMC"])
def test_steps_leave_the_law_invariant(kernel: MALA | HMC) -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(20_000, 2, dtype=torch.float64, generator=generator)
    chains = algorithm(kernel, log_density, metric=Diagonal(torch.tensor([1.3, 0.7], dtype=torch.float64)))
    state = chains.init(torch.log(-torch.log1p(-u)))
    start = state.x
    for _ in range(30):
        state, info = chains.step(generator, state)
    assert 0.3 < float(info.acceptance.mean()) < 0.99
    assert float((state.x == start).all(-1).double().mean()) < 0.01
    n = len(u) ** 0.5
    assert_within(state.x.mean(0), -EULER, state.x.std(0) / n, label="mean")
    square = (state.x + EULER).square()
    assert_within(square.mean(0), math.pi**2 / 6.0, square.std(0) / n, label="variance")


def test_the_generator_is_the_only_source_of_randomness() -> None:
    before = torch.get_rng_state()

    def go(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        chains = algorithm(MALA(), log_density)
        state = chains.init(torch.zeros(4, 3, dtype=torch.float64))
        for _ in range(5):
            state, _ = chains.step(generator, state)
        return state.x

    assert torch.equal(go(1), go(1))
    assert not torch.equal(go(1), go(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_tuning_metric_and_counts_are_used() -> None:
    density = rdmc.Density(log_density, 2)
    x = torch.zeros(5, 2, dtype=torch.float64)

    def move(tuning: float, scale: float = 1.0) -> torch.Tensor:
        metric = Diagonal(torch.full((2,), scale, dtype=torch.float64))
        chains = algorithm(ULA(), density, metric=metric, tuning=tuning)
        return chains.step(torch.Generator().manual_seed(0), chains.init(x))[0].x

    h = 1e-8  # noise only: the drift is of order h
    assert torch.allclose(move(math.log(4.0 * h)), 2.0 * move(math.log(h)), rtol=1e-3)
    assert torch.allclose(move(math.log(h), 3.0), 3.0 * move(math.log(h)), rtol=1e-3)
    assert density.counter.gradients == 4 * 10
    with pytest.raises(ValueError, match=r"`position` must be \(B, d\).*got \(2,\)"):
        algorithm(MALA(), log_density).init(torch.zeros(2))
