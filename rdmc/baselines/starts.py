"""Over-dispersed starting points: one rule for all baselines."""

from __future__ import annotations

import torch
from torch import Tensor

from rdmc.locate.survey import Survey
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams

__all__ = ["overdispersed"]

_WIDENING = 2.0


def overdispersed(survey: Survey, rng: Streams, lead: tuple[int, ...] = ()) -> Tensor:
    """``(*lead, B, d)`` points, each at a mode of the pilot chosen with equal chances, spread to twice the mode's width.

    Equal chances, because the pilot's weights are rough; twice the width, because chains that agree from there agree for a reason
    (Gelman and Rubin, 1992).

    Args:
        survey: What the pilot found; the points are in its coordinates.
        rng: Streams of B particles.
        lead: Leading axes.
    """
    narrow = survey.surrogate
    equal = torch.zeros_like(narrow.log_weight)
    wide = GaussianMixture(equal, narrow.mean, narrow.basis, narrow.variance * _WIDENING**2)
    return wide.draw(rng, lead)[0]
