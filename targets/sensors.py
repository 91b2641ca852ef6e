"""Where are four sensors, given some of the distances between them? A posterior in detached and curved pieces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.base import Target

__all__ = ["DISTANCES", "KNOWN", "TRUE_PLACES", "SensorNetwork", "sensor_network"]

TRUE_PLACES = ((0.5748, 0.9069), (0.0991, 0.3651), (0.2578, 0.1350), (0.8546, 0.0392))
"""Where the four sensors stood when the distances were simulated."""

KNOWN = ((0.5, 0.3), (0.3, 0.7))
"""Places of the fifth and sixth sensor."""

DISTANCES = {
    (0, 4): 0.6103,
    (2, 4): 0.2995,
    (0, 5): 0.3631,
    (2, 5): 0.5656,
    (0, 3): 0.9266,
    (1, 2): 0.2970,
    (1, 3): 0.8524,
}
"""Measured distance of each pair that saw each other, sensors counted from 0.

Source: Tak, Meng, van Dyk (2018), A repelling-attracting Metropolis algorithm for multimodality, Journal of Computational
and Graphical Statistics 27, section 4.3; the model is that of Ihler et al. (2005) and Ahn, Chen, Welling (2013).
"""

_REACH, _ERROR, _PRIOR_SD = 0.3, 0.02, 10.0
_LOG_Z = -37.92573
_SIDES = (0.26581, 0.23280, 0.23724, 0.26415)
_LOG_2PI = math.log(2.0 * math.pi)
_PAIRS = tuple((i, j) for i in range(4) for j in range(i + 1, 6))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SensorNetwork(Target):
    r"""Posterior of the places of four sensors in the plane.

    .. math:: P(w_{ij} = 1) = e^{-d_{ij}^2 / 2R^2}, \quad y_{ij} | w_{ij} = 1 \sim N(d_{ij}, s^2), \quad
              d_{ij} = |p_i - p_j|, \quad p_i \sim N(0, 10^2 I), \quad R = 0.3, s = 0.02

    A pair that did not see each other is probably not close. Coordinates: the places of sensors 1 to 4. All constants are
    included. The modes are the sides of the line through the known sensors on which sensors 1 and 3 lie, four in all.

    Attributes:
        known: ``(2, 2)`` places of sensors 5 and 6.
        incidence: ``(14, 6)`` difference of each pair's places: 1 and -1.
        seen: ``(14,)`` 1 if the pair saw each other, else 0.
        distances: ``(14,)`` measured, 0 where there was none.
    """

    known: Tensor
    incidence: Tensor
    seen: Tensor
    distances: Tensor

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Name of each coordinate."""
        return tuple(f"{axis}[{i}]" for i in range(1, 5) for axis in "xy")

    def log_density(self, x: Tensor) -> Tensor:
        """Log likelihood plus log prior: ``(M, 8) -> (M,)``."""
        return self.value_and_grad(x)[0]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient; ``-inf`` and no number where two sensors that did not see each other coincide."""
        places = torch.cat([x.reshape(-1, 4, 2), self.known.expand(x.shape[0], 2, 2)], dim=1)
        apart = self.incidence @ places
        square = apart.square().sum(2)
        distance = square.sqrt()
        scaled = square / (2.0 * _REACH**2)
        error = (self.distances - distance) / _ERROR
        of_seen = -scaled - 0.5 * error.square() - math.log(_ERROR) - 0.5 * _LOG_2PI
        # 1 - seen chooses by multiplication, so a pair that was seen must not give log 0 here
        of_unseen = torch.log(-torch.expm1(-scaled - 50.0 * self.seen))
        prior = -0.5 * (x / _PRIOR_SD).square().sum(1) - 8.0 * (math.log(_PRIOR_SD) + 0.5 * _LOG_2PI)
        value = (self.seen * of_seen + (1.0 - self.seen) * of_unseen).sum(1) + prior
        # derivative with respect to the square of the distance, times two
        by_seen = error / (_ERROR * distance) - 1.0 / _REACH**2
        by_unseen = 1.0 / (_REACH**2 * torch.expm1(scaled))
        pull = torch.where(self.seen > 0.5, by_seen, by_unseen)[:, :, None] * apart
        grad = (self.incidence[:, :4].T @ pull).reshape(-1, 8)
        return value, grad - x / _PRIOR_SD**2

    def mode_of(self, x: Tensor) -> Tensor:
        """Sides of sensors 1 and 3, ``(M, 8) -> (M,)``: 2 if sensor 1 is below the line, plus 1 if sensor 3 is above it."""
        along = self.known[1] - self.known[0]

        def above(place: Tensor) -> Tensor:
            away = place - self.known[0]
            return (away[:, 1] * along[0] - away[:, 0] * along[1] < 0.0).to(torch.int64)

        return 2 * (1 - above(x[:, 0:2])) + above(x[:, 4:6])


def sensor_network() -> SensorNetwork:
    """Posterior of four sensors' places from seven distances, two of the six places being known.

    Sensors 1 and 3 were seen by both known ones: each has two places, mirror images of each other. Sensors 2 and 4 hang on
    them by one or two distances only and go round in arcs.

    Ground truth: by importance sampling in the distances (thirty million draws of the seven distances, of one angle and of the
    sides; the Jacobian is that of the intersection of two circles; effective share .60). The standard error of ``log_z`` is
    .00016, those of the mode weights are below .0002.

    Source: see :data:`DISTANCES`.
    """
    incidence = torch.zeros(len(_PAIRS), 6, dtype=torch.float64)
    for row, (i, j) in enumerate(_PAIRS):
        incidence[row, i], incidence[row, j] = 1.0, -1.0
    return SensorNetwork(
        name="sensor_network",
        dim=8,
        source="Tak, Meng, van Dyk (2018), JCGS 27, section 4.3",
        log_z=_LOG_Z,
        mode_weights=torch.tensor(_SIDES, dtype=torch.float64) / sum(_SIDES),
        known=torch.tensor(KNOWN, dtype=torch.float64),
        incidence=incidence,
        seen=torch.tensor([float(pair in DISTANCES) for pair in _PAIRS], dtype=torch.float64),
        distances=torch.tensor([DISTANCES.get(pair, 0.0) for pair in _PAIRS], dtype=torch.float64),
    )
