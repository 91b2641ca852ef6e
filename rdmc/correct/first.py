"""The first reference: Gaussians at the modes, or where the mass is if that is elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import torch

from rdmc.coordinates import Affine, InCoordinates
from rdmc.correct.candidates import HESSIANS, best, students
from rdmc.correct.hidden import hidden_mass, own_evidence
from rdmc.correct.judge import Judgement
from rdmc.correct.reference import Reference
from rdmc.curvature import local_axes, precisions
from rdmc.density import Density
from rdmc.linear import spectrum
from rdmc.matching import Matching
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.survey import Survey
from rdmc.trail import Trail
from rdmc.variational import MeanField

__all__ = [
    "First",
    "along_trail",
    "at_hidden_mass",
    "at_modes",
    "first_reference",
    "matched",
    "on_trail",
    "under_bound",
    "where_mass_is",
]

_ENOUGH = 0.2  # forward share above which the modes' own Gaussians are tried
_HEAVIER = (5, 1.4)  # degrees of freedom and widening of Gaussians at hidden mass
_MORE = 0.1  # nats of evidence that these must see beyond those at the modes
_SERVES = 0.1  # forward share that they must have
_ON_TRAIL = 20  # components along the trail
_MATCHED = 8  # Gaussians at modes, and on the trail, that are matched
_FIRST = 64  # points of the trail from which Gaussians may climb
_HOPEFUL = 0.1  # forward share from which the evidence lower bound isn't asked
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

    def seen(self, density: Density, rng: Streams) -> tuple[float, float]:
        """Effective share of fresh draws, and the log evidence that they see in the user's coordinates."""
        share, evidence = own_evidence(InCoordinates(density, self.survey.affine), self.reference, rng)
        return share, evidence + float(self.survey.affine.log_det())


def first_reference(density: Density, survey: Survey, trail: Trail, rng: Streams, fresh: Streams) -> First:
    """The modes' Gaussians; where these are poor, what is found :func:`where_mass_is`; where they are not, with hidden mass if any.

    Cost: that of :func:`at_modes`, and of :func:`at_hidden_mass` or :func:`where_mass_is`.

    Args:
        density: The target, in the user's coordinates.
        survey: What the pilot found.
        trail: Where its ascents passed.
        rng: Random numbers.
        fresh: More, which have had no part in any choice.
    """
    modes = at_modes(density, survey, rng)
    if modes.promise.forward < _ENOUGH:
        return where_mass_is(density, survey, trail, rng, fresh)
    return at_hidden_mass(density, modes, trail, rng)


