"""The first reference: Gaussians at the modes, or where the mass is if that is elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import torch

from rdmc.coordinates import Affine, InCoordinates
from rdmc.correct.candidates import HESSIANS, best_tails, students
from rdmc.correct.hidden import hidden_mass, own_evidence
from rdmc.correct.judge import Judgement
from rdmc.correct.reference import Reference
from rdmc.density import Density
from rdmc.linear import spectrum
from rdmc.locate.curvature import local_axes, precisions
from rdmc.locate.matching import Matching
from rdmc.locate.survey import Survey
from rdmc.locate.trail import Trail
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams

__all__ = [
    "First",
    "along_trail",
    "at_hidden_mass",
    "at_modes",
    "first_reference",
    "matched",
    "on_trail",
    "where_mass_is",
]

_ENOUGH = 0.2  # forward share above which the modes' own Gaussians are tried, or those along the trail
_HEAVIER = (5, 1.4)  # degrees of freedom and widening of Gaussians at hidden mass
_MORE = 0.1  # nats of evidence that these must see beyond those at the modes
_SERVES = 0.1  # forward share that they must have, and modes of fresh draws
_MANY = 1000  # of these
_ON_TRAIL = 20  # components along the trail
_MATCHED = 8  # Gaussians at modes, and at first points, that are matched
_WIDTH = 1.0 / 3.0  # standard deviations of the latter, of their distance from the origin, or of 1 beyond it
_FIRST = 64  # first points of the trail
_CLEARLY = 1.0  # nats by which the bound must be above the evidence that others see
_CHANCE = 3.0  # nats that an unbiased estimate of the evidence hardly ever is too high by
_FAINT = 69.0  # nats below the heaviest component, as low as another's weight may be


class First(NamedTuple):
    """A first reference.

    Attributes:
        survey: The pilot's findings in the coordinates of the reference.
        reference: The reference.
        promise: What its draws say of it.
    """

    survey: Survey
    reference: Reference
    promise: Judgement

    def seen(self, density: Density, rng: Streams, draws: int = 256) -> tuple[float, float]:
        """Effective share of fresh draws, and the log evidence that they see in the user's coordinates."""
        share, evidence = own_evidence(InCoordinates(density, self.survey.affine), self.reference, rng, draws)
        return share, evidence + float(self.survey.affine.log_det())


def first_reference(density: Density, survey: Survey, trail: Trail, rng: Streams, fresh: Streams) -> First:
    """The modes' Gaussians; where these are poor, what is found :func:`where_mass_is`; where they are not, with hidden mass if any.

    Cost: that of :func:`at_modes`, up to 1000 density evaluations, and that of :func:`at_hidden_mass` or :func:`where_mass_is`.

    Args:
        density: The target, in the user's coordinates.
        survey: What the pilot found.
        trail: Where its ascents passed.
        rng: Random numbers.
        fresh: More, which have had no part in any choice.
    """
    modes = at_modes(density, survey, rng)
    # the best of 13 shares is often by chance
    if modes.promise.forward < _ENOUGH or modes.seen(density, fresh, _MANY)[0] < _SERVES:
        return where_mass_is(density, survey, trail, rng, fresh)
    return at_hidden_mass(density, modes, trail, rng)


def at_modes(density: Density, survey: Survey, rng: Streams) -> First:
    """The Gaussians at the modes with the best of several widths and tails.

    Cost: 256 density evaluations for each of 13.
    """
    return _proposed(density, survey, survey.surrogate.levelled(0.5), "modes", rng)


def at_hidden_mass(density: Density, modes: First, trail: Trail, rng: Streams) -> First:
    """The modes' Gaussians joined with those at mass that has no mode of its own; the former alone where these find none.

    Cost: that of :func:`rdmc.correct.hidden.hidden_mass`, and 512 density evaluations.
    """
    survey, reference, _ = modes
    target = InCoordinates(density, survey.affine)
    _, evidence = own_evidence(target, reference, rng)
    points, value = trail.trodden()
    hidden = hidden_mass(target, reference, evidence, survey.affine.to_white(points), value)
    if hidden is None:
        return modes
    core = GaussianMixture.pooled([(0.5, survey.surrogate.levelled(0.5)), (0.5, hidden.levelled(0.5))])
    other = Reference.student(core, *_HEAVIER, "modes and hidden")
    share, more = own_evidence(target, other, rng)
    if share < _SERVES or more < evidence + _MORE:
        return modes
    return First(survey, other, Judgement(share, 1.0, 1.0))


def where_mass_is(density: Density, survey: Survey, trail: Trail, rng: Streams, fresh: Streams) -> First:
    """Gaussians along the ascents' trail, or where these are poor, such as the density's gradients have led elsewhere.

    These are taken if more of their draws count, unless the trail's see evidence that they lack; and if their evidence lower bound
    is above what the trail's see, as where a density has no upper limit and every ascent may pass the mass by.

    Cost: that of :func:`on_trail`, :func:`along_trail` and :func:`matched`, and 512 density evaluations.
    """
    passed = on_trail(density, survey, trail)
    chosen = along_trail(density, survey, passed, rng)
    if chosen.promise.forward >= _ENOUGH:
        return chosen
    found = matched(density, survey, trail, passed, fresh)
    if found is None:
        return chosen
    other, bound = found
    (share, evidence), (own, seen) = chosen.seen(density, fresh), other.seen(density, fresh)
    return other if bound > evidence + _CLEARLY or (own > share and seen > evidence - _CHANCE) else chosen


