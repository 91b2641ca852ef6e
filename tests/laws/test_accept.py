"""The accept step, case by case: by its definition, and MALA's ratio by the densities of the way there and the way back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rdmc.kernels import MALA, Isotropic, State
from rdmc.kernels.base import metropolis
from rdmc.rng import Streams
from tests.laws.cases import F, skewed, skewed_draws


@pytest.mark.parametrize("dim", [2, 9])
def test_accept_or_stay_follows_the_definition(dim: int) -> None:
    values = [0.5, -math.inf, math.inf, math.nan]
    ratios = [-3.0, -0.1, 0.0, 2.0, -math.inf, math.inf, math.nan]
    pairs = [(value, ratio) for value in values for ratio in ratios]
    n, log_u = len(pairs), -1.0
    value, ratio = torch.tensor(pairs, dtype=F).T
    here = State(torch.zeros(n, dim, dtype=F), torch.zeros(n, dtype=F), torch.full((n, dim), 2.0, dtype=F))
    there = State(torch.ones(n, dim, dtype=F), value, torch.full((n, dim), 3.0, dtype=F))
    after, info = metropolis(here, there, ratio, torch.full((n,), log_u, dtype=F))
    for i, (v, r) in enumerate(pairs):
        wrong = math.isnan(v) or v == math.inf or (v != -math.inf and math.isnan(r))
        chance = 0.0 if wrong or v == -math.inf else min(1.0, math.exp(min(r, 0.0)))
        accepted = math.log(chance) > log_u if chance else False
        assert bool(info.nonfinite[i]) == wrong, (v, r)
        assert float(info.acceptance[i]) == pytest.approx(chance), (v, r)
        assert after.x[i].tolist() == [float(accepted)] * dim, (v, r)
        assert after.grad[i].tolist() == [2.0 + float(accepted)] * dim, (v, r)
        assert float(after.value[i]) == (v if accepted else 0.0), (v, r)


@pytest.mark.parametrize("dim", [2, 3, 12])
def test_mala_accepts_by_the_ratio_of_its_two_proposal_densities(dim: int) -> None:
    """The acceptance from the two Gaussian densities of the way there and the way back, each written out."""
    f, h, scale = skewed(dim), 0.3, 0.7
    rng = Streams.seeded(3, [200])
    state = MALA().init(f, skewed_draws((200, dim), seed=4))
    noise = Streams.seeded(3, [200]).normal((200, dim))
    _, info = MALA().step(f, state, rng, torch.full((200,), math.log(h), dtype=F), Isotropic(scale))
    there = state.x + h * scale**2 * state.grad + math.sqrt(2.0 * h) * scale * noise
    value, grad = f.value_and_grad(there)

    def log_q(to: Tensor, x: Tensor, slope: Tensor) -> Tensor:
        return -(to - x - h * scale**2 * slope).square().sum(-1) / (4.0 * h * scale**2)

    log_ratio = value - state.value + log_q(state.x, there, grad) - log_q(there, state.x, state.grad)
    off = float((info.acceptance - log_ratio.clamp(max=0.0).exp()).abs().max())
    assert off < 1e-10, f"acceptance off by {off:.1e}"
    assert 0.05 < float((log_ratio < 0.0).double().mean()) < 0.99
