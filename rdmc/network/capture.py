"""Which mode the draws of a network are in, level by level, as :meth:`rdmc.Result.capture` tells it of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdmc.capture import Modes, places
from rdmc.diagnostics.capture import Capture, capture
from rdmc.locate.survey import Survey
from rdmc.network.denoiser import FittedDenoiser
from rdmc.network.guide import Guiding
from rdmc.network.walking import estimated, walk
from rdmc.steps import Exponential, Step
from rdmc.table import Table

__all__ = ["captured"]


@dataclass(frozen=True, eq=False)
class _Recorded:
    """What the diagnostics read of a run."""

    inner: Mapping[str, NDArray[Any]]
    places: Table
    draws: int
    chains: int = 1
    sampler: str = "ScoreNetwork"


def captured(
    network: FittedDenoiser, survey: Survey, n: int, seed: int, steps: int, step: Step, guide: Guiding | None
) -> Capture:
    """The modes of n particles at every level of the grid, and at the end those of the draws.

    A network gives means of x_0 given x_t and no draws, so a draw is made: the reverse equation from x_t on the rest of the grid,
    with noise of its own that no other level sees.

    Cost: ``steps (steps + 1) / 2`` evaluations of the network a particle beside those of its way.
    """
    at, start = network.begin(guide)
    denoise, times, rng = estimated(at), network.times(steps), network.streams(n, seed, 1)
    own, rest = network.streams(n, seed, 4), Exponential()
    modes, labels = Modes.of(survey.seen_in(network.affine)), []
    z = start.draw(rng)
    for k, (_, reached) in enumerate(walk(network.process, denoise, step, times, z, rng)):
        z = drawn = reached
        for _, further in walk(network.process, denoise, rest, times[k:], z, own):
            drawn = further
        labels.append(modes.label(drawn))
    sigma = np.array(times)
    inner = {"sigma": sigma, "log_snr": -2.0 * np.log(sigma), **modes.columns(labels, labels[-1])}
    known = places(survey.seen_in(network.affine))
    return capture(_Recorded({name: values[None] for name, values in inner.items()}, known, n))