def along_trail(density: Density, survey: Survey, passed: GaussianMixture, rng: Streams) -> First:
    """The modes' Gaussians joined with the heaviest twenty at points that the ascents passed (:func:`on_trail`).

    The coordinates become those in which the mass of these has unit covariance.

    Cost: 256 density evaluations for each of 13 widths and tails.
    """
    return _joined(density, survey, survey.affine, _heaviest(passed, _ON_TRAIL), 0.5, "modes and trail", rng)


def on_trail(density: Density, survey: Survey, trail: Trail) -> GaussianMixture:
    r"""Gaussians of the density's own scale around points that the ascents passed, in the coordinates of the survey.

    A point x with local covariance Sigma stands for a mass of about :math:`\pi(x) |2 \pi \Sigma|^{1/2}`: the peak of a funnel has a
    high density and next to no mass.

    Cost: 4d gradient evaluations for each of up to 64 points.
    """
    points, value = trail.thinned(max(8, min(64, HESSIANS // survey.surrogate.dim)))
    target, z = InCoordinates(density, survey.affine), survey.affine.to_white(points)
    axes, sd = local_axes(*precisions(target, z), widest=float(z.abs().max()) + 1.0)
    mass = value + sd.log().sum(-1)
    return GaussianMixture(mass.clamp(min=float(mass.max()) - _FAINT), z, axes, sd.square())


def matched(
    density: Density, survey: Survey, trail: Trail, passed: GaussianMixture, rng: Streams
) -> tuple[First, float] | None:
    """The modes' Gaussians joined with such as have the density's gradients (:class:`rdmc.locate.Matching`), and the best bound.

    These start from the heaviest eight at modes, from all on the trail, and from its first points. None where none of them has any.

    Cost: ``10 max(32, 3d)`` gradient evaluations for each, and 256 density evaluations for each of 13 widths and tails.
    """
    points, value = trail.first(_FIRST)
    highest = points[value.nan_to_num(-torch.inf).argsort(descending=True, stable=True)[:_MATCHED]]
    wide = _WIDTH * highest.norm(dim=-1).clamp(max=1.0)
    known = GaussianMixture.pooled([(0.5, _heaviest(survey.surrogate, _MATCHED)), (0.5, passed)])
    back = survey.affine.to_white(torch.zeros_like(survey.affine.centre)), survey.affine.factor
    start = [(0.5, known.affine(*back)), (0.5, GaussianMixture.isotropic(highest, wide, torch.ones_like(wide)))]
    found = Matching().mixture(density, GaussianMixture.pooled(start), rng)
    if found is None:
        return None
    user = Affine.identity(density.dim, dtype=points.dtype, device=points.device)
    return _joined(density, survey, user, found[0], 0.9, "matched", rng), float(found[1].max())


def _joined(
    density: Density, survey: Survey, where: Affine, others: GaussianMixture, share: float, name: str, rng: Streams
) -> First:
    """The modes' Gaussians joined with a ``share`` of others, in coordinates in which the mass of these has unit covariance.

    Args:
        density: The target.
        survey: What is known of its modes.
        where: The coordinates of the others.
        others: Gaussians.
        share: Their weight.
        name: Of the reference.
        rng: Random numbers.
    """
    mass = _mass_coordinates(others)
    survey = survey.seen_in(where.after(mass))
    others = others.affine(mass.centre, torch.linalg.inv(mass.factor))
    core = GaussianMixture.pooled([(1.0 - share, survey.surrogate.levelled(0.5)), (share, others.levelled(0.5))])
    return _proposed(density, survey, core, name, rng)


def _proposed(density: Density, survey: Survey, core: GaussianMixture, name: str, rng: Streams) -> First:
    """A mixture with the best of several widths and tails."""
    return First(survey, *best_tails(InCoordinates(density, survey.affine), students(core, name), rng))


def _heaviest(mixture: GaussianMixture, count: int) -> GaussianMixture:
    """Its heaviest components, at most so many."""
    kept = mixture.log_weight.argsort(descending=True, stable=True)[:count]
    return GaussianMixture(mixture.log_weight[kept], mixture.mean[kept], mixture.basis[kept], mixture.variance[kept])


def _mass_coordinates(mixture: GaussianMixture) -> Affine:
    """Coordinates in which a mixture has mean 0 and unit covariance, however unequal its components."""
    centre, covariance = mixture.moments()
    scale = torch.diagonal(covariance).sqrt()
    values, axes = spectrum(covariance / scale[:, None] / scale[None, :])
    return Affine(centre, scale[:, None] * axes * values.clamp(min=1e-14).sqrt())