def at_modes(density: Density, survey: Survey, rng: Streams) -> First:
    """The Gaussians at the modes with the best of several widths and tails.

    Cost: 256 density evaluations for each of nine.
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
    """Gaussians along the ascents' trail, or matched to the density's gradients, or under the evidence lower bound.

    Matched Gaussians are taken if more of their draws count, unless those along the trail see evidence that they lack. The bound
    is asked where the trail promises little: where a density has no upper limit, every ascent may pass the mass by.

    Cost: that of :func:`along_trail` and :func:`matched`, 512 density evaluations, and where little is promised that of
    :func:`under_bound`.
    """
    passed = on_trail(density, survey, trail)
    chosen, other = along_trail(density, survey, passed, rng), matched(density, survey, passed, fresh)
    hopeful = chosen.promise.forward >= _HOPEFUL
    if other is not None:
        (share, evidence), (own, seen) = chosen.seen(density, fresh), other.seen(density, fresh)
        chosen = other if own > share and seen > evidence - _CHANCE else chosen
    # what has been matched to gradients in a neck fits there, too
    return chosen if hopeful else under_bound(density, survey, trail, chosen, rng)


def along_trail(density: Density, survey: Survey, passed: GaussianMixture, rng: Streams) -> First:
    """The modes' Gaussians joined with those at points that the ascents passed (:func:`on_trail`).

    The coordinates become those in which the mass of these has unit covariance.

    Cost: 256 density evaluations for each of nine widths and tails.
    """
    return _joined(density, survey, survey.affine, passed, 0.5, "modes and trail", rng)


def on_trail(density: Density, survey: Survey, trail: Trail) -> GaussianMixture:
    r"""Gaussians of the density's own scale around points that the ascents passed, in the coordinates of the survey.

    A point x with local covariance Sigma stands for a mass of about :math:`\pi(x) |2 \pi \Sigma|^{1/2}`: the peak of a funnel has a
    high density and next to no mass.

    Cost: 4d gradient evaluations for each of up to 64 points.
    """
    d = survey.surrogate.dim
    points, value = trail.thinned(max(8, min(64, HESSIANS // d)))
    target, z = InCoordinates(density, survey.affine), survey.affine.to_white(points)
    axes, sd = local_axes(*precisions(target, z), widest=float(z.abs().max()) + 1.0)
    mass = value + sd.log().sum(-1)
    heavy = mass.argsort(descending=True)[:_ON_TRAIL]
    return GaussianMixture(mass[heavy].clamp(min=float(mass.max()) - _FAINT), z[heavy], axes[heavy], sd[heavy].square())


def matched(density: Density, survey: Survey, passed: GaussianMixture, rng: Streams) -> First | None:
    """The modes' Gaussians joined with such as have the density's gradients (:class:`rdmc.matching.Matching`).

    These start from the heaviest eight at modes and the heaviest eight on the trail. None where none of them has a gradient.

    Cost: ``8 max(128, 4d)`` gradient evaluations for each, and 256 density evaluations for each of nine widths and tails.
    """
    start = GaussianMixture.pooled([(0.5, _heaviest(survey.surrogate)), (0.5, _heaviest(passed))])
    moved = Matching().mixture(InCoordinates(density, survey.affine), start, rng)
    return None if moved is None else _joined(density, survey, survey.affine, moved, 0.9, "matched", rng)


def under_bound(density: Density, survey: Survey, trail: Trail, other: First, rng: Streams) -> First:
    """Gaussians that climbed the evidence lower bound (:class:`rdmc.variational.MeanField`), if it is above what another sees.

    They are of independent coordinates. Joined with them are those that they become when matched to the gradients.

    Cost: 25,600 gradient evaluations and 256 density evaluations; where the bound is above, by more than chance, also
    ``8 max(128, 4d)`` gradient evaluations for each of up to 16, and 2304 density evaluations.
    """
    found = MeanField().mixture(density, *trail.first(_FIRST), rng)
    if found is None:
        return other
    fields, bound = found
    if not float(bound.max()) > other.seen(density, rng)[1] + _CLEARLY:
        return other
    user = Affine.identity(density.dim, dtype=bound.dtype, device=bound.device)
    moved = Matching().mixture(density, fields, rng)
    others = fields if moved is None else GaussianMixture.pooled([(0.5, fields), (0.5, moved)])
    return _joined(density, survey, user, others, 0.9, "modes and bound", rng)


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
    survey = survey.seen_in(Affine(where.to_user(mass.centre), where.factor @ mass.factor))
    others = others.affine(mass.centre, torch.linalg.inv(mass.factor))
    core = GaussianMixture.pooled([(1.0 - share, survey.surrogate.levelled(0.5)), (share, others.levelled(0.5))])
    return _proposed(density, survey, core, name, rng)


def _proposed(density: Density, survey: Survey, core: GaussianMixture, name: str, rng: Streams) -> First:
    """A mixture with the best of several widths and tails."""
    return First(survey, *best(InCoordinates(density, survey.affine), students(core, name), rng))


def _heaviest(mixture: GaussianMixture) -> GaussianMixture:
    """Its heaviest eight components."""
    kept = mixture.log_weight.argsort(descending=True, stable=True)[:_MATCHED]
    return GaussianMixture(mixture.log_weight[kept], mixture.mean[kept], mixture.basis[kept], mixture.variance[kept])


def _mass_coordinates(mixture: GaussianMixture) -> Affine:
    """Coordinates in which a mixture has mean 0 and unit covariance, however unequal its components."""
    centre, covariance = mixture.moments()
    scale = torch.diagonal(covariance).sqrt()
    values, axes = spectrum(covariance / scale[:, None] / scale[None, :])
    return Affine(centre, scale[:, None] * axes * values.clamp(min=1e-14).sqrt())
