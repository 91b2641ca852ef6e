"""A wide law about the peak of a narrow one: mass that no list of modes shows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.correct.hidden import hidden_mass, own_evidence
from rdmc.correct.reference import Reference
from rdmc.density import Density
from rdmc.mixture import GaussianMixture
from tests.correct.cases import spd, streams
from tests.laws.cases import F, generator


def about_a_spike(dim: int, ratio: float, wide: float) -> Density:
    """Two normal laws about 0 of widths 1 and ``ratio``; their masses are ``wide`` and 1 - ``wide``."""

    def f(x: Tensor) -> Tensor:
        h = -0.5 * x.square().sum(-1) - 0.5 * dim * math.log(2.0 * math.pi)
        narrow = math.log(1.0 - wide) - dim * math.log(ratio) - 0.5 * x.square().sum(-1) / ratio**2
        return torch.logaddexp(math.log(wide) + h, narrow - 0.5 * dim * math.log(2.0 * math.pi))

    return Density(f, dim)


@pytest.mark.parametrize(("dim", "ratio", "wide"), [(5, 0.01, 0.5), (10, 0.1, 0.3)])
def test_a_wide_law_about_a_spike_is_found(dim: int, ratio: float, wide: float) -> None:
    result = rdmc.sample(about_a_spike(dim, ratio, wide), draws=250, chains=4, seed=0, progressbar=False)
    assert result.log_evidence is not None and abs(result.log_evidence) < 0.12, f"{result.log_evidence} for 0"
    x = result.samples.flatten(0, 1)
    share = float((x.norm(dim=1) > 5.0 * ratio * dim**0.5).double().mean())
    assert abs(share - wide) < 5.0 * math.sqrt(wide * (1.0 - wide) / len(x)) + 0.01, f"{share} for {wide}"


def test_the_gaussian_that_places_belong_to_has_its_own_mean_covariance_and_mass() -> None:
    """Beside a reference that knows nothing of it, from points in its flanks."""
    covariance, mean = spd(3, 4), torch.tensor([6.0, -2.0, 1.0], dtype=F)
    law = GaussianMixture.from_covariance(mean[None], covariance[None], torch.ones(1, dtype=F))
    density = Density(lambda x: law.log_prob(x) + 1.5, 3)
    unit = GaussianMixture.isotropic(torch.zeros(1, 3, dtype=F), torch.ones(1, dtype=F), torch.ones(1, dtype=F))
    points = mean + 1.5 * torch.randn(5, 3, generator=generator(1), dtype=F) @ torch.linalg.cholesky(covariance).T
    found = hidden_mass(density, Reference.student(unit, 5, 1.0, "unit"), 0.0, points, density(points))
    assert found is not None and found.components == 5
    torch.testing.assert_close(found.mean, mean.expand(5, 3), atol=1e-4, rtol=0.0)
    told = (found.basis * found.variance[:, None]) @ found.basis.mT
    torch.testing.assert_close(told, covariance.expand(5, 3, 3), atol=1e-4, rtol=1e-4)
    # equal masses, whatever part of the flank they are told from
    torch.testing.assert_close(found.log_weight, torch.full((5,), -math.log(5.0), dtype=F), atol=1e-4, rtol=0.0)


def test_a_reference_that_explains_the_trail_hides_nothing_and_costs_nothing() -> None:
    unit = GaussianMixture.isotropic(torch.zeros(1, 4, dtype=F), torch.ones(1, dtype=F), torch.ones(1, dtype=F))
    density = Density(lambda x: unit.log_prob(x) - 3.0, 4)
    reference = Reference.student(unit, 5, 1.05, "unit")
    share, evidence = own_evidence(density, reference, streams(256))
    assert share > 0.6 and abs(evidence + 3.0) < 0.2
    points = 8.0 * torch.randn(100, 4, generator=generator(2), dtype=F)
    before = density.counter.gradients
    assert hidden_mass(density, reference, evidence, points, density(points)) is None
    assert density.counter.gradients == before


def test_places_of_little_mass_do_not_count() -> None:
    """A law 6 nats lighter than the evidence, at places where the reference explains next to nothing."""
    law = GaussianMixture.isotropic(torch.full((1, 2), 9.0, dtype=F), torch.ones(1, dtype=F), torch.ones(1, dtype=F))
    unit = GaussianMixture.isotropic(torch.zeros(1, 2, dtype=F), torch.ones(1, dtype=F), torch.ones(1, dtype=F))
    points = torch.full((3, 2), 9.5, dtype=F)
    for nats, expected in ((6.0, False), (1.0, True)):
        density = Density(lambda x, nats=nats: law.log_prob(x) - nats, 2)
        found = hidden_mass(density, Reference.student(unit, 20, 1.0, "unit"), 0.0, points, density(points))
        assert (found is not None) == expected
