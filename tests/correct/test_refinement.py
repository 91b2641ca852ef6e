"""Rounds of trial and fit: what a reference is found to lack by later populations, and what is done about it."""

from __future__ import annotations

import math

import pytest

import rdmc
import targets
from rdmc.correct import refine
from rdmc.correct.pooled import pooled
from rdmc.correct.refine import Refined, _judged_by_all, _Tried
from rdmc.correct.temper import Tempering
from rdmc.density import as_density
from rdmc.journal import Journal
from tests.correct.cases import as_target, gaussian_law, pair, reference, streams
from tests.marks import slow
from tests.stats import assert_within

# the sum over the patterns of near-zero and free coefficients, by importance sampling of each (examples/README.md)
RIDGES_LOG_Z, RIDGES_ERROR = -99.849, 0.003


def test_a_reference_that_misses_a_mode_is_found_out_by_another_population() -> None:
    """Its own draws and its own population hardly leave the mode it has; the other reference has both."""
    mixture = pair()
    target = as_target(mixture)
    covariance = mixture.basis[1] * mixture.variance[1] @ mixture.basis[1].T
    blind = reference(gaussian_law(mixture.mean[1], 1.2 * covariance))
    seeing = reference(mixture.widened(1.2))
    tried = [_Tried(one, Tempering().learn(target, one, streams(1000, i))) for i, one in enumerate((blind, seeing))]
    alone = [one.trial.judgement.score for one in tried]
    together = [one.trial.judgement.score for one in _judged_by_all(tried[:1], tried[1])]
    assert alone[0] > 0.4, f"the blind one should like itself: {alone}"
    assert together[0] < 1e-3 and together[1] > 0.4, f"found {together}"


def test_a_pool_is_never_worse_than_half_of_either() -> None:
    """The chi-square divergence of a pool is bounded by twice either's: E_pi[pi/g] <= 2 min_i E_pi[pi/g_i]."""
    mixture = pair()
    parts = [
        reference(gaussian_law(mixture.mean[k], 1.5 * mixture.basis[k] * mixture.variance[k] @ mixture.basis[k].T))
        for k in (0, 1)
    ]
    x = mixture.draw(streams(4000))[0]
    both = (mixture.log_prob(x) - pooled(*parts).law.log_prob(x)).exp()
    for part in parts:
        ratio = both / (mixture.log_prob(x) - part.law.log_prob(x)).exp()
        assert float(ratio.max()) <= 2.0 + 1e-9
    assert float(both.mean()) < 5.0  # neither alone has a finite variance: each lacks a mode


def refined() -> Refined:
    """Of two Gaussians in the plane, with the modes' own Gaussians as the reference."""
    density = as_density(targets.two_modes(2))
    found: Refined = rdmc.Auto().prepare(density, 0, Journal(density.counter)).detail.refined
    assert found.reference.name == "modes" and found.trial.judgement.score > 0.4
    return found


def test_populations_make_all_local_moves_where_the_reference_leaves_places_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many jumps are accepted on average; what the reference leaves out jumps never."""
    assert {rung.local for rung in refined().trial.ladder.rungs} == {1}
    monkeypatch.setattr(refine, "_COVERED", 1.1)
    assert {rung.local for rung in refined().trial.ladder.rungs} == {Tempering().local}


@pytest.mark.parametrize(("hopeful", "particles"), [(0.02, 1000), (1.1, 400)])
def test_a_reference_that_promises_little_is_tried_with_few_particles(
    monkeypatch: pytest.MonkeyPatch, hopeful: float, particles: int
) -> None:
    monkeypatch.setattr(refine, "_HOPEFUL", hopeful)
    assert len(refined().trial.population.x) == particles


@pytest.mark.parametrize("seed", [0, *slow(2)])
def test_thin_ridges_beside_a_broad_mode_are_found(seed: int) -> None:
    """A third of the modes' Gaussians' weight lies on ridges that they don't cover, and that their own population hardly enters."""
    result = rdmc.sample(targets.spike_and_slab(slab=5.0), draws=250, seed=seed, progressbar=False)
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    error = math.hypot(result.log_evidence_mcse, RIDGES_ERROR)
    assert_within(result.log_evidence, RIDGES_LOG_Z, error, label="log evidence", k=4.0)
    assert error < 0.1
