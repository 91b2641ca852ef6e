"""Moves on the laws between two noise levels: what they leave invariant, what they are worth, and that no law runs away."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from rdmc.guidance.moves import Power, moved
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from tests.exact.guided import GuidedPair
from tests.laws.test_power_posterior import POSTERIOR, PRIOR, F, gaussian, run, sampler, truth
from tests.stats import assert_within

N = 20_000


@pytest.mark.parametrize("g", [1.0, -0.4, 3.0])
def test_moves_leave_the_product_as_it_is(g: float) -> None:
    """From exact draws, and towards it from elsewhere."""
    product, rng = GuidedPair(POSTERIOR, PRIOR, g).product, Streams.seeded(1, [N], dtype=F)
    f = Power(g, gaussian(POSTERIOR), gaussian(PRIOR))
    begin = rng.normal((N, 2)) * product.variance**0.5
    begin[:, 0] += product.mean
    for x, moves in ((moved(f, begin, 10, rng), 10), (moved(f, torch.zeros_like(begin), 80, rng), 80)):
        first = x[:, 0]
        assert_within(first.mean(), product.mean, (product.variance / N) ** 0.5, label=f"mean after {moves}")
        se = product.variance * (2.0 / N) ** 0.5
        assert_within(first.var(), product.variance, se, label=f"variance after {moves}")
    assert not bool((moved(f, begin, 1, rng) == begin).all()) and moved(f, begin, 0, rng) is begin


@pytest.mark.parametrize("g", [2.0, -3.0])
def test_a_product_without_mass_is_bounded(g: float) -> None:
    """The ratio of the mixtures grows for ever; the law must stay below the one it starts from, and its gradient be its own."""
    wide, narrow = gaussian(PRIOR), gaussian(POSTERIOR)
    f = Power(g, wide, narrow) if g > 0.0 else Power(g, narrow, wide)
    far = torch.tensor([[30.0, 0.0], [0.0, -50.0], [200.0, 200.0]], dtype=F)
    ratio = f(far) - wide.log_prob(far)
    assert float(ratio.max() - ratio.min()) < 1e-6, ratio
    x = torch.randn(50, 2, dtype=F, generator=torch.Generator().manual_seed(0)) * 3.0
    x.requires_grad_()
    (auto,) = torch.autograd.grad(f(x).sum(), x)
    torch.testing.assert_close(f.value_and_grad(x.detach())[1], auto, rtol=1e-9, atol=1e-9)
    free = f(x.detach()) - ((1.0 + g) * f.posterior.log_prob(x.detach()) - g * f.prior.log_prob(x.detach()))
    assert bool((free.abs() < 1e-9).any()) and bool((free < -1e-3).any())  # both parts are seen


def test_strong_guidance_has_an_honest_error() -> None:
    """At g = 3, where paths without moves miss the constant by more than they say."""
    log_z, _ = truth(3.0)
    own = sampler(3.0)
    with_moves, without = (run(dataclasses.replace(own, moves=moves), draws=500, chains=8) for moves in (4, 0))
    assert with_moves.log_evidence is not None and with_moves.log_evidence_mcse is not None
    assert without.log_evidence is not None and without.log_evidence_mcse is not None
    print(f"without moves {without.log_evidence - log_z:+.3f} +- {without.log_evidence_mcse:.3f}")
    assert_within(with_moves.log_evidence, log_z, with_moves.log_evidence_mcse, label="log constant")
    assert with_moves.log_evidence_mcse < 0.1 and abs(with_moves.log_evidence - log_z) < 0.2


def test_moves_of_a_mixture_are_as_long_as_it_is_wide() -> None:
    """In units of the surrogate: the same numbers, ten times as large, make moves ten times as long."""
    small, large = (
        GaussianMixture.isotropic(
            scale * torch.ones(1, 2, dtype=F), scale * torch.ones(1, dtype=F), torch.ones(1, dtype=F)
        )
        for scale in (1.0, 10.0)
    )
    begin = torch.ones(50, 2, dtype=F)
    one = moved(Power(0.0, small, small), begin, 3, Streams.seeded(4, [50], dtype=F))
    ten = moved(Power(0.0, large, large), 10.0 * begin, 3, Streams.seeded(4, [50], dtype=F))
    torch.testing.assert_close(10.0 * one, ten)
