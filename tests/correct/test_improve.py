"""Fits to draws of fits: the law of what is resampled, and a target that a trapped population doesn't show."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rdmc.coordinates import Affine
from rdmc.correct import Reference, Tempering
from rdmc.correct.candidates import fitted
from rdmc.correct.improve import improved, nearer
from rdmc.correct.judge import forward_efficiency, log_mean_exp
from rdmc.correct.temper import next_beta
from rdmc.density import Density
from rdmc.locate.survey import Survey
from rdmc.mixture import GaussianMixture
from tests.correct.cases import as_target, gaussian_law, streams
from tests.laws.cases import F
from tests.stats import assert_within


def isotropic(dim: int, mean: float, sd: float) -> GaussianMixture:
    one = torch.ones(1, dtype=F)
    return GaussianMixture.isotropic(torch.full((1, dim), mean, dtype=F), sd * one, one)


def test_resampled_draws_have_the_law_between_both() -> None:
    """g^(1-b) pi^b of two Gaussians is one; b comes back from the mean, and the variance must be that of the same b."""
    n, shift, sd = 100_000, 1.5, 0.6
    target = as_target(isotropic(1, shift, sd), 2.0)
    x, value, evidence = nearer(target, isotropic(1, 0.0, 1.0), streams(n))
    precision = shift / sd**2 / float(x.mean())  # mean = b shift / sd^2 / (1 - b + b / sd^2)
    beta = 1.0 / (precision - 1.0 / sd**2 + 1.0)
    y = isotropic(1, 0.0, 1.0).draw(streams(n, 1))[0]
    bold = next_beta(target(y) - isotropic(1, 0.0, 1.0).log_prob(y), 0.0, 0.3)
    assert 0.2 < bold < 0.98 and beta == pytest.approx(bold, abs=0.03)
    variance = 1.0 / (1.0 - beta + beta / sd**2)
    # resampling leaves .3 of the draws
    assert_within(x.var(), variance, variance * math.sqrt(2.0 / (0.3 * n)), n, k=6.0, label="variance")
    torch.testing.assert_close(value, target(x))
    assert evidence == pytest.approx(2.0, abs=0.1) and target.counter.gradients == 0


def test_where_the_target_is_nowhere_nothing_is_drawn() -> None:
    nowhere = Density(lambda x: torch.full_like(x[..., 0], -torch.inf), 1, dtype=F)
    x, _, evidence = nearer(nowhere, isotropic(1, 0.0, 1.0), streams(100))
    assert len(x) == 0 and evidence == -math.inf


def test_fits_to_draws_of_fits_reach_what_a_trapped_population_does_not_show() -> None:
    """A Gaussian thirty times as wide as the population that was drawn of it: one fit sees next to none of it."""
    dim, wide = 6, 30.0
    target = as_target(isotropic(dim, 0.0, wide))
    survey = Survey(
        Affine(torch.zeros(dim, dtype=F), torch.eye(dim, dtype=F)),
        isotropic(dim, 0.0, 1.0),
        torch.zeros(1, dtype=F),
        torch.ones(1, dtype=torch.int64),
        0.0,
    )
    law = gaussian_law(torch.zeros(dim, dtype=F), torch.eye(dim, dtype=F))
    first = Reference(law, isotropic(dim, 0.0, 1.0), "narrow")
    trial = Tempering(rounds=1, last=(1, 1)).learn(target, first, streams(1000, 1))
    # as if no move had been made: the draws that the narrow reference can show
    x = law.draw(streams(1000, 2))[0]
    trial = replace(
        trial, population=trial.population._replace(x=x, value=target(x)), log_evidence=-dim * math.log(wide)
    )

    def share_and_evidence(reference: Reference) -> tuple[float, float]:
        y = reference.law.draw(streams(4000, 3))[0]
        ratio = target(y) - reference.law.log_prob(y)
        return float(forward_efficiency(ratio)), float(log_mean_exp(ratio))

    once = share_and_evidence(fitted(target, survey, first, trial, streams(1000, 4))[0])
    more = share_and_evidence(improved(target, survey, first, trial, streams(1000, 4))[0])
    print(f"share and log evidence of one fit {once}, of several {more}, truth 0")
    assert once[0] < 0.02 and more[0] > 5.0 * once[0]
    assert abs(more[1]) < 0.2 < abs(once[1])
