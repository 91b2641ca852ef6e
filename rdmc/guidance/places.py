"""Coordinates, schedule and mixtures that serve two densities at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor

from rdmc.capture import Modes
from rdmc.coordinates import Affine
from rdmc.density import Density
from rdmc.locate.survey import Survey
from rdmc.mixture import GaussianMixture
from rdmc.process import ForwardProcess

__all__ = ["Halves", "Setting", "between", "combined", "common", "guide", "start_law"]


@dataclass(frozen=True, eq=False)
class Setting:
    """The plan's detail.

    Attributes:
        affine: The coordinates of the process.
        process: Forward process.
        times: Its grid.
        prior: The second density, to be counted where the first is.
        prior_survey: What the pilot found of it, in the process's coordinates.
        guide: What guides both inner samplers: a survey of the modes of both, whose surrogate can only be conditioned.
        start: A Gaussian from whose moments x_T is drawn.
        modes: The posterior's modes, to tell level by level where particles are.
    """

    affine: Affine
    process: ForwardProcess
    times: tuple[float, ...]
    prior: Density
    prior_survey: Survey | None
    guide: Survey | None
    start: GaussianMixture | None
    modes: Modes | None = None


@dataclass(frozen=True, eq=False)
class Halves:
    """Two mixtures that keep half of the weight each, also at an x_t that one of them would hardly give.

    An independence proposal from it has at least half of the density of either, so it serves both densities.
    """

    posterior: GaussianMixture
    prior: GaussianMixture

    def condition(self, x_t: Tensor, alpha: float, sigma: float) -> GaussianMixture:
        """The law of x_0 given ``(B, d)`` x_t: half of each mixture's own (:meth:`rdmc.mixture.GaussianMixture.condition`)."""
        parts = [part.condition(x_t, alpha, sigma) for part in (self.posterior, self.prior)]
        return GaussianMixture(
            torch.cat([part.log_weight for part in parts], -1),
            torch.cat([part.mean for part in parts], -2),
            torch.cat([part.basis for part in parts]),
            torch.cat([part.variance for part in parts]),
        )


class _Moments(NamedTuple):
    mean: Tensor
    root: Tensor


def combined(g: float, posterior: Tensor, prior: Tensor) -> Tensor:
    """(1 + g) times the first less g times the second."""
    return posterior + g * (posterior - prior)


def between(posterior: Survey, prior: Survey) -> Affine:
    """Coordinates in which the modes of neither density are much narrower than 1.

    The average precision of the modes, half of it from each density, is the identity there; where both are the same density
    these are its own whitened coordinates.
    """
    own = posterior.surrogate.within()
    other = prior.seen_in(posterior.affine).surrogate.within()
    precision = 0.5 * (torch.linalg.inv(own) + torch.linalg.inv(other))
    inner = Affine.from_covariance(torch.zeros_like(posterior.affine.centre), torch.linalg.inv(precision))
    return posterior.affine.after(inner)


def common(posterior: Survey, prior: Survey) -> Survey:
    """Both findings, seen in the same coordinates, as one survey."""
    surrogate = GaussianMixture.pooled([(0.5, posterior.surrogate), (0.5, prior.surrogate)])
    peak, hits = torch.cat([posterior.peak, prior.peak]), torch.cat([posterior.hits, prior.hits])
    return Survey(posterior.affine, surrogate, peak, hits, max(posterior.unseen, prior.unseen))


def guide(posterior: Survey, prior: Survey) -> Survey:
    """The survey that both inner samplers see, so that common numbers give them common proposals."""
    halves = Halves(posterior.surrogate, prior.surrogate)
    return replace(common(posterior, prior), surrogate=cast(GaussianMixture, halves))


def _moments(survey: Survey) -> _Moments:
    mean, covariance = survey.surrogate.moments()
    values, vectors = torch.linalg.eigh(covariance)
    return _Moments(mean, (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T)


def start_law(g: float, posterior: Survey, prior: Survey) -> GaussianMixture:
    """A Gaussian whose mean and root covariance are the combinations of both mixtures' own, as scores are."""
    own, other = _moments(posterior), _moments(prior)
    root = combined(g, own.root, other.root)
    mean = combined(g, own.mean, other.mean)
    return GaussianMixture.from_covariance(mean[None], (root @ root.T)[None], torch.ones_like(mean[:1]))
