"""Judgements against closed forms: two Gaussians, and a mode that one side cannot see."""

from __future__ import annotations

import math

import pytest
import torch

from rdmc.correct import Judgement
from rdmc.correct.judge import forward_efficiency, jump_acceptance, log_mean_exp, reverse_efficiency
from rdmc.mixture import GaussianMixture
from rdmc.student import StudentMixture
from tests.correct.cases import pair, streams
from tests.laws.cases import F, generator
from tests.stats import assert_within


def gaussian(mean: float, sd: float) -> GaussianMixture:
    one = torch.ones(1, dtype=F)
    return GaussianMixture.isotropic(mean * one[None], sd * one, one)


def share(mean: float, sd: float) -> float:
    """1/(1 + chi-square) of N(0, 1) from N(mean, sd^2): E_g[(pi/g)^2] in closed form."""
    a = 2.0 - 1.0 / sd**2  # precision of pi^2 / g
    b = -mean / sd**2
    log = math.log(sd / math.sqrt(a)) + 0.5 * b**2 / a + 0.5 * mean**2 / sd**2
    return math.exp(-log)


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (0.0, 2.0), (0.7, 1.3), (-1.5, 1.6)])
@pytest.mark.parametrize("log_z", [0.0, 400.0, -900.0])
def test_both_sides_agree_with_the_closed_form(mean: float, sd: float, log_z: float) -> None:
    """Twenty blocks of 4000 draws give the error; a constant in the density changes nothing."""
    pi, g = gaussian(0.0, 1.0), gaussian(mean, sd)
    forward, reverse = [], []
    for block in range(20):
        x, y = (law.draw(streams(4000, block, k))[0] for k, law in enumerate((g, pi)))
        forward.append(forward_efficiency(pi.log_prob(x) + log_z - g.log_prob(x)))
        reverse.append(reverse_efficiency(pi.log_prob(y) + log_z - g.log_prob(y), torch.tensor(log_z, dtype=F)))
    for name, side in (("forward", torch.stack(forward)), ("reverse", torch.stack(reverse))):
        if sd == 1.0:
            torch.testing.assert_close(side, torch.ones(20, dtype=F), rtol=1e-10, atol=0.0)
        else:
            # a ratio of means: bias O(1/4000)
            assert_within(side.mean(), share(mean, sd), side.std() / 20**0.5, 20, allowance=1e-3, label=name)


def test_only_the_reverse_sees_a_missing_mode() -> None:
    """A reference at one of two modes: its own draws praise it, those of the target do not."""
    pi = pair(0.4, 12.0)
    one = GaussianMixture(pi.log_weight[1:], pi.mean[1:], pi.basis[1:], pi.variance[1:])
    g = StudentMixture(one.widened(1.1), 12)
    x, y = g.draw(streams(4000))[0], pi.draw(streams(4000, 1))[0]
    assert float(forward_efficiency(pi.log_prob(x) - g.log_prob(x))) > 0.8
    assert float(reverse_efficiency(pi.log_prob(y) - g.log_prob(y), torch.zeros((), dtype=F))) < 1e-3


def test_expected_jumps_are_the_mean_over_all_pairs() -> None:
    """Also where particles and draws have no density at all, and whatever the constant."""
    g = generator(3)
    proposed, present, log_weight = (3.0 * torch.randn(n, generator=g, dtype=F) for n in (300, 500, 500))
    for part in (proposed, present, log_weight):
        part[:7] = -torch.inf
    pairs = (proposed[None] - present[7:, None]).clamp(max=0.0).exp().mean(1)
    expected = (torch.softmax(log_weight[7:], 0) * pairs).sum()
    for shift in (0.0, 900.0, -900.0):
        found = jump_acceptance(proposed + shift, present + shift, log_weight - shift)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0.0)
    assert 0.3 < float(expected) < 0.7


def test_log_mean_exp_is_the_log_of_a_mean() -> None:
    values = torch.tensor([0.0, math.log(3.0), -torch.inf, 0.0], dtype=F)
    assert float(log_mean_exp(values)) == pytest.approx(math.log(5.0 / 4.0))
    assert float(log_mean_exp(values + 5000.0)) == pytest.approx(5000.0 + math.log(5.0 / 4.0))


def test_an_efficiency_of_n_weights_is_between_1_over_n_and_1() -> None:
    one = torch.full((50,), -torch.inf, dtype=F)
    one[7] = 3.0
    assert float(forward_efficiency(one)) == pytest.approx(1.0 / 50.0)
    assert float(forward_efficiency(torch.zeros(50, dtype=F))) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("judgement", "score"),
    [((0.9, 0.4, 0.6), 0.4), ((0.9, math.nan, 0.6), 0.0), ((math.nan, 0.5, 0.6), 0.0), ((0.5, 0.6, 0.2), 0.2)],
)
def test_a_score_is_the_least_and_an_unknown_one_is_none(judgement: tuple[float, float, float], score: float) -> None:
    assert Judgement(*judgement).score == score
