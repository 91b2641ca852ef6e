"""References to try are laws, whatever the survey and the trail look like, and the best of them is the one chosen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import targets
from rdmc.coordinates import InCoordinates
from rdmc.correct import Tempering
from rdmc.correct.candidates import best, best_tails, fitted, students
from rdmc.correct.first import along_trail, at_modes, on_trail, where_mass_is
from rdmc.correct.fit import fit_mixture
from rdmc.correct.judge import forward_efficiency, log_mean_exp
from rdmc.density import Density, as_density
from rdmc.locate.pilot import Pilot
from rdmc.locate.survey import Survey
from rdmc.locate.trail import Trail
from rdmc.mixture import GaussianMixture
from rdmc.sampler import pilot_streams
from rdmc.student import StudentMixture
from targets.base import Target
from tests.correct.cases import streams
from tests.laws.cases import F, generator
from tests.marks import slow


def surveyed(target: Target, seed: int) -> tuple[Density, Survey, Trail]:
    density = as_density(target)
    trail = Trail(density)
    return density, Pilot().run(trail, pilot_streams(density, seed, 64)), trail


def test_where_modes_are_gaussian_their_gaussians_are_enough() -> None:
    target = targets.disguise(targets.two_modes(8), 3)
    density, survey, _ = surveyed(target, 0)
    before = density.counter.densities
    _, reference, seen = at_modes(density, survey, streams(1000))
    assert density.counter.densities - before == 13 * 256
    x = reference.law.draw(streams(4000, 1))[0]
    ratio = density(survey.affine.to_user(x)) - reference.law.log_prob(x)
    share = float(forward_efficiency(ratio))
    # a share counts for less where another candidate saw more evidence, if only by chance
    assert share > 0.6 and 0.2 < seen.forward < share + 0.15


def test_cauchy_tails_are_for_laws_that_have_them() -> None:
    """In two dimensions, where they cost a Gaussian least, the run of a Gaussian takes the same numbers as if there were none."""
    core = GaussianMixture.isotropic(torch.zeros(1, 2, dtype=F), torch.ones(1, dtype=F), torch.ones(1, dtype=F))
    candidates = students(core, "modes")
    gaussian, heavy = Density(core.log_prob, 2), Density(StudentMixture(core, 1).log_prob, 2)
    rng, without = streams(1000), streams(1000)
    chosen, judgement = best_tails(gaussian, candidates, rng)
    assert (chosen, judgement) == best(gaussian, [one for one in candidates if one.tail > 1], without)
    assert torch.equal(rng.normal((1000, 2)), without.normal((1000, 2)))
    chosen, judgement = best_tails(heavy, candidates, rng)
    assert chosen.tail == 1 and judgement.forward > 0.9


@pytest.mark.parametrize(
    ("make", "disguised", "seed"),
    [
        (targets.banana, 0, 0),
        (lambda: targets.funnel(10), 1, 3),  # a point of the trail is 1e9 widths out
        *slow(
            (targets.eight_schools, 1, 0),
            (lambda: targets.funnel(10), 2, 0),
            (lambda: targets.student_mixture(5), 1, 1),
        ),
    ],
    ids=["banana", "funnel-far", "schools", "funnel", "student"],
)
def test_along_any_trail_there_is_a_law(make: Callable[[], Target], disguised: int, seed: int) -> None:
    density, survey, trail = surveyed(targets.disguise(make(), disguised), seed)
    survey, reference, _ = along_trail(density, survey, on_trail(density, survey, trail), streams(1000))
    x = reference.law.draw(streams(1000, 1))[0]
    value, grad = reference.law.value_and_grad(x)
    assert bool(torch.isfinite(x).all() and torch.isfinite(value).all() and torch.isfinite(grad).all())
    assert bool((reference.law.core.variance > 0.0).all())  # type: ignore[attr-defined]
    assert bool(torch.isfinite(density(survey.affine.to_user(x))).double().mean() > 0.1)


@pytest.mark.parametrize("seed", [0, *slow(1)])
def test_where_every_ascent_runs_down_a_neck_the_mass_is_found(seed: int) -> None:
    """Centred schools, where the density rises for ever at equal effects: along the trail alone 12 to 27 nats are missed."""
    target = targets.eight_schools(centred=True)
    density, survey, trail = surveyed(target, seed)
    survey, reference, _ = where_mass_is(density, survey, trail, streams(1000), streams(1000, 5))
    x = reference.law.draw(streams(4000, 1))[0]
    ratio = InCoordinates(density, survey.affine)(x) - reference.law.log_prob(x)
    seen = float(log_mean_exp(ratio) + survey.affine.log_det())
    print(f"{reference.name}: log evidence {seen:.2f}, truth {target.log_z:.2f}")
    assert target.log_z is not None and abs(seen - target.log_z) < 2.5
    assert reference.name == "matched"


def test_a_fit_to_where_particles_went_is_nearer_than_what_they_came_from() -> None:
    """A banana from the Gaussian at its mode, by draws that had no part in the choice."""
    target = targets.banana()
    density, survey, _ = surveyed(target, 0)
    f = InCoordinates(density, survey.affine)
    _, first, _ = at_modes(density, survey, streams(1000))
    trial = Tempering().learn(f, first, streams(1000, 1))
    reference, _ = fitted(f, survey, first, trial, streams(1000, 2))
    before, after = (
        float(forward_efficiency(f(x) - law.log_prob(x)))
        for law in (first.law, reference.law)
        for x in (law.draw(streams(4000, 3))[0],)
    )
    assert after > 1.5 * before


def test_a_fit_in_single_precision_survives_widths_whose_squares_overflow() -> None:
    """Widths 1 and 1e18: the sum of 600 squares of the second is beyond float32; the fit is that of double precision, rounded."""
    x = torch.randn(600, 2, generator=generator(0), dtype=F) * torch.tensor([1.0, 1e18], dtype=F)
    single, double = fit_mixture(x.float(), 3), fit_mixture(x.float().double(), 3)
    assert single.mean.dtype == torch.float32
    torch.testing.assert_close(single.mean.double(), double.mean, rtol=1e-6, atol=1e12)
    assert bool(torch.isfinite(single.mean).all())
