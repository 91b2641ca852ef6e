"""References to try after a trial, fitted to its population, and how the best of several is told."""

from __future__ import annotations

import torch
from torch import Tensor

from rdmc.coordinates import InCoordinates
from rdmc.correct.axes import FEWEST, fit_axes
from rdmc.correct.fit import fit_mixture, whitening
from rdmc.correct.judge import Judgement, forward_efficiency, log_mean_exp, reverse_efficiency
from rdmc.correct.pooled import pooled
from rdmc.correct.product import fit_product, independent_directions
from rdmc.correct.reference import Reference, covering
from rdmc.correct.regions import at_fisher_scale, at_moments
from rdmc.correct.temper import Population, Trial, log_ratio
from rdmc.locate.curvature import local_axes, precisions
from rdmc.locate.survey import Survey
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.student import StudentMixture
from rdmc.typing import BatchedDensity

__all__ = ["HESSIANS", "SUPPORT", "best", "best_tails", "factorising", "fitted", "students"]

_TESTS = 256  # draws on which a candidate's efficiency is measured before a population is spent on it
_COMPONENTS = 40  # of a fit
_WIDENINGS = (2.2, 1.4, 1.05)  # of every component's standard deviations: a reference should be the wider of the two
_TELLING = 0.01  # effective share from which a candidate's own estimate of the evidence is heard
_CLEARLY = 1.0  # nats of evidence that others lack, beyond what chance gives to a candidate of so small a share
_CAUCHY = 1  # degrees of freedom of the heaviest tails
_FITS = 0.5  # score from which a reference with such tails is taken
_LIGHT = 10  # degrees of freedom that a Gaussian tail counts as
_NEARLY = 0.8  # of the highest score, at which a heavier tail is taken
_AT_MODES = 10  # a product is fitted to one more draw of the modes' Gaussians for so many points, lest it lose a well
_SINGULAR = 1e8  # condition number beyond which directions are none
SUPPORT = 20  # points a dimension, fewer than which say too little of covariances
HESSIANS = 1500  # points times dimensions at which curvature is measured, at most


