"""Batch and match: exact for Gaussians, equivariant under affine maps, and at the scale of the mass where a peak has a kink."""

from __future__ import annotations

import math

import pytest
import torch

import rdmc
import targets
from rdmc.coordinates import Affine, InCoordinates
from rdmc.correct.first import First, along_trail, at_modes, first_reference, matched, on_trail
from rdmc.correct.judge import forward_efficiency, log_mean_exp
from rdmc.density import Density, as_density
from rdmc.locate.matching import Matching
from rdmc.locate.pilot import Pilot
from rdmc.locate.trail import Trail
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.sampler import pilot_streams
from tests.correct.cases import streams
from tests.laws.cases import F, generator
from tests.marks import slow


def random_affine(dim: int, seed: int, spread: float = 1.0) -> Affine:
    """A rotation after scales from ``e^-spread`` to ``e^spread``, and a shift."""
    g = generator(seed)
    turned = torch.linalg.qr(torch.randn(dim, dim, generator=g, dtype=F)).Q
    scales = torch.linspace(-spread, spread, dim, dtype=F).exp()
    return Affine(torch.randn(dim, generator=g, dtype=F), turned * scales)


def law(affine: Affine) -> GaussianMixture:
    """N(centre, factor factor^T)."""
    standard = GaussianMixture.isotropic(
        torch.zeros(1, affine.dim, dtype=F), torch.ones(1, dtype=F), torch.ones(1, dtype=F)
    )
    return standard.affine(torch.linalg.solve(affine.factor, -affine.centre), affine.factor)


def laplace(dim: int, affine: Affine) -> Density:
    """Independent Laplace laws in the coordinates of an affine map, normalised."""
    constant = -dim * math.log(2.0) - float(affine.log_det())
    return Density(lambda x: constant - affine.to_white(x).abs().sum(-1), dim)


def test_a_gaussian_is_matched() -> None:
    """Scales from 1/7 to 7, from N(0, I) and a narrower one: both arrive in eight steps of 24 draws."""
    goal = law(random_affine(6, 0, spread=2.0))
    start = GaussianMixture.isotropic(
        goal.mean + 0.1 * torch.eye(2, 6, dtype=F), torch.tensor([1.0, 0.3], dtype=F), torch.ones(2, dtype=F)
    )
    found, bound = Matching(draws=24).mixture(Density(goal.log_prob, 6), start, streams(200)) or (
        start,
        start.log_weight,
    )
    assert found is not start and found.components == 2
    for k in range(2):
        white = torch.linalg.solve(goal.factor[0], found.factor[k])
        torch.testing.assert_close(white @ white.T, torch.eye(6, dtype=F), rtol=0, atol=1e-4)
        assert float(torch.linalg.solve(goal.factor[0], found.mean[k] - goal.mean[0]).norm()) < 1e-4
    torch.testing.assert_close(bound, torch.zeros(2, dtype=F), rtol=0, atol=0.5)


def test_what_has_no_gradient_says_nothing() -> None:
    start = law(random_affine(3, 4))
    f = Density(lambda x: torch.where(x[..., 0] > 1e9, x.sum(-1), -torch.inf), 3)
    assert Matching().mixture(f, start, streams(100)) is None


def test_a_flat_top_ends_at_its_edges() -> None:
    """Nothing bounds a Gaussian on a plateau but the draws that fall off it, which have no gradient; it stays finite."""
    f = Density(lambda x: torch.where((x.abs() < 1.0).all(-1), 0.0 * x.sum(-1), -torch.inf), 2)
    found = Matching(steps=100).mixture(f, law(Affine.identity(2)), streams(100))
    assert found is not None and bool(torch.isfinite(found[0].factor).all())


def kinked(seed: int) -> tuple[Density, First, First, First]:
    """Twenty Laplace laws, scales from .1 to 10, turned: the references at the mode, along the trail, matched."""
    f = laplace(20, random_affine(20, seed, spread=math.log(10.0)))
    trail = Trail(f)
    survey = Pilot(scan=1).run(trail, pilot_streams(f, seed, 64))
    passed = on_trail(f, survey, trail)
    found = matched(f, survey, trail, passed, streams(1000, 1))
    assert found is not None
    other, bound = found
    print(f"bound {bound:.2f}")
    assert -2.5 < bound < 0.5  # of 60 draws
    return f, at_modes(f, survey, streams(1000)), along_trail(f, survey, passed, streams(1000)), other


def seen(f: Density, one: First) -> tuple[float, float]:
    """Effective share of 4,000 draws, and the log evidence that they see."""
    x = one.reference.law.draw(streams(4000, 2))[0]
    ratio = InCoordinates(f, one.survey.affine)(x) - one.reference.law.log_prob(x)
    return float(forward_efficiency(ratio)), float(log_mean_exp(ratio) + one.survey.affine.log_det())


@pytest.mark.parametrize("seed", [0, *slow(1)])
def test_where_a_peak_has_a_kink_gradients_tell_the_scale(seed: int) -> None:
    f, *others, match = kinked(seed)
    (share, evidence), *before = (seen(f, one) for one in (match, *others))
    print(f"matched {share:.4f}, {evidence:.2f}; before {before}")
    assert share > 4.0 * max(own for own, _ in before) and abs(evidence) < 0.3


def test_laplace_laws_have_their_evidence() -> None:
    f = laplace(12, random_affine(12, 3, spread=math.log(10.0)))
    result = rdmc.sample(f, draws=250, seed=0, progressbar=False)
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    assert result.stages[1]["reference"] == "matched"
    assert abs(result.log_evidence) < max(0.1, 4.0 * result.log_evidence_mcse)
    assert not result.check()


def test_a_share_that_chance_made_is_looked_at_again() -> None:
    """In the neck of a turned funnel, at -110 of 0 nats, the best of nine shares is .34 by chance; of other draws it is .05."""
    target = targets.disguise(targets.funnel(), 13)
    f = as_density(target)
    trail = Trail(f)
    survey = Pilot().run(trail, pilot_streams(f, 1, 64))
    assert at_modes(f, survey, streams(1000)).seen(f, streams(1000, 1), 1000)[1] < -50.0
    found = first_reference(f, survey, trail, Streams.seeded(1, [1000], [(0, 0)]), streams(1000, 1))
    assert found.reference.name == "matched" and abs(found.seen(f, streams(1000, 2), 1000)[1]) < 3.0