def fitted(
    target: BatchedDensity, survey: Survey, former: Reference, trial: Trial, rng: Streams
) -> tuple[Reference, Judgement]:
    """The best of several references fitted to a trial's population.

    A Dirichlet-process mixture, joined with the modes' Gaussians, with Gaussians at the density's own scale around some particles,
    and with one broad Gaussian, in several widths and tails; in more dimensions than the population can support a mixture in, the
    modes' Gaussians at the moments of their regions; and laws that factorise along common directions; the best of them
    alone or pooled with a former reference. Each is judged from both sides: by the population, which costs nothing, and by draws of
    its own.

    Cost: 4d gradient evaluations for each of up to 20 particles, and 256 density evaluations for each of up to 20 candidates.
    """
    population = trial.population
    d = survey.surrogate.dim
    affine = whitening(population.x)
    n = max(4, min(20, HESSIANS // (2 * d)))
    some = torch.linspace(0, len(population.x) - 1, n, device=population.x.device).long()
    z = affine.to_white(population.x[some])
    precision, width = precisions(InCoordinates(target, affine), z)
    axes, sd = local_axes(precision, width, widest=1.0)
    around = GaussianMixture(z.new_zeros(n), z, axes, sd.square())
    spread = covering(population.x, 2.0)
    if len(population.x) >= SUPPORT * d:
        back = affine.to_white(torch.zeros_like(affine.centre)), affine.factor
        fit = fit_mixture(population.x, _COMPONENTS)
        parts = [(0.65, fit), (0.20, around.affine(*back)), (0.10, survey.surrogate), (0.05, spread)]
        candidates = students(GaussianMixture.pooled(parts), "fit")
    else:
        moments = at_moments(survey.surrogate, population.x)
        parts = [(0.85, moments), (0.10, survey.surrogate.levelled(0.5)), (0.05, spread)]
        candidates = students(GaussianMixture.pooled(parts), "moments")
    directions = affine.factor @ independent_directions(precision)
    if bool(torch.isfinite(directions).all()) and float(torch.linalg.cond(directions)) < _SINGULAR:
        candidates = [*factorising(population, directions, survey.surrogate, rng), *candidates]
        candidates.sort(key=lambda candidate: candidate.tail)
    chosen, _ = best_tails(target, candidates, rng, trial)
    return best(target, [pooled(chosen, former), chosen], rng, trial)


def students(core: GaussianMixture, name: str) -> list[Reference]:
    """A mixture with each of several tails, from heavy ones to light ones, and widths."""
    tails = (_CAUCHY, 2, 5, _LIGHT + core.dim)  # in many dimensions heavy tails hold most of the draws
    return [Reference.student(core, df, widening, name) for df in tails for widening in _WIDENINGS]


def factorising(population: Population, directions: Tensor, modes: GaussianMixture, rng: Streams) -> list[Reference]:
    """References that factorise along common directions: a product over all modes, and mixtures of products over the modes.

    Their local moves have the scale that the population's gradients tell.

    Args:
        population: Particles of the target.
        directions: ``(d, d)`` columns along which to factorise.
        modes: Gaussians that tell which particles belong together.
        rng: Random numbers, of which draws of the modes are made.
    """
    points, grad = population.x, population.grad
    everywhere = modes.levelled(1.0).draw(rng)[0][: len(points) // _AT_MODES]
    # beside one law for all modes of a coordinate, a guide of one scale is enough
    one_scale = GaussianMixture.from_covariance(modes.mean[:1], modes.within()[None], points.new_ones(1))
    one_scale = at_fisher_scale(one_scale, points, grad)
    product = Reference(fit_product(torch.cat([points, everywhere]), directions), one_scale, "product")
    if len(torch.unique(points, dim=0)) < FEWEST:
        return [product]
    guide = StudentMixture(at_fisher_scale(modes, points, grad).widened(_WIDENINGS[-1]), 5)
    axes = [Reference(fit_axes(points, directions, modes, df), guide, "axes", df) for df in (_CAUCHY, 2, 5)]
    return [product, *axes]


def best_tails(
    target: BatchedDensity, candidates: list[Reference], rng: Streams, trial: Trial | None = None
) -> tuple[Reference, Judgement]:
    """The best candidate without Cauchy tails (:func:`best`), or one with them that scores higher, and half or more.

    Most draws with Cauchy tails are wasted on a law that has none; scores where little fits are mostly chance. These candidates are
    judged with the numbers that the others had, so that the run of such a law is the same as without them.
    """
    cauchy = [candidate for candidate in candidates if candidate.tail == _CAUCHY]
    aside = rng.copy()
    chosen, judgement = best(target, [candidate for candidate in candidates if candidate.tail > _CAUCHY], rng, trial)
    rivals = [chosen, *cauchy]
    judged = _judged(target, rivals, aside, trial)
    highest = max(range(len(rivals)), key=lambda i: judged[i].score)
    if highest == 0 or judged[highest].score < _FITS:
        return chosen, judgement
    return rivals[highest], judged[highest]


def best(
    target: BatchedDensity, candidates: list[Reference], rng: Streams, trial: Trial | None = None
) -> tuple[Reference, Judgement]:
    """The first candidate whose score is near the highest, with its judgement (jumps are not tried).

    Candidates stand in the order of their tails, heaviest first: what a light tail leaves out, neither its own draws nor a
    population that came from a light tail can show.
    """
    judged = _judged(target, candidates, rng, trial)
    enough = _NEARLY * max(judgement.score for judgement in judged)
    chosen = next(i for i, judgement in enumerate(judged) if judgement.score >= enough)
    return candidates[chosen], judged[chosen]


def _judged(target: BatchedDensity, candidates: list[Reference], rng: Streams, trial: Trial | None) -> list[Judgement]:
    """Candidates as draws of their own see them and, where there has been a trial, its population, at no evaluation.

    A candidate that sees less evidence than another misses mass, and its forward share counts for as much less.
    """
    log_weights = []
    for candidate in candidates:
        x = candidate.law.draw(rng)[0][:_TESTS]
        log_weights.append(log_ratio(x, target(x), candidate.law))
    seen = torch.stack([log_mean_exp(weight) for weight in log_weights])
    share = torch.stack([forward_efficiency(weight).nan_to_num() for weight in log_weights])
    if trial is None:  # the same components in other widths: none misses what another has
        return [Judgement(own, 1.0, 1.0) for own in share.tolist()]
    told = torch.where(share >= _TELLING, seen, torch.full_like(seen, -torch.inf))
    evidence = seen[share.argmax()].clamp(min=trial.log_evidence)
    evidence = torch.where(told.max() > evidence + _CLEARLY, told.max(), evidence)
    share = share * (seen - evidence).exp().clamp(max=1.0).nan_to_num()
    back = [trial.population.value - candidate.law.log_prob(trial.population.x) for candidate in candidates]
    reverse = torch.stack([reverse_efficiency(weight, evidence) for weight in back]).clamp(max=1.0)
    return [Judgement(own, other, 1.0) for own, other in zip(share.tolist(), reverse.tolist(), strict=True)]
